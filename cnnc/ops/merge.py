"""Operators that join several inputs."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from cnnc.ops.base import Op, OpError, Shape, format_shape


class Add(Op):
    """Elementwise sum, as in a residual connection. An axis of size 1 counts for all of the others' values there."""

    names = ("add",)
    arity = (2, None)

    def infer(self, *inputs: Shape) -> Shape:
        return _broadcast(self, inputs, _projection)


class Sub(Op):
    """The first input less the second. An axis of size 1 counts for all of the other's values there."""

    names = ("sub",)
    arity = (2, 2)

    def infer(self, *inputs: Shape) -> Shape:
        return _broadcast(self, inputs, _projection)


class Mul(Op):
    """Elementwise product, as in squeeze-and-excite. An axis of size 1 counts for all of the others' values there."""

    names = ("mul",)
    arity = (2, None)

    def infer(self, *inputs: Shape) -> Shape:
        return _broadcast(self, inputs, _pooling)

    def macs(self, output: Shape, *inputs: Shape) -> int:
        """A product for each value and each input after the first, as the papers with squeeze-and-excite count."""
        return prod(output) * (len(inputs) - 1)


class Matmul(Op):
    """Matrix product of `(..., rows, inner)` and `(..., inner, columns)`, for each place along the axes before.

    A vector of channels at each of some positions is such a matrix, and so are the shares of an attention:
    matmul(shares, values) has at each position a mean of values.
    """

    names = ("matmul",)
    arity = (2, 2)

    def infer(self, *inputs: Shape) -> Shape:
        first, second = inputs
        for shape in inputs:
            if len(shape) < 2:
                raise OpError(f"`matmul` multiplies matrices, but {format_shape(shape)} has one axis")
        if first[:-2] != second[:-2]:
            shapes = f"{format_shape(first)} and {format_shape(second)}"
            raise OpError(f"the axes before the matrices do not agree: {shapes}")
        if first[-1] != second[-2]:
            turned = first[-1] == second[-1]
            raise OpError(
                f"{first[-1]} columns do not meet {second[-2]} rows: {format_shape(first)} and {format_shape(second)}",
                help="turn the second: ... | transpose" if turned else None,
            )
        return (*first[:-1], second[-1])

    def macs(self, output: Shape, *inputs: Shape) -> int:
        return prod(output) * inputs[0][-1]


class Concat(Op):
    """The inputs' channels one after another; their spatial axes agree."""

    names = ("concat",)
    arity = (1, None)

    def infer(self, *inputs: Shape) -> Shape:
        first, *rest = inputs
        for other in rest:
            if other[:-1] != first[:-1]:
                raise OpError(_disagreement(self, first, other), help=_flattening(first, other))
        return (*first[:-1], sum(shape[-1] for shape in inputs))


def _broadcast(op: Op, inputs: tuple[Shape, ...], advise: Callable[[Shape, Shape], str | None]) -> Shape:
    """The shape of all inputs together, in which an axis of 1 takes the others' size; else an error with advice."""
    first, *rest = inputs
    for other in rest:
        is_apart = len(other) != len(first)
        if is_apart or any(a != b and 1 not in (a, b) for a, b in zip(first, other, strict=True)):
            raise OpError(_disagreement(op, first, other), help=advise(first, other))
        first = tuple(map(max, first, other))
    return first


def _disagreement(op: Op, first: Shape, other: Shape) -> str:
    return f"the branches of {op.name} do not agree: {format_shape(first)} and {format_shape(other)}"


def _projection(first: Shape, other: Shape) -> str | None:
    """The layer that brings one shape to the other, the smaller in space or the wider, where a 1x1 convolution can."""
    if len(first) != len(other):
        return None
    if len(first) == 1:
        return f"project the shortcut: dense({max(first[0], other[0])})"
    small, large = sorted((first, other), key=lambda shape: (shape[:-1], -shape[-1]))
    strides = tuple(-(-b // a) for a, b in zip(small[:-1], large[:-1], strict=True))
    if any(-(-b // s) != a for a, b, s in zip(small[:-1], large[:-1], strides, strict=True)):
        return None
    kernel = "x".join("1" * (len(first) - 1))
    stride = (
        "" if set(strides) == {1} else f", stride={strides[0] if len(set(strides)) == 1 else format_shape(strides)}"
    )
    return f"project the shortcut: conv({kernel}, {small[-1]}{stride}) | bn"


def _pooling(first: Shape, other: Shape) -> str | None:
    """The layer that keeps the axes of a pooled gate, where one of the two has lost its own."""
    flat = min(first, other, key=len)
    return "globalpool(keepdims=true)" if len(first) != len(other) and len(flat) == 1 else None


def _flattening(first: Shape, other: Shape) -> str | None:
    return "flatten the branches first: flatten" if len(first) != len(other) else None
