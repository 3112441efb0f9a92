"""The executable meaning of every operator: plain NumPy, slow, and what the other backends are held to.

Arrays are `(batch, ..., channels)`. It computes in the precision that inputs and weights have, float64 at its best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce, singledispatch
from math import erf, prod, sqrt

import numpy as np
from numpy.typing import NDArray

from cnnc import ops
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.net import Weights
from cnnc.ops.window import Window, windows

Array = NDArray[np.float64]
Arrays = Mapping[str, Array]


def run(graph: Graph, weights: Weights, inputs: Arrays, *, train: bool = False) -> dict[str, Array]:
    """The value of every node by its name.

    In training, batch norms use their batch's statistics. Dropout and drop_path stay the identity, what they are on
    average: random keys are the jax backend's.

    Args:
        graph: the network.
        weights: its arrays by node and short name.
        inputs: arrays `(batch, *shape)` by the names of the input nodes; pixels of an integer type become float64.
        train: whether batch norms use the batch's statistics.
    """
    values: dict[str, Array] = {}
    for node in graph.nodes:
        arrays = [inputs[node.name]] if isinstance(node.op, ops.Input) else [values[name] for name in node.inputs]
        own = weights.get(node.owner, {})
        if train and isinstance(node.op, ops.BatchNorm):
            own = {**own, **batch_statistics(arrays[0])}
        values[node.name] = evaluate(node.op, own, *arrays)
    return values


def batch_statistics(x: Array) -> dict[str, Array]:
    """`mean` and (biased) `variance` of every channel over the batch and space, `(channels,)` each."""
    axes = tuple(range(x.ndim - 1))
    return {"mean": x.mean(axes), "variance": x.var(axes)}


def updated_statistics(op: ops.BatchNorm, weights: Arrays, x: Array) -> dict[str, Array]:
    """The running statistics of a batch norm after a training step whose batch gave it the input `x`."""
    batch = batch_statistics(x)
    return {name: op.momentum * weights[name] + (1 - op.momentum) * batch[name] for name in ("mean", "variance")}


@singledispatch
def evaluate(op: ops.Op, weights: Arrays, *inputs: Array) -> Array:
    """The value of a resolved operator at inference, for inputs `(batch, *shape)`."""
    raise CnnError.of("backend", f"the backend `reference` has no operator `{op.name}`")


@evaluate.register
def _(op: ops.Input, weights: Arrays, x: Array) -> Array:
    return x.astype(np.float64) if op.dtype == "float" and not np.issubdtype(x.dtype, np.floating) else x


@evaluate.register
def _(op: ops.Conv, weights: Arrays, x: Array) -> Array:
    def apply(tap: Array, kernel: Array) -> Array:
        parts = zip(np.split(tap, op.groups, -1), np.split(kernel, op.groups, -1), strict=True)
        return np.concatenate([part @ columns for part, columns in parts], -1)

    found = windows(x.shape[1:], op.kernel, op.stride, op.dilation, op.padding)
    taps = _taps(x, op.kernel, op.stride, op.dilation, found)
    return _biased(_sum(apply(values, weights["kernel"][tap]) for tap, values in taps), weights)


@evaluate.register
def _(op: ops.Depthwise, weights: Arrays, x: Array) -> Array:
    found = windows(x.shape[1:], op.kernel, op.stride, op.dilation, op.padding)
    taps = _taps(x, op.kernel, op.stride, op.dilation, found)
    total = _sum(values[..., None] * weights["kernel"][tap] for tap, values in taps)
    return _biased(total.reshape(*total.shape[:-2], -1), weights)


@evaluate.register
def _(op: ops.ConvTranspose, weights: Arrays, x: Array) -> Array:
    kernel, found = weights["kernel"], op.windows(x.shape[1:])
    sizes = [axis.before + axis.size + max(axis.after, 0) for axis in found]
    full = np.zeros((len(x), *sizes, op.filters), np.result_type(x, kernel))
    for tap in np.ndindex(*op.kernel):
        places = zip(x.shape[1:-1], tap, op.stride, op.dilation, strict=True)
        target = tuple(slice(t * d, t * d + (n - 1) * s + 1, s) for n, t, s, d in places)
        full[(slice(None), *target)] += x @ kernel[tap].T
    return _biased(full[(slice(None), *(slice(axis.before, axis.before + axis.size) for axis in found))], weights)


@evaluate.register
def _(op: ops.Dense, weights: Arrays, x: Array) -> Array:
    return _biased(x @ weights["kernel"], weights)


@evaluate.register
def _(op: ops.BatchNorm, weights: Arrays, x: Array) -> Array:
    return _scaled((x - weights["mean"]) / np.sqrt(weights["variance"] + op.epsilon), weights)


@evaluate.register
def _(op: ops.LayerNorm, weights: Arrays, x: Array) -> Array:
    return _scaled(_standardized(x, (-1,), op.epsilon), weights)


@evaluate.register
def _(op: ops.GroupNorm, weights: Arrays, x: Array) -> Array:
    grouped = x.reshape(*x.shape[:-1], op.groups, x.shape[-1] // op.groups)
    axes = (*range(1, grouped.ndim - 2), -1)
    return _scaled(_standardized(grouped, axes, op.epsilon).reshape(x.shape), weights)


@evaluate.register
def _(op: ops.LocalResponseNorm, weights: Arrays, x: Array) -> Array:
    result = np.empty_like(x)
    for c in range(x.shape[-1]):
        near = x[..., max(c - op.radius, 0) : c + op.radius + 1]
        result[..., c] = x[..., c] / (op.bias + op.alpha * (near**2).sum(-1)) ** op.beta
    return result


@evaluate.register
def _(
    op: ops.Relu
    | ops.Relu6
    | ops.Swish
    | ops.HardSwish
    | ops.HardSigmoid
    | ops.Mish
    | ops.Sigmoid
    | ops.Tanh
    | ops.Softmax,
    weights: Arrays,
    x: Array,
) -> Array:
    return _FUNCTIONS[type(op)](x)


@evaluate.register
def _(op: ops.LeakyRelu | ops.Prelu, weights: Arrays, x: Array) -> Array:
    return np.where(x > 0, x, (op.slope if isinstance(op, ops.LeakyRelu) else weights["alpha"]) * x)


@evaluate.register
def _(op: ops.Elu, weights: Arrays, x: Array) -> Array:
    return np.where(x > 0, x, op.alpha * np.expm1(np.minimum(x, 0)))


@evaluate.register
def _(op: ops.Gelu, weights: Arrays, x: Array) -> Array:
    erf_of: Callable[[Array], Array] = np.vectorize(erf, otypes=[x.dtype])
    odd = np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x * x * x)) if op.approximate else erf_of(x / sqrt(2))
    return x * (1 + odd) / 2


@evaluate.register
def _(op: ops.MaxPool, weights: Arrays, x: Array) -> Array:
    largest: Array = reduce(np.maximum, (values for _, values in _pool_taps(op, x, fill=-np.inf)))
    return largest


@evaluate.register
def _(op: ops.AvgPool, weights: Arrays, x: Array) -> Array:
    total = _sum(values for _, values in _pool_taps(op, x))
    if op.count_padding:
        return total / prod(op.kernel)
    return total / _sum(values for _, values in _pool_taps(op, np.ones_like(x)))


@evaluate.register
def _(op: ops.GlobalPool, weights: Arrays, x: Array) -> Array:
    pool: Callable[..., Array] = np.mean if op.mode == "average" else np.max
    return pool(x, axis=tuple(range(1, x.ndim - 1)), keepdims=op.keepdims)


@evaluate.register
def _(op: ops.Flatten | ops.Reshape | ops.Squeeze, weights: Arrays, x: Array) -> Array:
    return x.reshape(len(x), *op.infer(x.shape[1:]))


@evaluate.register
def _(op: ops.Dropout | ops.DropPath, weights: Arrays, x: Array) -> Array:
    return x


@evaluate.register
def _(op: ops.Add, weights: Arrays, *inputs: Array) -> Array:
    return _sum(inputs)


@evaluate.register
def _(op: ops.Sub, weights: Arrays, first: Array, second: Array) -> Array:
    return first - second


@evaluate.register
def _(op: ops.Matmul, weights: Arrays, first: Array, second: Array) -> Array:
    product: Array = first @ second
    return product


@evaluate.register
def _(op: ops.Transpose, weights: Arrays, x: Array) -> Array:
    return x.swapaxes(-1, -2)


@evaluate.register
def _(op: ops.Positions, weights: Arrays, x: Array) -> Array:
    return x + op.table(x.shape[1:]).astype(x.dtype)


@evaluate.register
def _(op: ops.Mul, weights: Arrays, *inputs: Array) -> Array:
    product: Array = reduce(np.multiply, inputs)
    return product


@evaluate.register
def _(op: ops.Concat, weights: Arrays, *inputs: Array) -> Array:
    return np.concatenate(inputs, axis=-1)


@evaluate.register
def _(op: ops.Pad, weights: Arrays, x: Array) -> Array:
    assert not isinstance(op.amount, str), op
    return np.pad(x, ((0, 0), *op.amount, (0, 0)), constant_values=op.value)


@evaluate.register
def _(op: ops.Crop, weights: Arrays, x: Array) -> Array:
    assert not isinstance(op.amount, str), op
    sides = zip(x.shape[1:-1], op.amount, strict=True)
    return x[(slice(None), *(slice(before, size - after) for size, (before, after) in sides))]


@evaluate.register
def _(op: ops.Resize, weights: Arrays, x: Array) -> Array:
    resize = _nearest if op.method == "nearest" else _linear
    for axis, size in enumerate(op.infer(x.shape[1:])[:-1], start=1):
        x = resize(x, axis, size)
    return x


@evaluate.register
def _(op: ops.SpaceToDepth, weights: Arrays, x: Array) -> Array:
    offsets = np.ndindex(*(op.block,) * (x.ndim - 2))
    return np.concatenate([x[(slice(None), *(slice(o, None, op.block) for o in offset))] for offset in offsets], -1)


@evaluate.register
def _(op: ops.Slice, weights: Arrays, x: Array) -> Array:
    return x[..., op.start : op.stop]


@evaluate.register
def _(op: ops.ChannelShuffle, weights: Arrays, x: Array) -> Array:
    run = x.shape[-1] // op.groups
    return np.concatenate([x[..., first::run] for first in range(run)], -1)


@evaluate.register
def _(op: ops.LayerScale, weights: Arrays, x: Array) -> Array:
    return x * weights["gamma"]


@evaluate.register
def _(op: ops.Normalize, weights: Arrays, x: Array) -> Array:
    mean, std = (np.asarray(values, x.dtype) for values in (op.mean, op.std))
    return (x - mean) / std


@evaluate.register
def _(op: ops.Bgr, weights: Arrays, x: Array) -> Array:
    return x[..., ::-1]


@evaluate.register
def _(op: ops.Embedding, weights: Arrays, x: NDArray[np.int64]) -> Array:
    return np.take(weights["table"], x, axis=0)


@evaluate.register
def _(op: ops.Attention, weights: Arrays, x: Array) -> Array:
    flat = x.reshape(len(x), -1, x.shape[-1])
    query, key, value = (
        np.einsum("bnc,chk->bhnk", flat, weights[f"{part}_kernel"]) + weights[f"{part}_bias"][:, None]
        for part in ("query", "key", "value")
    )
    scores = _softmax(query @ key.swapaxes(-1, -2) / sqrt(query.shape[-1]))
    mixed: Array = np.einsum("bhnk,hkc->bnc", scores @ value, weights["output_kernel"])
    return (mixed + weights["output_bias"]).reshape(x.shape)


def _taps(
    x: Array,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    found: Sequence[Window],
    fill: float = 0.0,
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For every tap of a kernel the input values it meets, `(batch, *output, channels)`."""
    padded = np.pad(x, ((0, 0), *((axis.before, axis.after) for axis in found), (0, 0)), constant_values=fill)
    for tap in np.ndindex(*kernel):
        axes = zip(tap, stride, dilation, found, strict=True)
        yield tap, padded[(slice(None), *(slice(t * d, t * d + (a.size - 1) * s + 1, s) for t, s, d, a in axes))]


def _pool_taps(op: ops.MaxPool | ops.AvgPool, x: Array, fill: float = 0.0) -> Iterator[tuple[tuple[int, ...], Array]]:
    assert op.stride is not None, op
    ones = (1,) * len(op.kernel)
    found = windows(x.shape[1:], op.kernel, op.stride, ones, op.padding)
    return _taps(x, op.kernel, op.stride, ones, found, fill)


def _sum(parts: Iterable[Array]) -> Array:
    total: Array = reduce(np.add, parts)
    return total


def _biased(x: Array, weights: Arrays) -> Array:
    return x + weights["bias"] if "bias" in weights else x


def _scaled(x: Array, weights: Arrays) -> Array:
    if "gamma" in weights:
        x = x * weights["gamma"]
    return x + weights["beta"] if "beta" in weights else x


def _standardized(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    mean: Array = x.mean(axes, keepdims=True)
    variance: Array = x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon)


def _sigmoid(x: Array) -> Array:
    # 1 / (1 + exp(-x)) overflows for large negative x; this is the same function.
    return (1 + np.tanh(x / 2)) / 2


def _softmax(x: Array) -> Array:
    powers: Array = np.exp(x - x.max(-1, keepdims=True))
    total: Array = powers.sum(-1, keepdims=True)
    return powers / total


_FUNCTIONS: Mapping[type[ops.Op], Callable[[Array], Array]] = {
    ops.Relu: lambda x: np.maximum(x, 0),
    ops.Relu6: lambda x: np.clip(x, 0, 6),
    ops.Swish: lambda x: x * _sigmoid(x),
    ops.HardSwish: lambda x: x * np.clip(x + 3, 0, 6) / 6,
    ops.HardSigmoid: lambda x: np.clip(x + 3, 0, 6) / 6,
    ops.Mish: lambda x: x * np.tanh(np.logaddexp(0, x)),
    ops.Sigmoid: _sigmoid,
    ops.Tanh: np.tanh,
    ops.Softmax: _softmax,
}


def _nearest(x: Array, axis: int, size: int) -> Array:
    n = x.shape[axis]
    return np.take(x, [(2 * i + 1) * n // (2 * size) for i in range(size)], axis)


def _linear(x: Array, axis: int, size: int) -> Array:
    n = x.shape[axis]
    place = (np.arange(size) + 0.5) * n / size - 0.5
    low = np.floor(place).astype(int)
    share: Array = (place - low).astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - axis - 1))
    below: Array = np.take(x, np.clip(low, 0, n - 1), axis)
    above: Array = np.take(x, np.clip(low + 1, 0, n - 1), axis)
    return below * (1 - share) + above * share
