"""Where a sliding window stands: the one definition of padding that the shape rules and every backend share."""

from __future__ import annotations

from typing import NamedTuple

from cnnc.ops.base import OpError, Shape, format_shape
from cnnc.ops.signature import PADDINGS

AxisPadding = str | tuple[int, int]
"""`same`, `valid`, or the zeros before and after one axis."""


class Window(NamedTuple):
    """The output's `size` along an axis, and the zeros `before` and `after` the input that give it."""

    size: int
    before: int
    after: int


def window(size: int, kernel: int, stride: int, dilation: int, padding: AxisPadding) -> Window:
    """The window of a convolution or a pool along one axis. The output's size may be zero or less: nothing fits.

    `same` is TensorFlow's SAME: an output of ceil(size / stride), an odd zero at the end. Explicit padding is
    PyTorch's: floor((size + before + after - extent) / stride) + 1.
    """
    extent = (kernel - 1) * dilation + 1
    if padding == "same":
        output = -(-size // stride)
        total = max((output - 1) * stride + extent - size, 0)
        return Window(output, total // 2, total - total // 2)
    before, after = _explicit(padding)
    return Window((size + before + after - extent) // stride + 1, before, after)


def transposed_window(size: int, kernel: int, stride: int, dilation: int, padding: AxisPadding) -> Window:
    """The window of a transposed convolution along one axis: `before` and `after` are cut off its full output.

    The full output has (size - 1) * stride + extent values. `same` keeps size * stride of them (the gradient of a SAME
    convolution) and `valid` all, at least size * stride, as Keras does: a negative `after` adds zeros. Explicit padding
    cuts what it says, as PyTorch does.
    """
    extent = (kernel - 1) * dilation + 1
    full = (size - 1) * stride + extent
    if padding == "same":
        before = max(extent - stride, 0) // 2
        return Window(size * stride, before, full - before - size * stride)
    if padding == "valid":
        output = max(full, size * stride)
        return Window(output, 0, full - output)
    before, after = _explicit(padding)
    return Window(full - before - after, before, after)


def windows(
    shape: Shape,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: str | tuple[tuple[int, int], ...],
) -> tuple[Window, ...]:
    """The window along each spatial axis of an input `(..., channels)`. Raises OpError when the kernel does not fit."""
    paddings = axis_paddings(padding, len(shape) - 1)
    found = tuple(window(*axis) for axis in zip(shape[:-1], kernel, stride, dilation, paddings, strict=True))
    if any(axis.size < 1 for axis in found):
        extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
        padded = tuple(n + axis.before + axis.after for n, axis in zip(shape[:-1], found, strict=True))
        size = format_shape(kernel) + (f", dilated to {format_shape(extent)}," if extent != kernel else "")
        what = f"its input {format_shape(shape)}"
        if padded != shape[:-1]:
            what += f", padded to {format_shape(padded)}"
        raise OpError(f"a kernel of {size} does not fit {what}", attribute="kernel", help="padding=same")
    return found


def axis_paddings(padding: str | tuple[tuple[int, int], ...], rank: int) -> tuple[AxisPadding, ...]:
    """The padding of each of `rank` axes."""
    return (padding,) * rank if isinstance(padding, str) else padding


def require_padding(padding: str | tuple[tuple[int, int], ...], attribute: str = "padding") -> None:
    """Raises OpError unless the padding is a word for it, or explicit and nowhere negative."""
    if isinstance(padding, str):
        if padding not in PADDINGS:
            raise OpError(
                f"`{attribute}` must be `same`, `valid`, `half` or a number of zeros, but is `{padding}`",
                code="value",
                attribute=attribute,
            )
    elif any(side < 0 for pair in padding for side in pair):
        raise OpError(f"`{attribute}` must not be negative", code="value", attribute=attribute)


def _explicit(padding: AxisPadding) -> tuple[int, int]:
    if isinstance(padding, str):
        assert padding == "valid", padding
        return 0, 0
    return padding
