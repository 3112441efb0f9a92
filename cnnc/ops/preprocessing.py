"""Operators that bring pixels of 0 to 255 to the range that a network was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal, Self

from cnnc.frozen import dataclass
from cnnc.ops.base import Op, OpError, Shape, format_shape
from cnnc.ops.bounds import require_positive
from cnnc.ops.signature import Floats

PRESETS: Final[Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": ((0.0,), (255.0,)),
    "symmetric": ((127.5,), (127.5,)),
    "caffe": ((103.939, 116.779, 123.68), (1.0,)),
}
"""Mean and standard deviation. `imagenet` is of ImageNet's training set (0.485 ... and 0.229 ... of 255); `unit` maps
pixels to 0 up to 1, `symmetric` to -1 up to 1; `caffe` subtracts the means of blue, green and red, after `bgr`."""


@dataclass(frozen=True)
class Normalize(Op):
    """(x - mean) / std, one number for all channels or one a channel, or a preset's.

    A preset of three channels counts by its average for an input of another number of them, grey say.
    """

    names = ("normalize",)
    preset: Literal["none", "imagenet", "unit", "symmetric", "caffe"] = "none"
    mean: Floats = (0.0,)
    std: Floats = (1.0,)

    def validate(self) -> None:
        super().validate()
        require_positive(self, "std")
        if self.preset != "none" and (self.mean, self.std) != ((0.0,), (1.0,)):
            raise OpError(
                f"`normalize` takes either the preset `{self.preset}` or `mean` and `std`, but has both",
                code="value",
                attribute="mean" if self.mean != (0.0,) else "std",
            )

    def resolve(self, *inputs: Shape) -> Self:
        """This operator with its preset written out as `mean` and `std`."""
        if self.preset == "none":
            return self
        channels = inputs[0][-1]
        mean, std = (_fit(values, channels) for values in PRESETS[self.preset])
        return replace(self, preset="none", mean=mean, std=std)

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        for attribute, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, shape[-1]):
                raise OpError(
                    f"`{attribute}` has {len(values)} numbers, but the input {format_shape(shape)} has "
                    f"{'1 channel' if shape[-1] == 1 else f'{shape[-1]} channels'}",
                    attribute=attribute,
                    help="write one number for all channels, or one a channel",
                )
        return shape


class Bgr(Op):
    """Red, green, blue become blue, green, red, as networks from Caffe want them; a single channel stays."""

    names = ("bgr",)

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        if shape[-1] not in (1, 3):
            raise OpError(f"`bgr` reverses 3 channels, but its input {format_shape(shape)} has {shape[-1]}")
        return shape


def _fit(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values if len(values) in (1, channels) else (sum(values) / len(values),)
