"""Operators that are a linear map plus a bias, `L x + b`, and what an affine map of channels beside them makes of them.

After: s (L x + b) + t = (s L) x + (s b + t). Before: L (s x + t) + b = (L s) x + (L t + b), where `L t` is one number a
filter only if no window reads padding, which is 0 and not t.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc import ops
from cnnc.ir import Graph, Node
from cnnc.ir.model import Arrays
from cnnc.passes.padding import zeros_read

Linear = ops.Conv | ops.ConvTranspose | ops.Dense | ops.Depthwise
Array = NDArray[Any]
Vector = NDArray[np.float64]


def with_bias(node: Node) -> Node:
    """The node of a linear operator with a bias."""
    assert isinstance(node.op, Linear), node
    return node if node.op.bias is True else replace(node, op=replace(node.op, bias=True))


def affine_after(op: Linear, weights: Arrays, scale: Vector, shift: Vector) -> dict[str, Array]:
    """`kernel` and `bias` of an operator whose outputs are multiplied by `scale` and shifted, `(filters,)` each."""
    kernel = weights["kernel"]
    bias = scale * weights["bias"] + shift if "bias" in weights else shift
    return {"kernel": scale_outputs(op, kernel, scale), "bias": bias.astype(kernel.dtype)}


def affine_before(op: Linear, weights: Arrays, scale: Vector, shift: Vector) -> dict[str, Array]:
    """`kernel` and `bias` of an operator whose inputs are multiplied by `scale` and shifted, `(channels,)` each.

    The operator must read no padding: see `takes_shift`.
    """
    kernel = weights["kernel"]
    bias = response(op, kernel, shift) + weights.get("bias", 0.0)
    return {"kernel": scale_inputs(op, kernel, scale), "bias": bias.astype(kernel.dtype)}


def takes_shift(graph: Graph, node: Node) -> bool:
    """Whether a constant added to a channel of a node's input is a constant in its output."""
    if isinstance(node.op, ops.Conv | ops.Depthwise):
        (shape,) = graph.input_shapes(node)
        return not any(map(any, zeros_read(node.op, shape)))
    return isinstance(node.op, ops.Dense)


def scale_outputs(op: Linear, kernel: Array, scale: Vector) -> Array:
    """The kernel whose operator's outputs are `scale`, `(filters,)`, times those of `kernel`."""
    if isinstance(op, ops.Depthwise):
        factor = scale.reshape(kernel.shape[-2:])
    else:
        factor = scale[:, None] if isinstance(op, ops.ConvTranspose) else scale
    return _product(kernel, factor)


def scale_inputs(op: Linear, kernel: Array, scale: Vector) -> Array:
    """The kernel whose operator gives for x what that of `kernel` gives for `scale`, `(channels,)`, times x."""
    return _product(kernel, _over_kernel(op, scale))


def response(op: Linear, kernel: Array, constant: Vector) -> Vector:
    """The response of each filter, `(filters,)`, to an input that is everywhere `constant`, `(channels,)`."""
    assert not isinstance(op, ops.ConvTranspose), op
    taps = kernel.sum(tuple(range(kernel.ndim - 2)), dtype=np.float64)
    products: Vector = taps * _over_kernel(op, constant)
    return products.reshape(-1) if isinstance(op, ops.Depthwise) else products.sum(0)


def magnitudes(kernel: Array) -> Array:
    """The largest magnitude over all taps: the kernel's last two axes."""
    taps = tuple(range(kernel.ndim - 2))
    return np.maximum(kernel.max(taps), -kernel.min(taps)) if taps else np.abs(kernel)


def _over_kernel(op: Linear, channels: Vector) -> Vector:
    """A value for each input channel, spread as the last two axes of the kernel meet them."""
    if isinstance(op, ops.ConvTranspose):
        return channels
    if isinstance(op, ops.Conv) and op.groups > 1:
        return np.repeat(channels.reshape(op.groups, -1).T, op.filters // op.groups, axis=1)
    return channels[:, None]


def _product(kernel: Array, factor: Vector) -> Array:
    # In the kernel's precision: half the time and memory, and half a unit in the last place more.
    product: Array = kernel * factor.astype(kernel.dtype)
    return product
