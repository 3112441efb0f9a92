"""Layers that Keras lacks, of layers and operations that it has: files need nothing but Keras to be read.

Operations come in a model of their own, which bears the name of the layer that it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from cnnc.backends.keras.weighted import Pairs, ranked


def composed(name: str, function: Callable[..., Any], *inputs: Any) -> Any:
    """The result of Keras's operations, as a layer of this name."""
    own = [keras.Input(x.shape[1:], dtype=x.dtype) for x in inputs]
    single = len(own) == 1
    model = keras.Model(own[0] if single else own, function(*own), name=name)
    return model(inputs[0] if single else list(inputs))


def local_response_norm(x: Any, radius: int, alpha: float, beta: float, bias: float) -> Any:
    """Krizhevsky et al. 2012: x_c / (bias + alpha * sum of x_i^2 for |i - c| <= radius)^beta."""
    channels, width = x.shape[-1], 2 * radius + 1
    square = ops.pad(ops.reshape(ops.square(x), (-1, channels, 1)), [[0, 0], [radius, radius], [0, 0]])
    mean = keras.layers.AveragePooling1D(width, 1)(square)
    energy = ops.reshape(mean, (-1, *x.shape[1:])) * width
    return x / (bias + alpha * energy) ** beta


def pad(x: Any, amount: Pairs, value: float) -> Any:
    """`amount` of `value`, before and after, around every spatial axis."""
    return ops.pad(x, [[0, 0], *map(list, amount), [0, 0]], constant_values=value)


def average_pool(x: Any, kernel: Sequence[int], stride: Sequence[int], amount: Pairs) -> Any:
    """The mean of what every window holds of the input, with `amount` of padding that does not count."""
    pool = ranked("AveragePooling{}D", x, kernel, stride)
    return pool(pad(x, amount, 0)) / pool(pad(ops.ones_like(x), amount, 0))


def resize(x: Any, sizes: Sequence[int], method: str) -> Any:
    """Any size along 1, 2 or 3 axes, `nearest` or `bilinear`, with half-pixel centres and no antialiasing."""
    for axis, m in enumerate(sizes, 1):
        x = _nearest(x, axis, m) if method == "nearest" else _linear(x, axis, m)
    return x


def _nearest(x: Any, axis: int, m: int) -> Any:
    return ops.take(x, [(2 * i + 1) * x.shape[axis] // (2 * m) for i in range(m)], axis)


def _linear(x: Any, axis: int, m: int) -> Any:
    n = x.shape[axis]
    at = (np.arange(m) + 0.5) * n / m - 0.5
    low = np.floor(at).astype(int)
    share = (at - low).reshape(-1, *[1] * (len(x.shape) - 1 - axis)).astype(np.float32)
    below, above = (ops.take(x, np.clip(index, 0, n - 1).tolist(), axis) for index in (low, low + 1))
    return below * (1 - share) + above * share


def space_to_depth(x: Any, block: int, name: str) -> Any:
    """Every cell of `block` values a spatial axis becomes channels: row, column, channel."""
    _, *sizes, channels = x.shape
    rank = len(sizes)
    cells = [n for size in sizes for n in (size // block, block)]
    order = (*range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    deep = (*(size // block for size in sizes), channels * block**rank)
    x = keras.layers.Reshape((*cells, channels), name=f"{name}.cells")(x)
    return keras.layers.Reshape(deep, name=name)(keras.layers.Permute(order, name=f"{name}.turned")(x))


def channel_shuffle(x: Any, groups: int, name: str) -> Any:
    """The first channel of each of `groups` runs of channels, then the second of each, and so on."""
    _, *sizes, channels = x.shape
    rank = len(sizes)
    x = keras.layers.Reshape((*sizes, groups, channels // groups), name=f"{name}.runs")(x)
    x = keras.layers.Permute((*range(1, rank + 1), rank + 2, rank + 1), name=f"{name}.turned")(x)
    return keras.layers.Reshape((*sizes, channels), name=name)(x)


def shifted(x: Any, table: Any, name: str) -> Any:
    """The input plus a table of its shape without the batch, by a normalisation whose deviations are 1."""
    layer = keras.layers.Normalization(axis=tuple(range(1, len(x.shape))), name=name)
    layer.build(x.shape)
    layer.set_weights([-table.astype(np.float32), np.ones(table.shape, np.float32), np.array(0)])
    layer.finalize_state()
    return layer(x)
