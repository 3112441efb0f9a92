"""Keras's layers for every operator: one, or several where Keras has no layer that does all of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial, singledispatch
from typing import Any

import keras
import numpy as np

from cnnc import ops
from cnnc.backends.keras import convolution
from cnnc.backends.keras.composed import (
    average_pool,
    channel_shuffle,
    composed,
    local_response_norm,
    pad,
    resize,
    shifted,
    space_to_depth,
)
from cnnc.backends.keras.weighted import UNDRAWN, Arrays, cropped, padded, ranked, sides, weighted
from cnnc.ops.window import windows

_ACTIVATIONS: Mapping[type[ops.Op], str] = {
    ops.Relu: "relu",
    ops.Relu6: "relu6",
    ops.Swish: "silu",
    ops.HardSwish: "hard_silu",
    ops.HardSigmoid: "hard_sigmoid",
    ops.Mish: "mish",
    ops.Sigmoid: "sigmoid",
    ops.Tanh: "tanh",
}
_LOWEST = float(np.finfo(np.float32).min)
"""The padding before a maximum: a `.keras` file, which is JSON, has no infinity."""


@singledispatch
def lower(op: ops.Op, weights: Arrays, name: str, *inputs: Any) -> Any:
    """The operator's result as a Keras tensor, by layers called `name` or `name.<what they do>`."""
    raise AssertionError(f"no lowering for {op}")


@lower.register
def _(op: ops.Conv, weights: Arrays, name: str, x: Any) -> Any:
    return convolution.convolution(op, weights, name, x)


@lower.register
def _(op: ops.Depthwise, weights: Arrays, name: str, x: Any) -> Any:
    return convolution.depthwise(op, weights, name, x)


@lower.register
def _(op: ops.ConvTranspose, weights: Arrays, name: str, x: Any) -> Any:
    return convolution.transposed(op, weights, name, x)


@lower.register
def _(op: ops.Dense, weights: Arrays, name: str, x: Any) -> Any:
    layer = keras.layers.Dense(op.units, use_bias="bias" in weights, name=name, **UNDRAWN)
    return weighted(layer, weights, x)


@lower.register
def _(op: ops.Embedding, weights: Arrays, name: str, x: Any) -> Any:
    layer = keras.layers.Embedding(op.vocabulary, op.features, embeddings_initializer="zeros", name=name)
    return weighted(layer, weights, x)


@lower.register
def _(op: ops.Attention, weights: Arrays, name: str, x: Any) -> Any:
    axes = tuple(range(1, len(x.shape) - 1))
    layer = keras.layers.MultiHeadAttention(op.heads, op.key_features, attention_axes=axes, name=name, **UNDRAWN)
    return weighted(layer, weights, x, x)


@lower.register
def _(op: ops.BatchNorm, weights: Arrays, name: str, x: Any) -> Any:
    layer = keras.layers.BatchNormalization(
        momentum=op.momentum, epsilon=op.epsilon, center=op.center, scale=op.scale, name=name
    )
    return weighted(layer, weights, x)


@lower.register
def _(op: ops.LayerNorm, weights: Arrays, name: str, x: Any) -> Any:
    layer = keras.layers.LayerNormalization(epsilon=op.epsilon, center=op.center, scale=op.scale, name=name)
    return weighted(layer, weights, x)


@lower.register
def _(op: ops.GroupNorm, weights: Arrays, name: str, x: Any) -> Any:
    layer = keras.layers.GroupNormalization(op.groups, epsilon=op.epsilon, center=op.center, scale=op.scale, name=name)
    return weighted(layer, weights, x)


@lower.register
def _(op: ops.LocalResponseNorm, weights: Arrays, name: str, x: Any) -> Any:
    norm = partial(local_response_norm, radius=op.radius, alpha=op.alpha, beta=op.beta, bias=op.bias)
    return composed(name, norm, x)


@lower.register
def _(
    op: ops.Relu | ops.Relu6 | ops.Swish | ops.HardSwish | ops.HardSigmoid | ops.Mish | ops.Sigmoid | ops.Tanh,
    weights: Arrays,
    name: str,
    x: Any,
) -> Any:
    return keras.layers.Activation(_ACTIVATIONS[type(op)], name=name)(x)


@lower.register
def _(op: ops.LeakyRelu, weights: Arrays, name: str, x: Any) -> Any:
    return keras.layers.LeakyReLU(op.slope, name=name)(x)


@lower.register
def _(op: ops.Prelu, weights: Arrays, name: str, x: Any) -> Any:
    return weighted(keras.layers.PReLU(shared_axes=list(range(1, len(x.shape) - 1)) or None, name=name), weights, x)


@lower.register
def _(op: ops.Elu, weights: Arrays, name: str, x: Any) -> Any:
    return keras.layers.ELU(op.alpha, name=name)(x)


@lower.register
def _(op: ops.Gelu, weights: Arrays, name: str, x: Any) -> Any:
    if op.approximate:
        return composed(name, partial(keras.ops.gelu, approximate=True), x)
    return keras.layers.Activation("gelu", name=name)(x)


@lower.register
def _(op: ops.Softmax, weights: Arrays, name: str, x: Any) -> Any:
    if x.shape[-1] == 1:
        # Which is 1 whatever the input; Keras warns of its own.
        return keras.layers.Rescaling(0.0, 1.0, name=name)(x)
    return keras.layers.Softmax(name=name)(x)


@lower.register
def _(op: ops.MaxPool, weights: Arrays, name: str, x: Any) -> Any:
    padding = op.padding
    if not isinstance(padding, str):
        x, padding = composed(f"{name}.pad", partial(pad, amount=padding, value=_LOWEST), x), "valid"
    return ranked("MaxPooling{}D", x, op.kernel, op.stride, padding, name=name)(x)


@lower.register
def _(op: ops.AvgPool, weights: Arrays, name: str, x: Any) -> Any:
    assert op.stride is not None, op
    padding = op.padding
    if op.count_padding:
        found = windows(x.shape[1:], op.kernel, op.stride, (1,) * len(op.kernel), padding)
        x, padding = padded(x, [(axis.before, max(axis.after, 0)) for axis in found], name)
    if not isinstance(padding, str):
        return composed(name, partial(average_pool, kernel=op.kernel, stride=op.stride, amount=padding), x)
    return ranked("AveragePooling{}D", x, op.kernel, op.stride, padding, name=name)(x)


@lower.register
def _(op: ops.GlobalPool, weights: Arrays, name: str, x: Any) -> Any:
    mode = {"average": "Average", "max": "Max"}[op.mode]
    return ranked(f"Global{mode}Pooling{{}}D", x, keepdims=op.keepdims, name=name)(x)


@lower.register
def _(op: ops.Flatten, weights: Arrays, name: str, x: Any) -> Any:
    return keras.layers.Flatten(name=name)(x)


@lower.register
def _(op: ops.Reshape, weights: Arrays, name: str, x: Any) -> Any:
    return keras.layers.Reshape(op.shape, name=name)(x)


@lower.register
def _(op: ops.Squeeze, weights: Arrays, name: str, x: Any) -> Any:
    return keras.layers.Reshape(op.infer(x.shape[1:]), name=name)(x)


@lower.register
def _(op: ops.Transpose, weights: Arrays, name: str, x: Any) -> Any:
    *before, rows, columns = range(1, len(x.shape))
    return keras.layers.Permute((*before, columns, rows), name=name)(x)


@lower.register
def _(op: ops.Positions, weights: Arrays, name: str, x: Any) -> Any:
    return shifted(x, op.table(x.shape[1:]), name)


@lower.register
def _(op: ops.Dropout, weights: Arrays, name: str, x: Any) -> Any:
    return keras.layers.Dropout(op.rate, name=name)(x)


@lower.register
def _(op: ops.DropPath, weights: Arrays, name: str, x: Any) -> Any:
    return keras.layers.Dropout(op.rate, noise_shape=(None, *[1] * (len(x.shape) - 1)), name=name)(x)


@lower.register
def _(op: ops.Add, weights: Arrays, name: str, *inputs: Any) -> Any:
    return keras.layers.Add(name=name)(list(inputs))


@lower.register
def _(op: ops.Sub, weights: Arrays, name: str, first: Any, second: Any) -> Any:
    return keras.layers.Subtract(name=name)([first, second])


@lower.register
def _(op: ops.Matmul, weights: Arrays, name: str, first: Any, second: Any) -> Any:
    return composed(name, keras.ops.matmul, first, second)


@lower.register
def _(op: ops.Mul, weights: Arrays, name: str, *inputs: Any) -> Any:
    return keras.layers.Multiply(name=name)(list(inputs))


@lower.register
def _(op: ops.Concat, weights: Arrays, name: str, *inputs: Any) -> Any:
    if len(inputs) == 1:
        return keras.layers.Identity(name=name)(*inputs)
    return keras.layers.Concatenate(name=name)(list(inputs))


@lower.register
def _(op: ops.Pad, weights: Arrays, name: str, x: Any) -> Any:
    assert not isinstance(op.amount, str), op
    if op.value:
        return composed(name, partial(pad, amount=op.amount, value=op.value), x)
    return ranked("ZeroPadding{}D", x, sides(op.amount), name=name)(x)


@lower.register
def _(op: ops.Crop, weights: Arrays, name: str, x: Any) -> Any:
    assert not isinstance(op.amount, str), op
    return cropped(x, op.amount, name)


@lower.register
def _(op: ops.Resize, weights: Arrays, name: str, x: Any) -> Any:
    sizes = op.infer(x.shape[1:])[:-1]
    scales = [divmod(m, n) for n, m in zip(x.shape[1:-1], sizes, strict=True)]
    if op.method == "nearest" and not any(rest for _, rest in scales):
        scale = tuple(whole for whole, _ in scales)
        return ranked("UpSampling{}D", x, scale if len(scale) > 1 else scale[0], name=name)(x)
    if op.method == "bilinear" and len(sizes) == 2:
        return keras.layers.Resizing(*sizes, interpolation="bilinear", name=name)(x)
    return composed(name, partial(resize, sizes=sizes, method=op.method), x)


@lower.register
def _(op: ops.SpaceToDepth, weights: Arrays, name: str, x: Any) -> Any:
    return space_to_depth(x, op.block, name)


@lower.register
def _(op: ops.Slice, weights: Arrays, name: str, x: Any) -> Any:
    assert op.stop is not None, op
    return composed(name, lambda own: own[..., op.start : op.stop], x)


@lower.register
def _(op: ops.ChannelShuffle, weights: Arrays, name: str, x: Any) -> Any:
    return channel_shuffle(x, op.groups, name)


@lower.register
def _(op: ops.LayerScale, weights: Arrays, name: str, x: Any) -> Any:
    axes = "abcdef"[: len(x.shape)]
    layer = keras.layers.EinsumDense(f"{axes},{axes[-1]}->{axes}", x.shape[1:], name=name, **UNDRAWN)
    return weighted(layer, weights, x)


@lower.register
def _(op: ops.Normalize, weights: Arrays, name: str, x: Any) -> Any:
    assert op.preset == "none", op
    mean, std = (np.array(values) for values in (op.mean, op.std))
    scale, offset = (1 / std).tolist(), (-mean / std).tolist()
    return keras.layers.Rescaling(_single(scale), _single(offset), name=name)(x)


@lower.register
def _(op: ops.Bgr, weights: Arrays, name: str, x: Any) -> Any:
    return composed(name, partial(keras.ops.flip, axis=-1), x)


def _single(values: list[float]) -> float | list[float]:
    return values if len(values) > 1 else values[0]
