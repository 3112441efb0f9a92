"""Arrays of Keras's classes of layers, in the order in which they are kept.

Source: `build` of the classes in keras/src/layers, version 3; Keras 2 has the same order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc.weights.importing.layers.file_layers import Kind, Role, SourceLayer, SourceTensor
from cnnc.weights.importing.readers.state_dict import name_layers, separable

Arrays = Sequence[NDArray[np.float32]]
_PLACES: Final = ("W", "HW", "DHW")


@dataclass(frozen=True)
class _Class:
    """A class's kind, its arrays' roles in order, and the axes of the first."""

    kind: Kind | None
    roles: tuple[Role, ...]
    layout: str = "O"


def _convolutions() -> dict[str, _Class]:
    found = {}
    for rank, space in enumerate(_PLACES, 1):
        found[f"Conv{rank}D"] = _Class("linear", ("kernel", "bias"), f"{space}IO")
        found[f"Conv{rank}DTranspose"] = _Class("transposed", ("kernel", "bias"), f"{space}OI")
        found[f"DepthwiseConv{rank}D"] = _Class("depthwise", ("kernel", "bias"), f"{space}CM")
    return found


CLASSES: Final[Mapping[str, _Class]] = {
    **_convolutions(),
    "Dense": _Class("linear", ("kernel", "bias"), "IO"),
    "BatchNormalization": _Class("batch_norm", ("gamma", "beta", "mean", "variance")),
    "LayerNormalization": _Class("norm", ("gamma", "beta")),
    "GroupNormalization": _Class("norm", ("gamma", "beta")),
    "PReLU": _Class("prelu", ("alpha",)),
    "Embedding": _Class("embedding", ("table",), "IO"),
    "LayerScale": _Class("layer_scale", ("gamma",)),
}
SEPARABLE: Final = ("SeparableConv1D", "SeparableConv2D")
IGNORED: Final[Mapping[str, str]] = {
    "Normalization": "what pictures are normalised by, and no weight",
    "SeedGenerator": "the state of random numbers",
    "Dropout": "the state of random numbers",
    "RandomFlip": "the state of random numbers",
}


def snake(name: str) -> str:
    """A class's name as paths in files have it: `DepthwiseConv2D` is `depthwise_conv2d`, `PReLU` is `p_re_lu`."""
    found = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", found).lower()


_BY_PATH: Final = {snake(name): name for name in (*CLASSES, *SEPARABLE, *IGNORED, "MultiHeadAttention", "EinsumDense")}


def class_of(part: str) -> str:
    """The class of a layer by its part of a path, `conv2d_3`; empty for one that is not known."""
    return _BY_PATH.get(part) or _BY_PATH.get(re.sub(r"_\d+$", "", part), "")


def make_layers(kind: str, name: str, arrays: Arrays, config: Mapping[str, Any] | None = None) -> list[SourceLayer]:
    """The layers that an object of a class is: one, two for a separable convolution; each array alone when unknown.

    Args:
        kind: the class's name, or empty for an attribute of another class, whose arrays then tell what it may be.
        name: what to call the layer.
        arrays: in the class's order.
        config: what the class was made with, where the file says it.
    """
    full = [f"{name}/{i}" for i in range(len(arrays))]
    known = CLASSES.get(kind)
    if kind == "EinsumDense" and arrays[0].ndim == 2 and _is_dense(config):
        known = CLASSES["Dense"]
    if kind == "EinsumDense" and arrays[0].ndim == 1:  # a number a channel, which we write so
        known = CLASSES["LayerScale"]
    if not kind:
        words = _WORDS.get(tuple(min(array.ndim, 2) for array in arrays))
        if words is not None:
            pairs = {f"{name}/{word}": array for word, array in zip(words, arrays, strict=True)}
            return list(name_layers(pairs, sort=False).layers)
    if kind in SEPARABLE and len(arrays) in (2, 3):
        words = ("depthwise_kernel", "pointwise_kernel", "bias")
        return separable(name, {w: SourceTensor(f"{name}/{w}", a) for w, a in zip(words, arrays, strict=False)})
    roles = _roles(known, len(arrays), config or {}) if known is not None else ()
    if known is None or len(roles) != len(arrays) or (known.layout != "O" and arrays[0].ndim != len(known.layout)):
        return [
            SourceLayer(each, None, {"kernel": SourceTensor(each, array)})
            for each, array in zip(full, arrays, strict=True)
        ]
    tensors = {}
    for role, array in zip(roles, arrays, strict=True):
        whole = known.layout != "O" and role == roles[0]
        tensors[role] = SourceTensor(
            f"{name}/{role}", array if whole else array.reshape(-1), (known.layout if whole else "O",)
        )
    return [SourceLayer(name, known.kind, tensors, epsilon=_epsilon(known, config))]


_WORDS: Final[Mapping[tuple[int, ...], tuple[str, ...]]] = {
    (2,): ("kernel",),
    (2, 1): ("kernel", "bias"),
    (1, 1): ("gamma", "beta"),
    (1, 1, 1, 1): ("gamma", "beta", "moving_mean", "moving_variance"),
}
"""Roles of arrays by their number of axes, 2 for more."""


def attention(name: str, parts: Mapping[str, Arrays]) -> SourceLayer:
    """Keras's MultiHeadAttention from its four maps: a kernel and perhaps a bias each."""
    tensors: dict[Role, SourceTensor] = {}
    for part, (kernel_role, bias_role) in _ATTENTION.items():
        kernel, *bias = parts[part]
        flat = kernel.reshape(-1, kernel.shape[-1]) if part == "output" else kernel.reshape(len(kernel), -1)
        tensors[kernel_role] = SourceTensor(f"{name}/{kernel_role}", flat, ("IO",))
        if bias:
            tensors[bias_role] = SourceTensor(f"{name}/{bias_role}", bias[0].reshape(-1), ("O",))
    return SourceLayer(name, "attention", tensors)


_ATTENTION: Final[Mapping[str, tuple[Role, Role]]] = {
    "query": ("query_kernel", "query_bias"),
    "key": ("key_kernel", "key_bias"),
    "value": ("value_kernel", "value_bias"),
    "output": ("output_kernel", "output_bias"),
}


def with_epsilon(layer: SourceLayer, config: Mapping[str, Any]) -> SourceLayer:
    """A norm with the epsilon that its object was made with."""
    known = layer.kind in ("batch_norm", "norm") and "epsilon" in config
    return replace(layer, epsilon=float(config["epsilon"])) if known else layer


def _roles(known: _Class, count: int, config: Mapping[str, Any]) -> tuple[Role, ...]:
    """The roles that are there: norms may lack a gamma or a beta, others a bias.

    Where the file does not say which, a norm of one or of three has beta: Keras's own networks leave out gamma alone.
    """
    if known.kind not in ("batch_norm", "norm"):
        return known.roles[:count]
    left_out = {role for role, word in (("gamma", "scale"), ("beta", "center")) if not config.get(word, True)}
    if not config and count == len(known.roles) - 1:
        left_out = {"gamma"}
    if not config and count == len(known.roles) - 2:
        left_out = {"gamma", "beta"}
    return tuple(role for role in known.roles if role not in left_out)


def _epsilon(known: _Class, config: Mapping[str, Any] | None) -> float | None:
    if known.kind not in ("batch_norm", "norm") or not config or "epsilon" not in config:
        return None
    return float(config["epsilon"])


def _is_dense(config: Mapping[str, Any] | None) -> bool:
    """Whether an EinsumDense is a matrix on the last axis: `...x,xy->...y`, `abc,cd->abd`."""
    found = re.fullmatch(r"(.*)(\w),(\w)(\w)->(.*)(\w)", str((config or {}).get("equation", "")).replace(" ", ""))
    if found is None:
        return False
    before, last, first, second, after, end = found.groups()
    return before == after and last == first and second == end
