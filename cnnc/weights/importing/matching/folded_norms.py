"""Batch norms that only one side has: folded into the layers before them on the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from cnnc.ir import Graph
from cnnc.ops import BatchNorm
from cnnc.weights.importing.layers.file_layers import Read, Role, Source, SourceLayer, SourceTensor
from cnnc.weights.importing.layers.graph_layers import foldable
from cnnc.weights.importing.layers.layer_forms import readings

_EPSILON: Final = 1e-5
"""PyTorch's, for a file that does not say its own."""


def is_folded(graph: Graph, source: Source) -> bool:
    """Whether the file lacks the batch norms that can be one with the convolution before them."""
    norms = sum(isinstance(node.op, BatchNorm) and node.weights_of is None for node in graph)
    pairs = len(foldable(graph))
    return pairs > 0 and sum(layer.kind == "batch_norm" for layer in source.layers) <= norms - pairs


def without_norms(graph: Graph, source: Source) -> Source:
    """The file with its batch norms folded into convolutions, `(x - mean) * scale + beta`, if the graph has none."""
    if any(isinstance(node.op, BatchNorm) for node in graph):
        return source
    pairs = _pairs(source)
    if not pairs or len(pairs) < sum(layer.kind == "batch_norm" for layer in source.layers):
        return source
    layers = []
    into = {norm: conv for conv, norm in pairs.items()}
    kept = [place for place in range(len(source.layers)) if place not in into]
    places = {place: after for after, place in enumerate(kept)}
    for place in kept:
        layer = source.layers[place]
        own = layer if place not in pairs else _joined(layer, source.layers[pairs[place]])
        if own.reads is not None:
            reads = {Read(places[into.get(read.layer, read.layer)], read.place) for read in own.reads}
            own = replace(own, reads=tuple(sorted(reads, key=lambda read: (read.layer, read.place))))
        layers.append(own)
    return replace(source, layers=tuple(layers))


def _pairs(source: Source) -> dict[int, int]:
    """Convolutions and the norms right behind them, by places."""
    found: dict[int, int] = {}
    for place, layer in enumerate(source.layers):
        if layer.kind != "batch_norm":
            continue
        before = place - 1
        if layer.reads is not None:
            before = layer.reads[0].layer if len(layer.reads) == 1 else -1
        elif source.order == "names":
            return {}
        if before >= 0 and before not in found and "kernel" in source.layers[before].tensors:
            found[before] = place
    return found


def _joined(conv: SourceLayer, norm: SourceLayer) -> SourceLayer:
    arrays = {role: tensor.array.astype(np.float64) for role, tensor in norm.tensors.items()}
    epsilon = _EPSILON if norm.epsilon is None else norm.epsilon
    scale = arrays.get("gamma", np.float64(1)) / np.sqrt(arrays["variance"] + epsilon)
    kernel, bias = conv.tensors["kernel"], conv.tensors.get("bias")
    layout = readings(conv)[0].layout if readings(conv) else kernel.layouts[0]
    axis = next(place for place, letter in enumerate(layout) if letter in "OC")
    shape = [1] * kernel.array.ndim
    shape[axis] = -1
    before = np.float64(0) if bias is None else bias.array.astype(np.float64)
    offset = (before - arrays["mean"]) * scale + arrays.get("beta", np.float64(0))
    tensors: dict[Role, SourceTensor] = {
        "kernel": replace(kernel, array=(kernel.array * scale.reshape(shape)).astype(np.float32)),
        "bias": SourceTensor(f"{norm.name} folded", offset.astype(np.float32), ("O",)),
    }
    return replace(conv, tensors=tensors, gives=norm.gives)
