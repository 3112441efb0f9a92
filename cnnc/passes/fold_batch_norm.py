"""Fold batch norms into the convolutions, transposed convolutions and dense layers beside them.

At inference a batch norm is an affine map of every channel, y = s x + t with s = gamma / sqrt(variance + epsilon) and
t = beta - s mean. `cnnc.passes.linear` says what that makes of a kernel and a bias before it or after it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cnnc import ops
from cnnc.ir import Node
from cnnc.ir.model import Arrays, Model
from cnnc.passes.edit import hidden_readers, rewrite
from cnnc.passes.linear import Linear, Vector, affine_after, affine_before, takes_shift, with_bias


def fold_batch_norm(model: Model) -> Model:
    """Fold every batch norm that alone reads a linear operator into it, which keeps its name and gets a bias."""
    graph = model.graph
    readers = hidden_readers(graph)
    nodes: dict[str, Node] = {}
    weights: dict[str, Arrays] = {}
    fused: dict[str, str] = {}
    for node in graph:
        if not isinstance(node.op, ops.BatchNorm) or len(readers[node.inputs[0]]) != 1:
            continue
        # What it reads may be a batch norm that has just become part of a convolution.
        source = fused.get(node.inputs[0], node.inputs[0])
        linear = graph[source]
        if isinstance(linear.op, Linear):
            own = weights.get(source, model.weights[source])
            nodes[source] = with_bias(linear)
            weights[source] = affine_after(linear.op, own, *affine_of(node.op, model.weights[node.name]))
            fused[node.name] = source
    return rewrite(model, nodes=nodes, weights=weights, aliases=fused)


def fold_batch_norm_forward(model: Model) -> Model:
    """Fold every batch norm that only dense layers and convolutions without padding read into all of them.

    Of two in a row the second goes first, and then the other.
    """
    while (folded := _fold_forward(model)) is not model:
        model = folded
    return model


def _fold_forward(model: Model) -> Model:
    graph = model.graph
    readers = hidden_readers(graph)
    nodes: dict[str, Node] = {}
    weights: dict[str, Arrays] = {}
    aliases: dict[str, str] = {}
    for node in graph:
        if not isinstance(node.op, ops.BatchNorm) or not readers[node.name]:
            continue
        if all(takes_shift(graph, reader) for reader in readers[node.name]):
            scale, shift = affine_of(node.op, model.weights[node.name])
            for reader in readers[node.name]:
                assert isinstance(reader.op, Linear), reader
                nodes[reader.name] = with_bias(reader)
                weights[reader.name] = affine_before(reader.op, model.weights[reader.name], scale, shift)
            aliases[node.name] = node.inputs[0]
    return rewrite(model, nodes=nodes, weights=weights, aliases=aliases) if aliases else model


def affine_of(op: ops.BatchNorm, weights: Mapping[str, Vector]) -> tuple[Vector, Vector]:
    """A batch norm's scale and shift in float64, `(channels,)` each."""
    variance = weights["variance"].astype(np.float64)
    scale: Vector = weights.get("gamma", np.ones_like(variance)) / np.sqrt(variance + op.epsilon)
    shift: Vector = weights.get("beta", np.zeros_like(variance)) - scale * weights["mean"]
    return scale, shift
