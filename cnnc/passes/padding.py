"""The zeros around an input that windows read, whichever way an operator writes its padding."""

from __future__ import annotations

from cnnc import ops
from cnnc.ops import Shape
from cnnc.ops.window import axis_paddings, window

Windowed = ops.Conv | ops.Depthwise | ops.MaxPool | ops.AvgPool
Pairs = tuple[tuple[int, int], ...]


def zeros_read(op: Windowed, shape: Shape, padding: str | Pairs | None = None) -> Pairs:
    """How many zeros before and after each spatial axis of an input of `shape` some window reads.

    Those after may be fewer than the operator's, where its stride leaps over the last.

    Args:
        op: a resolved operator.
        shape: its input's, `(..., channels)`.
        padding: in place of the operator's own.
    """
    assert op.stride is not None, op
    dilation = op.dilation if isinstance(op, ops.Conv | ops.Depthwise) else (1,) * len(op.kernel)
    paddings = axis_paddings(op.padding if padding is None else padding, len(shape) - 1)
    pairs = []
    for size, kernel, stride, spread, each in zip(shape, op.kernel, op.stride, dilation, paddings, strict=False):
        found = window(size, kernel, stride, spread, each)
        reach = (found.size - 1) * stride + (kernel - 1) * spread + 1
        pairs.append((found.before, max(reach - size - found.before, 0)))
    return tuple(pairs)
