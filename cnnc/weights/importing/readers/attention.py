"""Self-attention among named arrays: its four maps are one layer, however they are stored.

Arrays come out with two axes, heads and their features in one: `OI` or `IO`, biases `O`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, get_args

import numpy as np

from cnnc.weights.importing.layers.file_layers import Array, Role, SourceLayer, SourceTensor

Groups = Mapping[str, Mapping[str, tuple[str, Array]]]
"""By a layer's name and the last word of its arrays' names: the whole name and the array."""
_QUERIES = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q", "k", "v"),
    ("query_dense", "key_dense", "value_dense"),
)
_OUTPUTS = ("attention_output", "output_dense", "out_proj", "o_proj", "out", "proj")
_PARTS = ("query", "key", "value")


def attentions(groups: Groups, separator: str) -> Iterator[tuple[SourceLayer, tuple[str, ...]]]:
    """Every self-attention and the groups that it is made of."""
    for name, arrays in groups.items():
        if "in_proj_weight" in arrays:
            yield from _joined(name, arrays, "in_proj_weight", "in_proj_bias", groups, (name,), separator)
        parent, _, last = name.rpartition(separator)
        if last == "qkv" and "weight" in arrays:
            yield from _joined(parent, arrays, "weight", "bias", groups, (name,), separator)
        for words in _QUERIES:
            if last == words[0]:
                yield from _apart(parent, words, groups, separator)


def _joined(
    name: str,
    arrays: Mapping[str, tuple[str, Array]],
    weight: str,
    bias: str,
    groups: Groups,
    owned: tuple[str, ...],
    separator: str,
) -> Iterator[tuple[SourceLayer, tuple[str, ...]]]:
    """Queries, keys and values below each other in one matrix, as torch.nn.MultiheadAttention and timm have them."""
    output = _output(name, groups, separator)
    full, kernel = arrays[weight]
    if output is None or kernel.ndim != 2 or kernel.shape[0] % 3:
        return
    if bias in arrays and arrays[bias][1].shape != kernel.shape[:1]:
        return
    tensors: dict[Role, SourceTensor] = {}
    for part, rows in zip(_PARTS, np.split(kernel, 3), strict=True):
        tensors[_role(part, "kernel")] = SourceTensor(f"{full}[{part}]", rows, ("OI",))
    if bias in arrays:
        full, values = arrays[bias]
        for part, row in zip(_PARTS, np.split(values, 3), strict=True):
            tensors[_role(part, "bias")] = SourceTensor(f"{full}[{part}]", row, ("O",))
    tensors |= _map("output", groups[output])
    yield SourceLayer(name, "attention", tensors), (*owned, output)


def _apart(
    parent: str, words: tuple[str, ...], groups: Groups, separator: str
) -> Iterator[tuple[SourceLayer, tuple[str, ...]]]:
    names = [f"{parent}{separator}{word}" if parent else word for word in words]
    output = _output(parent, groups, separator)
    if output is None or not all(name in groups and {"weight", "kernel"} & set(groups[name]) for name in names):
        return
    tensors: dict[Role, SourceTensor] = {}
    for part, name in zip(_PARTS, names, strict=True):
        tensors |= _map(part, groups[name])
    tensors |= _map("output", groups[output])
    yield SourceLayer(parent or "attention", "attention", tensors), (*names, output)


def _output(parent: str, groups: Groups, separator: str) -> str | None:
    names = [f"{parent}{separator}{word}" if parent else word for word in _OUTPUTS]
    return next((name for name in names if {"weight", "kernel"} & set(groups.get(name, ()))), None)


def _map(part: str, arrays: Mapping[str, tuple[str, Array]]) -> dict[Role, SourceTensor]:
    """A matrix and its bias, the heads' axis put together with their features'."""
    name, kernel = arrays["weight" if "weight" in arrays else "kernel"]
    if kernel.ndim == 3:
        kernel = kernel.reshape(-1, kernel.shape[-1]) if part == "output" else kernel.reshape(len(kernel), -1)
    found = {_role(part, "kernel"): SourceTensor(name, kernel, ("OI" if "weight" in arrays else "IO",))}
    if "bias" in arrays:
        name, values = arrays["bias"]
        found[_role(part, "bias")] = SourceTensor(name, values.reshape(-1), ("O",))
    return found


def _role(part: str, what: str) -> Role:
    return _ROLES[f"{part}_{what}"]


_ROLES: Final[Mapping[str, Role]] = {role: role for role in get_args(Role)}
