"""What Keras has no layer for, as layers that save and load: importing this module makes them known to `load_model`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from cnnc.ops import Positions as Encoding


@keras.saving.register_keras_serializable(package="cnnc")
class LocalResponseNorm(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Krizhevsky et al. 2012: x_c / (bias + alpha * sum of x_i^2 for |i - c| <= radius)^beta."""

    def __init__(self, radius: int, alpha: float, beta: float, bias: float, **options: Any) -> None:
        super().__init__(**options)
        self.settings = {"radius": radius, "alpha": alpha, "beta": beta, "bias": bias}

    def call(self, x: Any) -> Any:
        channels = np.arange(x.shape[-1])
        near = np.abs(channels[:, None] - channels) <= self.settings["radius"]
        energy = ops.matmul(ops.square(x), ops.cast(near, x.dtype))
        return x / (self.settings["bias"] + self.settings["alpha"] * energy) ** self.settings["beta"]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable(package="cnnc")
class Pad(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """`amount` of `value`, before and after, around every spatial axis: Keras itself pads with zeros alone."""

    def __init__(self, amount: Sequence[Sequence[int]], value: float, **options: Any) -> None:
        super().__init__(**options)
        self.amount, self.value = [list(pair) for pair in amount], value

    def call(self, x: Any) -> Any:
        return ops.pad(x, [[0, 0], *self.amount, [0, 0]], constant_values=self.value)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "amount": self.amount, "value": self.value}


@keras.saving.register_keras_serializable(package="cnnc")
class AveragePooling(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """The mean of what every window holds of the input, with `amount` of padding that does not count."""

    def __init__(
        self, pool_size: Sequence[int], strides: Sequence[int], amount: Sequence[Sequence[int]], **options: Any
    ) -> None:
        super().__init__(**options)
        self.pool_size, self.strides, self.amount = list(pool_size), list(strides), [list(pair) for pair in amount]

    def call(self, x: Any) -> Any:
        return self._mean(x) / self._mean(ops.ones_like(x))

    def get_config(self) -> dict[str, Any]:
        own = {"pool_size": self.pool_size, "strides": self.strides, "amount": self.amount}
        return {**super().get_config(), **own}

    def _mean(self, x: Any) -> Any:
        padded = ops.pad(x, [[0, 0], *self.amount, [0, 0]])
        return ops.average_pool(padded, tuple(self.pool_size), tuple(self.strides), "valid", "channels_last")


@keras.saving.register_keras_serializable(package="cnnc")
class Resize(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Any size along 1, 2 or 3 axes, `nearest` or `bilinear`, with half-pixel centres and no antialiasing."""

    def __init__(self, sizes: Sequence[int], method: str, **options: Any) -> None:
        super().__init__(**options)
        self.sizes, self.method = list(sizes), method

    def call(self, x: Any) -> Any:
        for axis, m in enumerate(self.sizes, 1):
            x = self._along(x, axis, x.shape[axis], m)
        return x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sizes": self.sizes, "method": self.method}

    def _along(self, x: Any, axis: int, n: int, m: int) -> Any:
        if self.method == "nearest":
            return ops.take(x, (2 * np.arange(m) + 1) * n // (2 * m), axis)
        at = (np.arange(m) + 0.5) * n / m - 0.5
        low = np.floor(at).astype(int)
        share = ops.cast((at - low).reshape(-1, *[1] * (len(x.shape) - 1 - axis)), x.dtype)
        below, above = (ops.take(x, np.clip(index, 0, n - 1), axis) for index in (low, low + 1))
        return below * (1 - share) + above * share


@keras.saving.register_keras_serializable(package="cnnc")
class SpaceToDepth(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Every cell of `block` values a spatial axis becomes channels: row, column, channel."""

    def __init__(self, block: int, **options: Any) -> None:
        super().__init__(**options)
        self.block = block

    def call(self, x: Any) -> Any:
        _, *sizes, channels = x.shape
        rank = len(sizes)
        cells = ops.reshape(x, (-1, *(n for size in sizes for n in (size // self.block, self.block)), channels))
        order = (0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
        deep = channels * self.block**rank
        return ops.reshape(ops.transpose(cells, order), (-1, *(size // self.block for size in sizes), deep))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "block": self.block}


@keras.saving.register_keras_serializable(package="cnnc")
class Slice(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """The channels from `start` up to, not including, `stop`."""

    def __init__(self, start: int, stop: int, **options: Any) -> None:
        super().__init__(**options)
        self.start, self.stop = start, stop

    def call(self, x: Any) -> Any:
        return x[..., self.start : self.stop]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "start": self.start, "stop": self.stop}


@keras.saving.register_keras_serializable(package="cnnc")
class ChannelShuffle(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """The first channel of each of `groups` runs of channels, then the second of each, and so on."""

    def __init__(self, groups: int, **options: Any) -> None:
        super().__init__(**options)
        self.groups = groups

    def call(self, x: Any) -> Any:
        _, *sizes, channels = x.shape
        runs = ops.reshape(x, (-1, *sizes, self.groups, channels // self.groups))
        return ops.reshape(ops.swapaxes(runs, -1, -2), (-1, *sizes, channels))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups}


@keras.saving.register_keras_serializable(package="cnnc")
class LayerScale(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Every channel times a learnt number, `value` at first."""

    def __init__(self, value: float, **options: Any) -> None:
        super().__init__(**options)
        self.value = value

    def build(self, shape: Any) -> None:
        self.gamma = self.add_weight(
            name="gamma", shape=(shape[-1],), initializer=keras.initializers.Constant(self.value)
        )

    def call(self, x: Any) -> Any:
        return x * self.gamma

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "value": self.value}


@keras.saving.register_keras_serializable(package="cnnc")
class Positions(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """The input with the sines and cosines of its positions added, whose wavelengths end at `base`."""

    def __init__(self, base: float, **options: Any) -> None:
        super().__init__(**options)
        self.base = base

    def call(self, x: Any) -> Any:
        return x + Encoding(self.base).table(x.shape[1:])[None].astype("float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "base": self.base}


@keras.saving.register_keras_serializable(package="cnnc")
class Matmul(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """The matrix product of two inputs along their last axes."""

    def call(self, inputs: Any) -> Any:
        first, second = inputs
        return ops.matmul(first, second)


@keras.saving.register_keras_serializable(package="cnnc")
class ReverseChannels(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Red, green, blue become blue, green, red."""

    def call(self, x: Any) -> Any:
        return ops.flip(x, axis=-1)


@keras.saving.register_keras_serializable(package="cnnc")
class TanhGelu(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Gelu by its authors' tanh."""

    def call(self, x: Any) -> Any:
        return ops.gelu(x, approximate=True)
