"""Convolutions over 1, 2 or 3 spatial axes. Kernels have Keras's layouts, channels last."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd, prod

from cnnc.frozen import dataclass
from cnnc.ops.base import Initializer, Op, OpError, Shape, Weight, format_shape, spell_out
from cnnc.ops.bounds import largest_divisor, require_at_least
from cnnc.ops.signature import Auto, Channels, Dims, Padding
from cnnc.ops.window import Window, axis_paddings, require_padding, transposed_window, windows


@dataclass(frozen=True)
class Conv(Op):
    """Convolution, in `groups` if asked. Kernel: `(*kernel, channels / groups, filters)`.

    In as many groups as channels it is a `depthwise` convolution, and becomes one. `bias` is `auto`, unless given: left
    out where a batch norm alone reads the result, else there.
    """

    names = ("conv",)
    kernel: Dims
    filters: Channels
    stride: Dims = (1,)
    padding: Padding = "same"
    dilation: Dims = (1,)
    groups: int = 1
    bias: Auto = None
    init: Initializer = "he_normal"

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 1, "kernel", "filters", "stride", "dilation", "groups")
        require_padding(self.padding)
        if self.filters % self.groups:
            raise OpError(
                f"{self.filters} filters do not split into {self.groups} groups", code="value", attribute="groups"
            )

    def resolve(self, *inputs: Shape) -> Conv | Depthwise:
        """As `Op.resolve`, and a depthwise convolution where every channel is a group: there is one form of it."""
        op = spell_out(self, inputs[0])
        if not 1 < op.groups == inputs[0][-1]:
            return op
        multiplier = op.filters // op.groups
        return Depthwise(op.kernel, op.stride, op.padding, op.dilation, multiplier, op.bias, op.init)

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        if shape[-1] % self.groups:
            raise OpError(
                f"{shape[-1]} input channels do not split into {self.groups} groups",
                attribute="groups",
                help=_nearest_divisor(shape[-1], self.filters, self.groups),
            )
        found = windows(shape, self.kernel, self.stride, self.dilation, self.padding)
        return (*(axis.size for axis in found), self.filters)

    def weights(self, *inputs: Shape) -> Mapping[str, Weight]:
        channels = inputs[0][-1] // self.groups
        taps = prod(self.kernel)
        kernel = Weight(
            (*self.kernel, channels, self.filters), self.init, taps * channels, taps * self.filters // self.groups
        )
        return _with_bias(kernel, self.bias, self.filters)

    def macs(self, output: Shape, *inputs: Shape) -> int:
        return prod(output) * prod(self.kernel) * inputs[0][-1] // self.groups


@dataclass(frozen=True)
class Depthwise(Op):
    """Convolution of every channel by itself, with `multiplier` filters. Kernel: `(*kernel, channels, multiplier)`.

    Output channel `c * multiplier + m` is channel `c` under filter `m`.
    """

    names = ("depthwise", "depthwise_conv")
    kernel: Dims
    stride: Dims = (1,)
    padding: Padding = "same"
    dilation: Dims = (1,)
    multiplier: int = 1
    bias: Auto = None
    init: Initializer = "he_normal"

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 1, "kernel", "stride", "dilation", "multiplier")
        require_padding(self.padding)

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        found = windows(shape, self.kernel, self.stride, self.dilation, self.padding)
        return (*(axis.size for axis in found), shape[-1] * self.multiplier)

    def weights(self, *inputs: Shape) -> Mapping[str, Weight]:
        channels = inputs[0][-1]
        taps = prod(self.kernel)
        kernel = Weight((*self.kernel, channels, self.multiplier), self.init, taps, taps * self.multiplier)
        return _with_bias(kernel, self.bias, channels * self.multiplier)

    def macs(self, output: Shape, *inputs: Shape) -> int:
        return prod(output) * prod(self.kernel)


@dataclass(frozen=True)
class ConvTranspose(Op):
    """Transposed convolution: every input value adds its multiple of the kernel, `(*kernel, filters, channels)`.

    Sizes as `window.transposed_window` says: `same` and `valid` are Keras's, explicit padding is PyTorch's.
    """

    names = ("conv_transpose", "transposed_conv")
    kernel: Dims
    filters: Channels
    stride: Dims = (1,)
    padding: Padding = "same"
    dilation: Dims = (1,)
    bias: Auto = None
    init: Initializer = "he_normal"

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 1, "kernel", "filters", "stride", "dilation")
        require_padding(self.padding)

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        """The window along each spatial axis of the full output: the part cut off, and the part that stays."""
        paddings = axis_paddings(self.padding, len(shape) - 1)
        axes = zip(shape[:-1], self.kernel, self.stride, self.dilation, paddings, strict=True)
        return tuple(transposed_window(*axis) for axis in axes)

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        found = self.windows(shape)
        if any(axis.size < 1 for axis in found):
            full = tuple(axis.before + axis.size + axis.after for axis in found)
            raise OpError(
                f"the padding cuts all of the output off, which is {format_shape(full)} without it",
                attribute="padding",
                help="padding=same",
            )
        return (*(axis.size for axis in found), self.filters)

    def weights(self, *inputs: Shape) -> Mapping[str, Weight]:
        channels = inputs[0][-1]
        taps = prod(self.kernel)
        kernel = Weight((*self.kernel, self.filters, channels), self.init, taps * channels, taps * self.filters)
        return _with_bias(kernel, self.bias, self.filters)

    def macs(self, output: Shape, *inputs: Shape) -> int:
        return prod(inputs[0]) * prod(self.kernel) * self.filters


def _with_bias(kernel: Weight, bias: bool | None, filters: int) -> Mapping[str, Weight]:
    return {"kernel": kernel} if bias is False else {"kernel": kernel, "bias": Weight((filters,), "zeros", decay=False)}


def _nearest_divisor(channels: int, filters: int, groups: int) -> str:
    """A number of groups that both counts of channels split into, at most the one asked for."""
    return f"groups={largest_divisor(gcd(channels, filters), groups)}"
