"""Operators that join several inputs."""

from __future__ import annotations

from math import prod

from cnnc.ops.base import Op, OpError, Shape, format_shape


class Add(Op):
    """Elementwise sum of equal shapes, as in a residual connection."""

    names = ("add",)
    arity = (2, None)

    def infer(self, *inputs: Shape) -> Shape:
        first, *rest = inputs
        for other in rest:
            if other != first:
                raise OpError(_disagreement(self, first, other), help=_projection(first, other))
        return first


class Mul(Op):
    """Elementwise product, as in squeeze-and-excite. An axis of size 1 counts for all of the others' values there."""

    names = ("mul",)
    arity = (2, None)

    def infer(self, *inputs: Shape) -> Shape:
        first, *rest = inputs
        for other in rest:
            if len(other) != len(first):
                flat = min(first, other, key=len)
                raise OpError(
                    _disagreement(self, first, other), help="globalpool(keepdims=true)" if len(flat) == 1 else None
                )
            if any(a != b and 1 not in (a, b) for a, b in zip(first, other, strict=True)):
                raise OpError(_disagreement(self, first, other))
            first = tuple(map(max, first, other))
        return first

    def macs(self, output: Shape, *inputs: Shape) -> int:
        """A product for each value and each input after the first, as the papers with squeeze-and-excite count."""
        return prod(output) * (len(inputs) - 1)


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


def _flattening(first: Shape, other: Shape) -> str | None:
    return "flatten the branches first: flatten" if len(first) != len(other) else None
