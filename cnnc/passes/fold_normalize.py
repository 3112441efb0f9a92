"""Fold the normalisation of pixels, (x - mean) / std, into the layers that read it.

L ((x - m) / s) + b = (L / s) (x - m) + b: the division always folds, as 0 / s is 0 in any padding. The mean folds into
the bias, b - L m, where no window reads padding; elsewhere it would turn the zeros around the picture into -m.

A quantised input absorbs a mean and a deviation that all channels share in its scale and zero point, exactly and at no
cost. The passes for int8 leave these alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cnnc import ops
from cnnc.ir import Graph, Node
from cnnc.ir.model import Arrays, Model
from cnnc.passes.edit import hidden_readers, rewrite
from cnnc.passes.linear import Linear, Vector, affine_before, scale_inputs, takes_shift, with_bias

Choice = Callable[[Graph, Node], bool]


def fold_normalize_scale(model: Model) -> Model:
    """Fold the deviations of every normalisation that only linear operators read; its mean stays."""
    return _fold_scale(model, _is_any)


def fold_normalize_mean(model: Model) -> Model:
    """Fold the means of every normalisation that only dense layers and convolutions without padding read."""
    return _fold_mean(model, _is_any)


def fold_channel_normalize_scale(model: Model) -> Model:
    """As `fold_normalize_scale`, but for what the quantisation of an input absorbs."""
    return _fold_scale(model, _is_channelwise)


def fold_channel_normalize_mean(model: Model) -> Model:
    """As `fold_normalize_mean`, but for what the quantisation of an input absorbs."""
    return _fold_mean(model, _is_channelwise)


def is_input_scaling(graph: Graph, node: Node) -> bool:
    """Whether a node normalises an input by one mean and one deviation for all channels."""
    return (
        isinstance(node.op, ops.Normalize)
        and len(set(node.op.mean)) == len(set(node.op.std)) == 1
        and isinstance(graph[node.inputs[0]].op, ops.Input)
    )


def _fold_scale(model: Model, chosen: Choice) -> Model:
    graph = model.graph
    readers = hidden_readers(graph)
    nodes: dict[str, Node] = {}
    weights: dict[str, Arrays] = {}
    for node in graph:
        if not isinstance(node.op, ops.Normalize) or set(node.op.std) == {1.0} or not chosen(graph, node):
            continue
        if readers[node.name] and all(isinstance(reader.op, Linear) for reader in readers[node.name]):
            scale = 1 / _per_channel(node.op.std, node)
            for reader in readers[node.name]:
                assert isinstance(reader.op, Linear), reader
                own = model.weights[reader.name]
                weights[reader.name] = {**own, "kernel": scale_inputs(reader.op, own["kernel"], scale)}
            nodes[node.name] = replace(node, op=replace(node.op, std=(1.0,)))
    return rewrite(model, nodes=nodes, weights=weights)


def _fold_mean(model: Model, chosen: Choice) -> Model:
    graph = model.graph
    readers = hidden_readers(graph)
    nodes: dict[str, Node] = {}
    weights: dict[str, Arrays] = {}
    for node in graph:
        if not isinstance(node.op, ops.Normalize) or set(node.op.mean) == {0.0} or not chosen(graph, node):
            continue
        if readers[node.name] and all(takes_shift(graph, reader) for reader in readers[node.name]):
            shift = -_per_channel(node.op.mean, node) / _per_channel(node.op.std, node)
            for reader in readers[node.name]:
                assert isinstance(reader.op, Linear), reader
                nodes[reader.name] = with_bias(reader)
                own = model.weights[reader.name]
                weights[reader.name] = affine_before(reader.op, own, np.ones_like(shift), shift)
            nodes[node.name] = replace(node, op=replace(node.op, mean=(0.0,)))
    return rewrite(model, nodes=nodes, weights=weights)


def _per_channel(values: tuple[float, ...], node: Node) -> Vector:
    return np.broadcast_to(np.asarray(values, np.float64), node.shape[-1:])


def _is_any(graph: Graph, node: Node) -> bool:
    return True


def _is_channelwise(graph: Graph, node: Node) -> bool:
    return not is_input_scaling(graph, node)
