"""The ways in which passes change a model: many nodes at once, in time linear in the graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from math import inf

from cnnc.ir import Graph, Node
from cnnc.ir.model import Arrays, Model

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
    targets: dict[str, str] = {}
    for node in graph:
        if node.name in aliases:
            target = aliases[node.name]
            targets[node.name] = targets.get(target, target)
    kept = tuple(_redirect(changed.get(node.name, node), targets) for node in graph if node.name not in aliases)
    outputs = tuple((label, targets.get(name, name)) for label, name in graph.outputs)
    arrays = {**model.weights, **(weights or {})}
    return Model(Graph(graph.name, kept, outputs), {name: own for name, own in arrays.items() if name not in aliases})


def without(model: Model, names: Collection[str]) -> Model:
    """The model without nodes that nothing reads."""
    if not names:
        return model
    nodes = tuple(node for node in model.graph if node.name not in names)
    weights = {name: arrays for name, arrays in model.weights.items() if name not in names}
    return Model(replace(model.graph, nodes=nodes), weights)


class Draft:
    """A model in rewriting, in the order of its graph: what is looked at shows what was changed before.

    The name of a node that was left out stands for the one that is read in its place.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._readers = {name: float(len(nodes)) for name, nodes in model.graph.consumers.items()}
        self._readers |= dict.fromkeys((name for _, name in model.graph.outputs), inf)
        self._nodes: dict[str, Node] = {}
        self._weights: dict[str, Arrays] = {}
        self._aliases: dict[str, str] = {}
        self._unread: set[str] = set()

    def node(self, name: str) -> Node:
        name = self._aliases.get(name, name)
        return _redirect(self._nodes.get(name, self._model.graph[name]), self._aliases)

    def weights(self, node: Node) -> Arrays:
        return self._weights.get(node.name, self._model.weights.get(node.name, {}))

    def has_one_reader(self, node: Node) -> bool:
        """Whether a node is read once and is no output, so that its reader may take its place."""
        return self._readers[node.name] == 1

    def put(self, node: Node, weights: Arrays | None = None) -> None:
        """Put a node in the place of the one of its name, with other weights if given."""
        self._nodes[node.name] = node
        if weights is not None:
            self._weights[node.name] = weights

    def drop(self, node: Node) -> None:
        """Leave a node out that nothing reads any more."""
        self._unread.add(node.name)

    def bypass(self, node: Node, instead: Node) -> None:
        """Leave a node out, and have its readers read one before it that it was reading."""
        self._aliases[node.name] = instead.name
        self._readers[instead.name] += self._readers[node.name] - 1

    def finish(self) -> Model:
        """The model after all changes; itself where there were none."""
        changed = rewrite(self._model, nodes=self._nodes, weights=self._weights, aliases=self._aliases)
        return without(changed, self._unread)


def _redirect(node: Node, targets: Mapping[str, str]) -> Node:
    if not any(name in targets for name in node.inputs):
        return node
    return replace(node, inputs=tuple(targets.get(name, name) for name in node.inputs))
