"""The one way in which passes change a model: many nodes at once, in time linear in the graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from cnnc.ir import Graph, Node
from cnnc.passes.model import Arrays, Model

NOTHING: Mapping[str, str] = {}


def hidden_readers(graph: Graph) -> dict[str, tuple[Node, ...]]:
    """For every node the nodes that read it, or none where it is an output: what a pass may fold a node into."""
    seen = {name for _, name in graph.outputs}
    return {name: () if name in seen else readers for name, readers in graph.consumers.items()}


def rewrite(
    model: Model,
    *,
    nodes: Mapping[str, Node] | None = None,
    weights: Mapping[str, Arrays] | None = None,
    aliases: Mapping[str, str] = NOTHING,
) -> Model:
    """The model with some nodes changed and others taken out; itself where there is nothing to do.

    Args:
        model: the model.
        nodes: new nodes by the names of those in whose places they come. Inputs may be written as before the edit.
        weights: the new arrays of nodes, all of a node's.
        aliases: what leaves, each with the node that its readers and outputs read instead, which may itself leave.
    """
    if not nodes and not weights and not aliases:
        return model
    graph = model.graph
    changed = nodes or {}
    found: dict[str, str] = {}
    for node in graph:
        if node.name in aliases:
            target = aliases[node.name]
            found[node.name] = found.get(target, target)
    kept = tuple(_redirect(changed.get(node.name, node), found) for node in graph if node.name not in aliases)
    outputs = tuple((label, found.get(name, name)) for label, name in graph.outputs)
    arrays = {**model.weights, **(weights or {})}
    return Model(Graph(graph.name, kept, outputs), {name: own for name, own in arrays.items() if name not in aliases})


def without(model: Model, names: Collection[str]) -> Model:
    """The model without nodes that nothing reads."""
    if not names:
        return model
    nodes = tuple(node for node in model.graph if node.name not in names)
    weights = {name: arrays for name, arrays in model.weights.items() if name not in names}
    return Model(replace(model.graph, nodes=nodes), weights)


def _redirect(node: Node, found: Mapping[str, str]) -> Node:
    if not any(name in found for name in node.inputs):
        return node
    return replace(node, inputs=tuple(found.get(name, name) for name in node.inputs))
