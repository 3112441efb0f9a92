"""Operators that move, repeat, interpolate or leave out values."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Literal, Self

from cnnc.frozen import dataclass
from cnnc.ops.base import Op, OpError, Shape, format_shape, spatial_rank
from cnnc.ops.bounds import require_at_least, require_groups
from cnnc.ops.signature import Dims, OptionalDims, OptionalInt, Padding
from cnnc.ops.window import require_padding


class Flatten(Op):
    """All values in one axis, the last axis running fastest: height, width, channels."""

    names = ("flatten",)

    def infer(self, *inputs: Shape) -> Shape:
        return (prod(inputs[0]),)


@dataclass(frozen=True)
class Reshape(Op):
    """The same values in the same order under another shape, channels included and the batch not."""

    names = ("reshape",)
    shape: Dims

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 1, "shape")

    def resolve(self, *inputs: Shape) -> Self:
        """This operator: its shape is the output's, whatever the rank of the input."""
        return self

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        if prod(shape) != prod(self.shape):
            raise OpError(
                f"{format_shape(shape)} holds {prod(shape)} values, but {format_shape(self.shape)} {prod(self.shape)}",
                attribute="shape",
            )
        return self.shape


class Squeeze(Op):
    """The same values without the spatial axes of size 1."""

    names = ("squeeze",)

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        return (*(size for size in shape[:-1] if size > 1), shape[-1])


class Transpose(Op):
    """The last two axes in each other's place: positions become channels, and channels positions."""

    names = ("transpose",)

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        if len(shape) < 2:
            raise OpError(f"`transpose` turns two axes, but its input {format_shape(shape)} has one")
        return (*shape[:-2], shape[-1], shape[-2])


@dataclass(frozen=True)
class Pad(Op):
    """The input with `amount` of `value` around its spatial axes."""

    names = ("pad",)
    amount: Padding
    value: float = 0.0

    def validate(self) -> None:
        super().validate()
        _explicit(self, self.amount)

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        pairs = zip(shape[:-1], _explicit(self, self.amount), strict=True)
        return (*(size + before + after for size, (before, after) in pairs), shape[-1])


@dataclass(frozen=True)
class Crop(Op):
    """The input without `amount` at the ends of its spatial axes."""

    names = ("crop",)
    amount: Padding

    def validate(self) -> None:
        super().validate()
        _explicit(self, self.amount)

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        pairs = zip(shape[:-1], _explicit(self, self.amount), strict=True)
        sizes = tuple(size - before - after for size, (before, after) in pairs)
        if min(sizes) < 1:
            raise OpError(f"nothing of {format_shape(shape)} is left after the crop", attribute="amount")
        return (*sizes, shape[-1])


@dataclass(frozen=True)
class Resize(Op):
    """The input at another `size`, or at its own times a whole `scale`, with half-pixel centres as in TensorFlow 2.

    Output value i of m along an axis of n lies at s = (i + 1/2) * n / m - 1/2 of the input. `nearest` takes the value
    at floor((2 i + 1) * n / (2 m)); `bilinear` interpolates between floor(s) and floor(s) + 1, both clamped to the
    axis, along every axis (so linear in 1-D, trilinear in 3-D) and without antialiasing.
    """

    names = ("resize",)
    size: OptionalDims = None
    scale: OptionalDims = None
    method: Literal["nearest", "bilinear"] = "nearest"

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 1, "size", "scale")
        if (self.size is None) == (self.scale is None):
            found = "neither" if self.size is None else "both"
            raise OpError(
                f"`resize` takes either `size` or `scale`, but has {found}",
                code="value",
                attribute=None if self.size is None else "scale",
                help="scale=2 doubles every spatial axis" if self.size is None else None,
            )

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        if self.size is not None:
            return (*self.size, shape[-1])
        assert self.scale is not None, self
        return (*(size * scale for size, scale in zip(shape[:-1], self.scale, strict=True)), shape[-1])


@dataclass(frozen=True)
class SpaceToDepth(Op):
    """Every cell of `block` values a spatial axis becomes channels, in TensorFlow's order: row, column, channel."""

    names = ("space_to_depth",)
    block: int = 2

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 1, "block")

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        rank = spatial_rank(self, shape)
        if any(size % self.block for size in shape[:-1]):
            raise OpError(f"{format_shape(shape)} does not split into blocks of {self.block}", attribute="block")
        return (*(size // self.block for size in shape[:-1]), shape[-1] * self.block**rank)


@dataclass(frozen=True)
class Slice(Op):
    """The channels from `start` up to, not including, `stop`, which is their end unless given."""

    names = ("slice",)
    start: int = 0
    stop: OptionalInt = None

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 0, "start")
        require_at_least(self, 1, "stop")

    def resolve(self, *inputs: Shape) -> Self:
        """This operator with its end written out."""
        return self if self.stop is not None else replace(self, stop=inputs[0][-1])

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        stop = shape[-1] if self.stop is None else self.stop
        if stop > shape[-1]:
            raise OpError(f"{format_shape(shape)} has no channels up to {stop}", attribute="stop")
        if self.start >= stop:
            raise OpError(f"no channel is from {self.start} up to, not including, {stop}", attribute="start")
        return (*shape[:-1], stop - self.start)


@dataclass(frozen=True)
class ChannelShuffle(Op):
    """Zhang et al. 2018, figure 1: the first channel of each of `groups` runs of channels, then each second, ..."""

    names = ("channel_shuffle",)
    groups: int = 2

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 1, "groups")

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        require_groups(shape[-1], self.groups)
        return shape


def _explicit(op: Op, amount: str | tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    if isinstance(amount, str):
        raise OpError(
            f"`{op.name}` takes a number of values, but `amount` is `{amount}`", code="value", attribute="amount"
        )
    require_padding(amount, "amount")
    return amount
