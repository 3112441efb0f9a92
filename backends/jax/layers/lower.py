"""One JAX function for every operator, as at inference: pure, `(batch, ..., channels)` in and out.

Each computes in the type of its inputs, except those of `FLOAT32`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce, singledispatch

import jax
import jax.numpy as jnp
from jax import Array

from cnnc import ops
from cnnc.backends.jax.layers import NodeWeights, attention, convolution, normalization, pooling, resampling
from cnnc.backends.jax.layers.wide_sums import widely
from cnnc.ops.window import windows

FLOAT32 = (
    ops.BatchNorm,
    ops.GroupNorm,
    ops.LayerNorm,
    ops.LocalResponseNorm,
    ops.Normalize,
    ops.Softmax,
)
"""Operators that take float32 weights and compute in float32 at least, whatever the precision asked for."""


@singledispatch
def lower(op: ops.Op, weights: NodeWeights, *inputs: Array) -> Array:
    """The operator's result. `weights` are its arrays by their short names."""
    raise AssertionError(f"no lowering for {op}")


@lower.register
def _(op: ops.Conv, weights: NodeWeights, x: Array) -> Array:
    found = windows(x.shape[1:], op.kernel, op.stride, op.dilation, op.padding)
    return biased(weights, convolution.convolve(x, weights["kernel"], found, op.stride, op.dilation, op.groups))


@lower.register
def _(op: ops.Depthwise, weights: NodeWeights, x: Array) -> Array:
    found = windows(x.shape[1:], op.kernel, op.stride, op.dilation, op.padding)
    return biased(weights, convolution.convolve_depthwise(x, weights["kernel"], found, op.stride, op.dilation))


@lower.register
def _(op: ops.ConvTranspose, weights: NodeWeights, x: Array) -> Array:
    found = op.windows(x.shape[1:])
    return biased(weights, convolution.convolve_transposed(x, weights["kernel"], found, op.stride, op.dilation))


@lower.register
def _(op: ops.Dense, weights: NodeWeights, x: Array) -> Array:
    return biased(weights, jnp.matmul(x, weights["kernel"]))


@lower.register
def _(op: ops.Embedding, weights: NodeWeights, indices: Array) -> Array:
    # An index beyond the table gives NaN, not the nearest row.
    return widely(lambda table: jnp.take(table, indices, axis=0, mode="fill"), weights["table"])


@lower.register
def _(op: ops.Attention, weights: NodeWeights, x: Array) -> Array:
    return attention.attend(weights, x)


@lower.register
def _(op: ops.BatchNorm, weights: NodeWeights, x: Array) -> Array:
    return normalization.batch_norm(op, weights, x)


@lower.register
def _(op: ops.LayerNorm, weights: NodeWeights, x: Array) -> Array:
    return normalization.layer_norm(op, weights, x)


@lower.register
def _(op: ops.GroupNorm, weights: NodeWeights, x: Array) -> Array:
    return normalization.group_norm(op, weights, x)


@lower.register
def _(op: ops.LocalResponseNorm, weights: NodeWeights, x: Array) -> Array:
    return normalization.local_response_norm(op, x)


@lower.register
def _(op: ops.Relu, weights: NodeWeights, x: Array) -> Array:
    return jax.nn.relu(x)


@lower.register
def _(op: ops.Relu6, weights: NodeWeights, x: Array) -> Array:
    return _relu6(x)


@lower.register
def _(op: ops.LeakyRelu, weights: NodeWeights, x: Array) -> Array:
    return jnp.where(x > 0, x, op.slope * x)


@lower.register
def _(op: ops.Prelu, weights: NodeWeights, x: Array) -> Array:
    return widely(lambda alpha, x: jnp.where(x > 0, x, alpha * x), weights["alpha"], x)


@lower.register
def _(op: ops.Elu, weights: NodeWeights, x: Array) -> Array:
    # The inner minimum keeps the exponential, and with it the gradient, finite where it is not chosen.
    return jnp.where(x > 0, x, op.alpha * jnp.expm1(jnp.minimum(x, 0)))


@lower.register
def _(op: ops.Swish, weights: NodeWeights, x: Array) -> Array:
    return x * jax.nn.sigmoid(x)


@lower.register
def _(op: ops.HardSwish, weights: NodeWeights, x: Array) -> Array:
    return x * (_relu6(x + 3) / 6)


@lower.register
def _(op: ops.HardSigmoid, weights: NodeWeights, x: Array) -> Array:
    return _relu6(x + 3) / 6


@lower.register
def _(op: ops.Gelu, weights: NodeWeights, x: Array) -> Array:
    return jax.nn.gelu(x, approximate=op.approximate)


@lower.register
def _(op: ops.Mish, weights: NodeWeights, x: Array) -> Array:
    return x * jnp.tanh(jax.nn.softplus(x))


@lower.register
def _(op: ops.Sigmoid, weights: NodeWeights, x: Array) -> Array:
    return jax.nn.sigmoid(x)


@lower.register
def _(op: ops.Tanh, weights: NodeWeights, x: Array) -> Array:
    return jnp.tanh(x)


@lower.register
def _(op: ops.Softmax, weights: NodeWeights, x: Array) -> Array:
    return jax.nn.softmax(normalization.widened(x))


@lower.register
def _(op: ops.MaxPool, weights: NodeWeights, x: Array) -> Array:
    assert op.stride is not None, op
    found = windows(x.shape[1:], op.kernel, op.stride, (1,) * len(op.kernel), op.padding)
    return pooling.max_pool(x, op.kernel, found, op.stride)


@lower.register
def _(op: ops.AvgPool, weights: NodeWeights, x: Array) -> Array:
    assert op.stride is not None, op
    found = windows(x.shape[1:], op.kernel, op.stride, (1,) * len(op.kernel), op.padding)
    return pooling.average_pool(x, op.kernel, found, op.stride, count_padding=op.count_padding)


@lower.register
def _(op: ops.GlobalPool, weights: NodeWeights, x: Array) -> Array:
    pool = jnp.mean if op.mode == "average" else jnp.max
    return pool(x, axis=tuple(range(1, x.ndim - 1)), keepdims=op.keepdims)


@lower.register
def _(op: ops.Flatten, weights: NodeWeights, x: Array) -> Array:
    return x.reshape(x.shape[0], -1)


@lower.register
def _(op: ops.Reshape, weights: NodeWeights, x: Array) -> Array:
    return x.reshape(x.shape[0], *op.shape)


@lower.register
def _(op: ops.Squeeze, weights: NodeWeights, x: Array) -> Array:
    return x.reshape(x.shape[0], *op.infer(x.shape[1:]))


@lower.register
def _(op: ops.Transpose, weights: NodeWeights, x: Array) -> Array:
    return x.swapaxes(-1, -2)


@lower.register
def _(op: ops.Dropout, weights: NodeWeights, x: Array) -> Array:
    return x


@lower.register
def _(op: ops.DropPath, weights: NodeWeights, x: Array) -> Array:
    return x


@lower.register
def _(op: ops.Add, weights: NodeWeights, *inputs: Array) -> Array:
    return _together(jnp.add, inputs)


@lower.register
def _(op: ops.Sub, weights: NodeWeights, first: Array, second: Array) -> Array:
    return _together(jnp.subtract, (first, second))


@lower.register
def _(op: ops.Matmul, weights: NodeWeights, first: Array, second: Array) -> Array:
    return jnp.matmul(first, second)


@lower.register
def _(op: ops.Positions, weights: NodeWeights, x: Array) -> Array:
    return x + jnp.asarray(op.table(x.shape[1:]), x.dtype)


@lower.register
def _(op: ops.Mul, weights: NodeWeights, *inputs: Array) -> Array:
    return _together(jnp.multiply, inputs)


@lower.register
def _(op: ops.Concat, weights: NodeWeights, *inputs: Array) -> Array:
    return jnp.concatenate(inputs, axis=-1)


@lower.register
def _(op: ops.Pad, weights: NodeWeights, x: Array) -> Array:
    assert not isinstance(op.amount, str), op
    return jnp.pad(x, [(0, 0), *op.amount, (0, 0)], constant_values=op.value)


@lower.register
def _(op: ops.Crop, weights: NodeWeights, x: Array) -> Array:
    assert not isinstance(op.amount, str), op
    sides = zip(x.shape[1:], op.amount, strict=False)
    return x[(slice(None), *(slice(before, size - after) for size, (before, after) in sides))]


@lower.register
def _(op: ops.Resize, weights: NodeWeights, x: Array) -> Array:
    resample = resampling.nearest if op.method == "nearest" else resampling.bilinear
    return resample(x, op.infer(x.shape[1:])[:-1])


@lower.register
def _(op: ops.SpaceToDepth, weights: NodeWeights, x: Array) -> Array:
    rank = x.ndim - 2
    cells = [part for size in x.shape[1:-1] for part in (size // op.block, op.block)]
    split = x.reshape(x.shape[0], *cells, x.shape[-1])
    outer, inner = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)
    return split.transpose(0, *outer, *inner, 2 * rank + 1).reshape(x.shape[0], *op.infer(x.shape[1:]))


@lower.register
def _(op: ops.Slice, weights: NodeWeights, x: Array) -> Array:
    return x[..., op.start : op.stop]


@lower.register
def _(op: ops.ChannelShuffle, weights: NodeWeights, x: Array) -> Array:
    return x.reshape(*x.shape[:-1], op.groups, -1).swapaxes(-1, -2).reshape(x.shape)


@lower.register
def _(op: ops.LayerScale, weights: NodeWeights, x: Array) -> Array:
    return widely(jnp.multiply, x, weights["gamma"])


@lower.register
def _(op: ops.Normalize, weights: NodeWeights, x: Array) -> Array:
    assert op.preset == "none", op
    wide = normalization.widened(x)
    return ((wide - jnp.asarray(op.mean, wide.dtype)) / jnp.asarray(op.std, wide.dtype)).astype(x.dtype)


@lower.register
def _(op: ops.Bgr, weights: NodeWeights, x: Array) -> Array:
    return x[..., ::-1]


def biased(weights: NodeWeights, y: Array) -> Array:
    """`y` and its layer's bias, if that has one."""
    return widely(jnp.add, y, weights["bias"]) if "bias" in weights else y


def _together(function: Callable[[Array, Array], Array], inputs: Sequence[Array]) -> Array:
    """The inputs joined two by two; an axis of size 1 counts for all of the others' values there."""
    if len({x.shape for x in inputs}) == 1:
        return reduce(function, inputs)
    return widely(lambda *wide: reduce(function, wide), *inputs)


def _relu6(x: Array) -> Array:
    return jnp.minimum(jax.nn.relu(x), 6)
