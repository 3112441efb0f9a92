"""Keras's layers by the rank of their input, with our weights, and with padding and crops in layers of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
from numpy.typing import NDArray

Pairs = Sequence[tuple[int, int]]
UNDRAWN = {"kernel_initializer": "zeros"}
"""Weights are replaced as soon as they are there; drawing them first takes as long as all the rest."""


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


def ranked(kind: str, x: Any, *arguments: Any, **options: Any) -> Any:
    """The layer that Keras has under this name for as many spatial axes as the input has."""
    return getattr(keras.layers, kind.format(len(x.shape) - 2))(*arguments, **options)


def weighted(layer: Any, weights: Arrays, *inputs: Any, kernel: NDArray[Any] | None = None) -> Any:
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


def padded(x: Any, padding: str | Pairs, name: str) -> tuple[Any, str]:
    """The input with explicit padding around it, and the word for what is left to pad."""
    if isinstance(padding, str):
        return x, padding
    if any(map(any, padding)):
        x = ranked("ZeroPadding{}D", x, sides(padding), name=f"{name}.pad")(x)
    return x, "valid"


def cropped(x: Any, amount: Pairs, name: str) -> Any:
    """The input without `amount` before and after along every spatial axis."""
    return ranked("Cropping{}D", x, sides(amount), name=name)(x)


def sides(pairs: Pairs) -> Any:
    """As Keras wants them: a pair an axis, and where there is one axis that pair alone."""
    return tuple(pairs) if len(pairs) > 1 else pairs[0]
