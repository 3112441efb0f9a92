"""Layers in training, each in the form that a table of measurements says is fastest: the values of `lower`.

What has one form only, or none that was measured, is lowered plainly.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from math import prod

from jax import Array

from cnnc import ops
from cnnc.backends.jax.forms import batch_norm, convolution, depthwise, pooling
from cnnc.backends.jax.forms.choice import Layer, Table
from cnnc.backends.jax.forms.convolution import Forms, Geometry
from cnnc.backends.jax.layers import NodeWeights
from cnnc.backends.jax.layers.lower import biased, lower
from cnnc.backends.jax.layers.normalization import batch_norm_of_batch
from cnnc.ops.window import windows

_MOST_TAPS = 64
"""Depthwise kernels of more values than this are left to XLA, as the plain lowering does."""


@singledispatch
def lower_tuned(op: ops.Op, table: Table, weights: NodeWeights, *inputs: Array) -> Array:
    """The operator's result and, under autodiff, its gradient, in the table's forms."""
    return lower(op, weights, *inputs)


@lower_tuned.register
def _(op: ops.Conv, table: Table, weights: NodeWeights, x: Array) -> Array:
    found = windows(x.shape[1:], op.kernel, op.stride, op.dilation, op.padding)
    geometry = Geometry(found, op.stride, op.dilation, op.groups)
    possible = convolution.possible_forms(geometry, op.kernel)
    forms = _forms("conv", op.kernel, op.stride, x, op.filters, possible, table)
    if forms == convolution.PLAIN:
        return lower(op, weights, x)
    return biased(weights, convolution.convolve_as(x, weights["kernel"], geometry, forms))


@lower_tuned.register
def _(op: ops.Depthwise, table: Table, weights: NodeWeights, x: Array) -> Array:
    names = (depthwise.FORWARD, depthwise.INPUT_GRADIENT, depthwise.WEIGHT_GRADIENT)
    forms = _forms("depthwise", op.kernel, op.stride, x, x.shape[-1], names, table)
    if forms == depthwise.PLAIN or op.multiplier > 1 or prod(op.kernel) > _MOST_TAPS:
        return lower(op, weights, x)
    geometry = Geometry(windows(x.shape[1:], op.kernel, op.stride, op.dilation, op.padding), op.stride, op.dilation)
    return biased(weights, depthwise.convolve_depthwise_as(x, weights["kernel"], geometry, forms))


@lower_tuned.register
def _(op: ops.MaxPool, table: Table, weights: NodeWeights, x: Array) -> Array:
    assert op.stride is not None, op
    found = windows(x.shape[1:], op.kernel, op.stride, (1,) * len(op.kernel), op.padding)
    layer = _layer("max_pool", op.kernel, op.stride, x, x.shape[-1])
    if not pooling.is_of_cells(op.kernel, found, op.stride) or table.choose(layer, MAX_POOL) != "cells":
        return lower(op, weights, x)
    return pooling.max_pool_of_cells(x, op.kernel, found)


def batch_norm_tuned(op: ops.BatchNorm, table: Table, weights: NodeWeights, x: Array) -> tuple[Array, dict[str, Array]]:
    """`normalization.batch_norm_of_batch` in the table's form."""
    name = table.choose(_layer("batch_norm", (), (), x, x.shape[-1]), BATCH_NORM)
    return BATCH_NORM[name](op, weights, x)


MAX_POOL = ("slices", "cells")
BATCH_NORM = {"autodiff": batch_norm_of_batch, "by_hand": batch_norm.batch_norm_by_hand}


def _forms(
    kind: str,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    x: Array,
    filters: int,
    names: tuple[Iterable[str], Iterable[str], Iterable[str]],
    table: Table,
) -> Forms:
    parts = ("forward", "input_gradient", "weight_gradient")
    layers = (_layer(f"{kind}.{part}", kernel, stride, x, filters) for part in parts)
    return Forms(*(table.choose(layer, possible) for layer, possible in zip(layers, names, strict=True)))


def _layer(part: str, kernel: tuple[int, ...], stride: tuple[int, ...], x: Array, filters: int) -> Layer:
    return Layer(part, kernel, stride, max(x.shape[1:-1], default=1), x.shape[-1], filters, max(x.shape[0], 1))
