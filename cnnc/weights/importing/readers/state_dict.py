"""Arrays by name to layers: what belongs together, which role each array has, in which order its axes are.

The last word of a name says how its framework stores it: PyTorch's `weight` has outputs first, Keras's and Flax's
`kernel` has them last, and what older tools call `W` may be either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cnnc.weights.importing.layers.file_layers import Array, Kind, Role, SourceLayer, SourceTensor
from cnnc.weights.importing.readers.attention import attentions

Axes = Literal["first", "last", "either", "own"]
"""Where a kernel has its outputs; `own` is cnnc's way: last, but before the inputs in a transposed convolution."""

_ROLES: Final[Mapping[str, Role]] = {
    "bias": "bias",
    "biases": "bias",
    "b": "bias",
    "gamma": "gamma",
    "scale": "gamma",
    "beta": "beta",
    "offset": "beta",
    "running_mean": "mean",
    "moving_mean": "mean",
    "mean": "mean",
    "running_var": "variance",
    "moving_variance": "variance",
    "moving_var": "variance",
    "variance": "variance",
    "var": "variance",
    "embedding": "table",
    "embeddings": "table",
    "table": "table",
    "alpha": "alpha",
    "layer_scale_parameter": "gamma",
    "lambda1": "gamma",
    "query_kernel": "query_kernel",
    "query_bias": "query_bias",
    "key_kernel": "key_kernel",
    "key_bias": "key_bias",
    "value_kernel": "value_kernel",
    "value_bias": "value_bias",
    "output_kernel": "output_kernel",
    "output_bias": "output_bias",
}
"""The role of an array by the last word of its name; kernels aside."""
_KERNELS: Final[Mapping[str, Axes]] = {
    "weight": "first",
    "weights": "either",
    "W": "either",
    "w": "either",
    "kernel": "last",
    "depthwise_kernel": "last",
    "pointwise_kernel": "last",
}
_JOINED: Final = ("in_proj_weight", "in_proj_bias")
_WORDS: Final = sorted({*_ROLES, *_KERNELS, *_JOINED}, key=len, reverse=True)
_COUNTERS: Final = {"num_batches_tracked": "a counter", "step": "a counter", "iterations": "a counter"}
_SPACE: Final = {3: "W", 4: "HW", 5: "DHW"}
_TRANSPOSED: Final = re.compile(r"transpos|deconv|upconv|convtr|(^|[._/])up\d*([._/]|$)", re.IGNORECASE)
_FLAX_TRANSPOSED: Final = re.compile(r"ConvTranspose(_\d+)?$")
_EMBEDDING: Final = re.compile(r"embed|(^|[._/])(wte|wpe)$", re.IGNORECASE)
_PRELU: Final = re.compile(r"prelu|(^|[._/])act\w*$", re.IGNORECASE)
_SCALE: Final = re.compile(r"layer_?scale|(^|[._/])ls\d*$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Named:
    """Layers, and what among the arrays is no weight, with the reason."""

    layers: tuple[SourceLayer, ...]
    ignored: Mapping[str, str]


def name_layers(arrays: Mapping[str, NDArray[Any]], *, sort: bool, own: bool = False) -> Named:
    """The layers that arrays of these names belong to.

    Args:
        arrays: floats in any width, integers and others; in the file's order.
        sort: whether to bring layers into the natural order of their names.
        own: whether cnnc wrote them, as `<node>.<short>`.
    """
    ignored: dict[str, str] = {}
    groups: dict[str, dict[str, tuple[str, Array]]] = {}
    separator = "/" if any("/" in name for name in arrays) else "."
    for name, array in arrays.items():
        layer, word = split(name, separator)
        if word in _COUNTERS or array.dtype.kind not in "f":
            ignored[name] = _COUNTERS.get(word, f"{array.dtype}, and no weights")
        else:
            groups.setdefault(layer, {})[word] = (name, np.asarray(array, np.float32))
    if sort:
        groups = dict(sorted(groups.items(), key=lambda item: natural(item[0])))
    return Named(tuple(_layers(groups, separator, own)), ignored)


def split(name: str, separator: str) -> tuple[str, str]:
    """The layer and the last word of an array's name: `conv1/kernel:0`, `conv1.weight`, `conv1_W`."""
    plain = re.sub(r":\d+$", "", name)
    layer, _, word = plain.rpartition(separator)
    if word not in _ROLES and word not in _KERNELS and word not in _JOINED and word not in _COUNTERS:
        for known in _WORDS:
            if word.endswith(f"_{known}"):
                first = word.removesuffix(f"_{known}")
                return (f"{layer}{separator}{first}" if layer else first), known
    return layer, word


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that brings `layer2` before `layer10`."""
    return [_natural(part) for part in re.split(r"(\d+)", name) if part]


def _natural(part: str) -> tuple[int, int, str]:
    digits = part.lstrip("0")  # they may be more than a number may have
    return (0, len(digits), digits) if part.isdecimal() else (1, 0, part)


def _layers(groups: Mapping[str, Mapping[str, tuple[str, Array]]], separator: str, own: bool) -> list[SourceLayer]:
    found: dict[str, SourceLayer] = {}
    used: set[str] = set()
    for layer, names in attentions(groups, separator):
        found[names[0]] = layer
        used.update(names)
    layers = []
    for name, arrays in groups.items():
        if name in found:
            layers.append(found[name])
        if name not in used:
            layers.extend(_layer(name, arrays, own))
    return layers


def _layer(name: str, arrays: Mapping[str, tuple[str, Array]], own: bool) -> list[SourceLayer]:
    """The layer of a name, and one for each of its arrays whose place in it is not known."""
    tensors: dict[Role, SourceTensor] = {}
    alone: list[SourceLayer] = []
    kernels = [word for word in arrays if word in _KERNELS]
    if len(kernels) == 2 and set(kernels) == {"depthwise_kernel", "pointwise_kernel"}:
        return separable(name, {word: SourceTensor(*pair) for word, pair in arrays.items()})
    for word, (full, array) in arrays.items():
        role = _ROLES.get(word)
        if role is not None and role not in tensors:
            tensors[role] = SourceTensor(full, array.reshape(_flat(role, array)), _plain_layouts(role))
        elif word not in _KERNELS or word != kernels[0]:
            alone.append(SourceLayer(full, None, {"kernel": SourceTensor(full, array)}))
    kind: Kind | None = None
    if kernels:
        full, array = arrays[kernels[0]]
        axes: Axes = "own" if own else _KERNELS[kernels[0]]
        if array.ndim <= 1:
            kind = _vector(name, full, array, tensors)
        else:
            if axes == "last" and _FLAX_TRANSPOSED.search(name):  # it goes over its inputs as a convolution does
                array = np.flip(array, tuple(range(array.ndim - 2)))
            kind, role, layouts = _kernel(name, kernels[0], axes, array, tensors.get("bias"))
            tensors[role] = SourceTensor(full, array, layouts)
    elif tensors:
        kind = _without_kernel(name, tensors)
    return [*([SourceLayer(name or next(iter(arrays)), kind, tensors)] if tensors else ()), *alone]


def separable(name: str, arrays: Mapping[str, SourceTensor]) -> list[SourceLayer]:
    """The two layers that Keras's separable convolution is; its bias comes after the second."""
    space = _SPACE.get(arrays["depthwise_kernel"].array.ndim, "HW")
    first, second = arrays["depthwise_kernel"], arrays["pointwise_kernel"]
    depthwise = SourceTensor(first.name, first.array, (f"{space}CM",))
    tensors: dict[Role, SourceTensor] = {"kernel": SourceTensor(second.name, second.array, (f"{space}IO",))}
    if "bias" in arrays:
        tensors["bias"] = SourceTensor(arrays["bias"].name, arrays["bias"].array, ("O",))
    return [
        SourceLayer(f"{name}/depthwise", "depthwise", {"kernel": depthwise}),
        SourceLayer(f"{name}/pointwise", "linear", tensors),
    ]


def _vector(name: str, full: str, array: Array, tensors: dict[Role, SourceTensor]) -> Kind | None:
    """The kind of a layer whose `weight` has one axis: with statistics or a bias a norm, alone one of several."""
    if "bias" in tensors:
        tensors["beta"] = tensors.pop("bias")
    if "mean" not in tensors and "beta" not in tensors and (_PRELU.search(name) or array.size == 1):
        tensors["alpha"] = SourceTensor(full, array.reshape(-1), ("O",))
        return "prelu"
    tensors["gamma"] = SourceTensor(full, array, ("O",))
    return _without_kernel(name, tensors)


def _without_kernel(name: str, tensors: dict[Role, SourceTensor]) -> Kind | None:
    if {"gamma", "mean", "variance"} & set(tensors) and "bias" in tensors:
        tensors["beta"] = tensors.pop("bias")
    if "mean" in tensors or "variance" in tensors:
        return "batch_norm"
    if "query_kernel" in tensors:
        return "attention"
    if "table" in tensors:
        return "embedding"
    if "alpha" in tensors:
        return "prelu"
    if "gamma" in tensors and "beta" in tensors:
        return "norm"
    scales = "gamma" in tensors and (_SCALE.search(name) or tensors["gamma"].name.endswith("layer_scale_parameter"))
    return "layer_scale" if scales else None


def _kernel(
    name: str, word: str, axes: Axes, array: Array, bias: SourceTensor | None
) -> tuple[Kind | None, Role, tuple[str, ...]]:
    """Kind, role and possible orders of axes of an array of two axes or more."""
    space = _SPACE.get(array.ndim)
    if array.ndim == 2:
        if axes == "first" and bias is None and _EMBEDDING.search(name):
            return "embedding", "table", ("IO",)
        orders = {"first": ("OI",), "last": ("IO",), "own": ("IO",), "either": ("IO", "OI")}[axes]
        if bias is not None and axes == "either" and array.shape[0] != array.shape[1]:
            orders = ("IO",) if array.shape[1] == bias.array.size else ("OI",)
        return "linear", "kernel", orders
    if space is None:
        return None, "kernel", ()
    if axes == "own":
        return None, "kernel", (f"{space}IO", f"{space}CM", f"{space}OI")
    if axes == "either":
        return _either(space, array, bias)
    if axes == "first":
        return _outputs_first(name, space, array, bias)
    if word == "depthwise_kernel":
        return "depthwise", "kernel", (f"{space}CM",)
    if _FLAX_TRANSPOSED.search(name):
        return "transposed", "kernel", (f"{space}IO",)
    if bias is not None and bias.array.size == array.shape[-2] != array.shape[-1] > 1:
        return "transposed", "kernel", (f"{space}OI",)
    if array.shape[-2] == 1:
        return None, "kernel", (f"{space}IO", f"{space}1C")
    if array.shape[-1] == 1:
        return None, "kernel", (f"{space}CM", f"{space}IO")
    return "linear", "kernel", (f"{space}IO",)


def _outputs_first(
    name: str, space: str, array: Array, bias: SourceTensor | None
) -> tuple[Kind | None, Role, tuple[str, ...]]:
    """As `_kernel`, of PyTorch: a transposed convolution has inputs first, which its bias or its name may tell."""
    outputs, inputs = array.shape[:2]
    if bias is not None and bias.array.size == inputs != outputs:
        return "transposed", "kernel", (f"IO{space}",)
    if inputs == 1:
        return None, "kernel", (f"C1{space}", f"OI{space}")
    if _TRANSPOSED.search(name) and (bias is None or bias.array.size == inputs):
        return None, "kernel", (f"IO{space}", f"OI{space}")
    return "linear", "kernel", (f"OI{space}",)


def _either(space: str, array: Array, bias: SourceTensor | None) -> tuple[Kind | None, Role, tuple[str, ...]]:
    """As `_kernel`, of unknown making: the bias tells where outputs are; else both ways, the more usual sizes first."""
    last, first = f"{space}IO", f"OI{space}"
    if bias is not None and array.shape[0] != array.shape[-1] and bias.array.size in (array.shape[0], array.shape[-1]):
        return None, "kernel", (last if array.shape[-1] == bias.array.size else first,)
    usual = max(array.shape[:-2]) <= max(array.shape[2:])
    return None, "kernel", (last, first) if usual else (first, last)


def _flat(role: Role, array: Array) -> tuple[int, ...]:
    """The shape that an array is kept in: what belongs to channels has one axis, a map of attention two."""
    if role == "table":
        return array.shape
    if role == "output_kernel":
        return -1, array.shape[-1]
    return (len(array), -1) if role.endswith("_kernel") else (-1,)


def _plain_layouts(role: Role) -> tuple[str, ...]:
    return ("IO",) if role == "table" or role.endswith("_kernel") else ("O",)
