"""Pooling: windows of the spatial axes, or all of them, become one value a channel."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, Self

from cnnc.frozen import dataclass
from cnnc.ops.base import Op, OpError, Shape, spatial_rank, spell_out
from cnnc.ops.bounds import require_at_least
from cnnc.ops.signature import Dims, OptionalDims, Padding
from cnnc.ops.window import require_padding, windows


@dataclass(frozen=True)
class MaxPool(Op):
    """The largest value of every window; padding never is. The stride is the kernel's size unless given."""

    names = ("maxpool", "max_pool")
    kernel: Dims
    stride: OptionalDims = None
    padding: Padding = "same"

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 1, "kernel", "stride")
        require_padding(self.padding)

    def resolve(self, *inputs: Shape) -> Self:
        resolved = spell_out(self, inputs[0])
        return resolved if resolved.stride is not None else replace(resolved, stride=resolved.kernel)

    def infer(self, *inputs: Shape) -> Shape:
        return _pool(inputs[0], self.kernel, self.stride, self.padding)


@dataclass(frozen=True)
class AvgPool(Op):
    """The mean of every window. The stride is the kernel's size unless given.

    Without `count_padding` the mean is of the input's values alone (Keras); with it the padding's zeros count
    (PyTorch's `count_include_pad`).
    """

    names = ("avgpool", "avg_pool")
    kernel: Dims
    stride: OptionalDims = None
    padding: Padding = "same"
    count_padding: bool = False

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 1, "kernel", "stride")
        require_padding(self.padding)

    def resolve(self, *inputs: Shape) -> Self:
        resolved = spell_out(self, inputs[0])
        return resolved if resolved.stride is not None else replace(resolved, stride=resolved.kernel)

    def infer(self, *inputs: Shape) -> Shape:
        return _pool(inputs[0], self.kernel, self.stride, self.padding)


@dataclass(frozen=True)
class GlobalPool(Op):
    """The mean or the maximum over all spatial axes: `(channels,)`, or `1x1xchannels` with `keepdims`."""

    names = ("globalpool", "global_pool")
    mode: Literal["average", "max"] = "average"
    keepdims: bool = False

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        rank = spatial_rank(self, shape)
        return ((1,) * rank if self.keepdims else ()) + shape[-1:]


def _pool(
    shape: Shape, kernel: tuple[int, ...], stride: tuple[int, ...] | None, padding: str | tuple[tuple[int, int], ...]
) -> Shape:
    assert stride is not None, "infer before resolve"
    if not isinstance(padding, str) and any(max(pair) >= size for pair, size in zip(padding, kernel, strict=True)):
        raise OpError(
            "`padding` of a pool must be smaller than its kernel, or windows would hold nothing but padding",
            code="value",
            attribute="padding",
        )
    found = windows(shape, kernel, stride, (1,) * len(kernel), padding)
    return (*(axis.size for axis in found), shape[-1])
