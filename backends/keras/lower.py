"""One Keras layer for every operator, or two where Keras has the padding or the crop in a layer of its own.

Kernels that are dilated where Keras cannot dilate are written out with the zeros between their values: the same
function, with more weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import singledispatch
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cnnc import ops
from cnnc.backends.keras import layers
from cnnc.ops.window import windows


class Arrays(Mapping[str, NDArray[Any]]):
    """A node's weights by their short names, and the layer that holds them, once there is one.

    Nodes that share weights share this, and so the layer.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays
        self.layer: Any = None

    def __getitem__(self, short: str) -> NDArray[Any]:
        return self._arrays[short]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


Pairs = Sequence[tuple[int, int]]

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
_UNDRAWN = {"kernel_initializer": "zeros"}
"""Weights are replaced as soon as they are there; drawing them first takes as long as all the rest."""
_LOWEST = float(np.finfo(np.float32).min)
"""What pads a maximum: a `.keras` file, which is JSON, has no infinity."""


@singledispatch
def lower(op: ops.Op, weights: Arrays, name: str, *inputs: Any) -> Any:
    """The operator's result as a Keras tensor, by layers called `name` or `name.<what they do>`."""
    raise AssertionError(f"no lowering for {op}")


@lower.register
def _(op: ops.Conv, weights: Arrays, name: str, x: Any) -> Any:
    kernel, dilation = _dilated(weights["kernel"], op.dilation, max(op.stride) > 1)
    return _convolve(op, weights, kernel, name, x, dilation, op.groups)


@lower.register
def _(op: ops.Depthwise, weights: Arrays, name: str, x: Any) -> Any:
    kernel, dilation = _dilated(weights["kernel"], op.dilation, max(op.stride) > 1)
    *sizes, channels, multiplier = kernel.shape
    if len(sizes) == 3 or len(set(op.stride)) > 1:
        grouped = kernel.reshape(*sizes, 1, channels * multiplier)
        return _convolve(op, weights, grouped, name, x, dilation, channels)
    x, padding = _padded(x, op.padding, name)
    layer = _ranked(
        "DepthwiseConv{}D",
        x,
        tuple(sizes) if len(sizes) > 1 else sizes[0],
        op.stride if len(sizes) > 1 else op.stride[0],
        padding,
        multiplier,
        dilation_rate=dilation if len(sizes) > 1 else dilation[0],
        use_bias="bias" in weights,
        depthwise_initializer="zeros",
        name=name,
    )
    return _weighted(layer, weights, x, kernel=kernel)


@lower.register
def _(op: ops.ConvTranspose, weights: Arrays, name: str, x: Any) -> Any:
    kernel, dilation = _dilated(weights["kernel"], op.dilation, True)
    sizes = kernel.shape[:-2]
    is_cut = not isinstance(op.padding, str)
    layer = _ranked(
        "Conv{}DTranspose",
        x,
        op.filters,
        sizes,
        op.stride,
        "valid" if is_cut else op.padding,
        dilation_rate=dilation,
        use_bias="bias" in weights,
        name=f"{name}.full" if is_cut else name,
        **_UNDRAWN,
    )
    full = _weighted(layer, weights, x, kernel=kernel)
    if not is_cut:
        return full
    axes = zip(full.shape[1:-1], op.windows(x.shape[1:]), strict=True)
    return _cropped(full, [(axis.before, n - axis.before - axis.size) for n, axis in axes], name)


@lower.register
def _(op: ops.Dense, weights: Arrays, name: str, x: Any) -> Any:
    layer = keras.layers.Dense(op.units, use_bias="bias" in weights, name=name, **_UNDRAWN)
    return _weighted(layer, weights, x)


@lower.register
def _(op: ops.Embedding, weights: Arrays, name: str, x: Any) -> Any:
    layer = keras.layers.Embedding(op.vocabulary, op.features, embeddings_initializer="zeros", name=name)
    return _weighted(layer, weights, x)


@lower.register
def _(op: ops.Attention, weights: Arrays, name: str, x: Any) -> Any:
    axes = tuple(range(1, len(x.shape) - 1))
    layer = keras.layers.MultiHeadAttention(op.heads, op.key_features, attention_axes=axes, name=name, **_UNDRAWN)
    return _weighted(layer, weights, x, x)


@lower.register
def _(op: ops.BatchNorm, weights: Arrays, name: str, x: Any) -> Any:
    layer = keras.layers.BatchNormalization(
        momentum=op.momentum, epsilon=op.epsilon, center=op.center, scale=op.scale, name=name
    )
    return _weighted(layer, weights, x)


@lower.register
def _(op: ops.LayerNorm, weights: Arrays, name: str, x: Any) -> Any:
    layer = keras.layers.LayerNormalization(epsilon=op.epsilon, center=op.center, scale=op.scale, name=name)
    return _weighted(layer, weights, x)


@lower.register
def _(op: ops.GroupNorm, weights: Arrays, name: str, x: Any) -> Any:
    layer = keras.layers.GroupNormalization(op.groups, epsilon=op.epsilon, center=op.center, scale=op.scale, name=name)
    return _weighted(layer, weights, x)


@lower.register
def _(op: ops.LocalResponseNorm, weights: Arrays, name: str, x: Any) -> Any:
    return layers.LocalResponseNorm(op.radius, op.alpha, op.beta, op.bias, name=name)(x)


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
    return _weighted(keras.layers.PReLU(shared_axes=list(range(1, len(x.shape) - 1)) or None, name=name), weights, x)


@lower.register
def _(op: ops.Elu, weights: Arrays, name: str, x: Any) -> Any:
    return keras.layers.ELU(op.alpha, name=name)(x)


@lower.register
def _(op: ops.Gelu, weights: Arrays, name: str, x: Any) -> Any:
    return layers.TanhGelu(name=name)(x) if op.approximate else keras.layers.Activation("gelu", name=name)(x)


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
        x, padding = layers.Pad(padding, _LOWEST, name=f"{name}.pad")(x), "valid"
    return _ranked("MaxPooling{}D", x, op.kernel, op.stride, padding, name=name)(x)


@lower.register
def _(op: ops.AvgPool, weights: Arrays, name: str, x: Any) -> Any:
    assert op.stride is not None, op
    padding = op.padding
    if op.count_padding:
        found = windows(x.shape[1:], op.kernel, op.stride, (1,) * len(op.kernel), padding)
        x, padding = _padded(x, [(axis.before, max(axis.after, 0)) for axis in found], name)
    if not isinstance(padding, str):
        return layers.AveragePooling(op.kernel, op.stride, padding, name=name)(x)
    return _ranked("AveragePooling{}D", x, op.kernel, op.stride, padding, name=name)(x)


@lower.register
def _(op: ops.GlobalPool, weights: Arrays, name: str, x: Any) -> Any:
    mode = {"average": "Average", "max": "Max"}[op.mode]
    return _ranked(f"Global{mode}Pooling{{}}D", x, keepdims=op.keepdims, name=name)(x)


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
    return layers.Positions(op.base, name=name)(x)


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
    return layers.Matmul(name=name)([first, second])


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
        return layers.Pad(op.amount, op.value, name=name)(x)
    return _ranked("ZeroPadding{}D", x, _sides(op.amount), name=name)(x)


@lower.register
def _(op: ops.Crop, weights: Arrays, name: str, x: Any) -> Any:
    assert not isinstance(op.amount, str), op
    return _cropped(x, op.amount, name)


@lower.register
def _(op: ops.Resize, weights: Arrays, name: str, x: Any) -> Any:
    sizes = op.infer(x.shape[1:])[:-1]
    scales = [divmod(m, n) for n, m in zip(x.shape[1:-1], sizes, strict=True)]
    if op.method == "nearest" and not any(rest for _, rest in scales):
        scale = tuple(whole for whole, _ in scales)
        return _ranked("UpSampling{}D", x, scale if len(scale) > 1 else scale[0], name=name)(x)
    return layers.Resize(sizes, op.method, name=name)(x)


@lower.register
def _(op: ops.SpaceToDepth, weights: Arrays, name: str, x: Any) -> Any:
    return layers.SpaceToDepth(op.block, name=name)(x)


@lower.register
def _(op: ops.Slice, weights: Arrays, name: str, x: Any) -> Any:
    assert op.stop is not None, op
    return layers.Slice(op.start, op.stop, name=name)(x)


@lower.register
def _(op: ops.ChannelShuffle, weights: Arrays, name: str, x: Any) -> Any:
    return layers.ChannelShuffle(op.groups, name=name)(x)


@lower.register
def _(op: ops.LayerScale, weights: Arrays, name: str, x: Any) -> Any:
    return _weighted(layers.LayerScale(op.value, name=name), weights, x)


@lower.register
def _(op: ops.Normalize, weights: Arrays, name: str, x: Any) -> Any:
    assert op.preset == "none", op
    mean, std = (np.array(values) for values in (op.mean, op.std))
    scale, offset = (1 / std).tolist(), (-mean / std).tolist()
    return keras.layers.Rescaling(_single(scale), _single(offset), name=name)(x)


@lower.register
def _(op: ops.Bgr, weights: Arrays, name: str, x: Any) -> Any:
    return layers.ReverseChannels(name=name)(x)


def _convolve(
    op: ops.Conv | ops.Depthwise,
    weights: Arrays,
    kernel: NDArray[Any],
    name: str,
    x: Any,
    dilation: tuple[int, ...],
    groups: int,
) -> Any:
    x, padding = _padded(x, op.padding, name)
    *sizes, _, filters = kernel.shape
    layer = _ranked(
        "Conv{}D",
        x,
        filters,
        tuple(sizes),
        op.stride,
        padding,
        dilation_rate=dilation,
        groups=groups,
        use_bias="bias" in weights,
        name=name,
        **_UNDRAWN,
    )
    return _weighted(layer, weights, x, kernel=kernel)


def _ranked(kind: str, x: Any, *arguments: Any, **options: Any) -> Any:
    """The layer that Keras has under this name for as many spatial axes as the input has."""
    return getattr(keras.layers, kind.format(len(x.shape) - 2))(*arguments, **options)


def _weighted(layer: Any, weights: Arrays, *inputs: Any, kernel: NDArray[Any] | None = None) -> Any:
    """The result of a layer whose weights are ours: in our order and layout, but for a PReLU's axes of one.

    Where a layer holds these weights already it is that one which is called; `kernel` is as Keras's layer wants it.
    """
    if weights.layer is not None:
        return weights.layer(*inputs)
    result = layer(*inputs)
    arrays = (array if kernel is None or short != "kernel" else kernel for short, array in weights.items())
    layer.set_weights([array.reshape(own.shape) for array, own in zip(arrays, layer.weights, strict=True)])
    weights.layer = layer
    return result


def _padded(x: Any, padding: str | Pairs, name: str) -> tuple[Any, str]:
    """The input with explicit padding around it, and the word for what is left to pad."""
    if isinstance(padding, str):
        return x, padding
    if any(map(any, padding)):
        x = _ranked("ZeroPadding{}D", x, _sides(padding), name=f"{name}.pad")(x)
    return x, "valid"


def _cropped(x: Any, amount: Pairs, name: str) -> Any:
    return _ranked("Cropping{}D", x, _sides(amount), name=name)(x)


def _sides(pairs: Pairs) -> Any:
    """As Keras wants them: a pair an axis, and where there is one axis that pair alone."""
    return tuple(pairs) if len(pairs) > 1 else pairs[0]


def _dilated(kernel: NDArray[Any], dilation: tuple[int, ...], write_out: bool) -> tuple[NDArray[Any], tuple[int, ...]]:
    """The kernel and its dilation, which is 1 where its zeros are written out."""
    if not write_out or max(dilation) == 1:
        return kernel, dilation
    extents = [(n - 1) * d + 1 for n, d in zip(kernel.shape[:-2], dilation, strict=True)]
    spread = np.zeros((*extents, *kernel.shape[-2:]), kernel.dtype)
    spread[tuple(slice(None, None, step) for step in dilation)] = kernel
    return spread, (1,) * len(dilation)


def _single(values: list[float]) -> float | list[float]:
    return values if len(values) > 1 else values[0]
