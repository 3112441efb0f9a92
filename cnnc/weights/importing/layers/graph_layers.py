"""The operators of a graph that own weights, as units which layers of a file are held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Final

from cnnc import ops
from cnnc.ir import Graph, Node
from cnnc.ops.base import Shape
from cnnc.weights.importing.layers.file_layers import Kind, Read
from cnnc.weights.importing.layers.graph_steps import step_of
from cnnc.weights.importing.layers.layer_forms import Form, depthwise_form, flat_form, linear_form
from cnnc.weights.importing.layers.steps import Step, unknown

KINDS: Final[Mapping[type[ops.Op], Kind]] = {
    ops.Conv: "linear",
    ops.Dense: "linear",
    ops.Depthwise: "depthwise",
    ops.ConvTranspose: "transposed",
    ops.BatchNorm: "batch_norm",
    ops.LayerNorm: "norm",
    ops.GroupNorm: "norm",
    ops.LayerScale: "layer_scale",
    ops.Prelu: "prelu",
    ops.Embedding: "embedding",
    ops.Attention: "attention",
}
_POOLS: Final = (ops.AvgPool, ops.MaxPool)
_THROUGH: Final = (ops.Dropout, ops.Relu, ops.Relu6)


@dataclass(frozen=True)
class Unit:
    """An operator with weights, and the batch norm behind it where a file has the two folded into one.

    Attributes:
        node: the operator's node.
        norm: the batch norm's.
        forms: what a layer of a file may look like that fits, its own form first.
        reads: the units that it sees, as those of a file's layers.
        flattened: `(height, width, channels)` of a map that enters a dense layer as one row, if it has several places.
        is_shortcut: whether it is on a shorter branch of a sum, as a projection is.
        sees: what enters it.
        gives: what leaves it, the norm included.
        is_pooled: whether it reads a pool that keeps a map's size, as on the last branch of Inception's blocks.
    """

    node: Node
    norm: Node | None
    forms: tuple[Form, ...]
    reads: tuple[Read, ...]
    flattened: Shape | None = None
    is_shortcut: bool = False
    is_pooled: bool = False
    sees: Step = field(default_factory=unknown)
    gives: Step = field(default_factory=unknown)

    @property
    def name(self) -> str:
        return self.node.name


@dataclass(frozen=True)
class Target:
    """All units of a graph in its order."""

    graph: Graph
    units: tuple[Unit, ...]

    @cached_property
    def before(self) -> tuple[int, ...]:
        """For every unit those that its value depends on, as bits."""
        found: list[int] = []
        for unit in self.units:
            bits = 0
            for read in unit.reads:
                bits |= found[read.layer] | 1 << read.layer
            found.append(bits)
        return tuple(found)

    def is_before(self, first: int, second: int) -> bool:
        """Whether a unit's value enters that of another."""
        return bool(self.before[second] >> first & 1)


def foldable(graph: Graph) -> Mapping[str, Node]:
    """For each convolution or dense layer that a batch norm alone reads, that norm."""
    linear = (ops.Conv, ops.Depthwise, ops.Dense, ops.ConvTranspose)
    return {
        node.name: readers[0]
        for node in graph
        if isinstance(node.op, linear)
        and len(readers := graph.consumers[node.name]) == 1
        and isinstance(readers[0].op, ops.BatchNorm)
        and node.name not in {name for _, name in graph.outputs}
        and node.weights_of is None
    }


def units_of(graph: Graph, folded: Mapping[str, Node]) -> Target:
    """The units of a graph.

    Args:
        graph: the graph.
        folded: convolutions that are one unit with a norm, as `foldable` has them, or none.
    """
    norms = {norm.name for norm in folded.values()}
    values: dict[str, frozenset[Read]] = {}
    places: dict[str, int] = {}
    units: list[Unit] = []
    steps: dict[str, Step] = {}
    shorter = _shortcuts(graph)
    for node in graph:
        read = _read(node, values)
        owner = folded_into(folded, node.name) or node.owner
        weighted = bool(node.op.weights(*graph.input_shapes(node)))
        if graph.weights(node) and node.name not in norms:
            places[node.name] = len(units)
            order = tuple(sorted(read, key=lambda each: (each.layer, each.place)))
            norm = folded.get(node.name)
            flat, pooled = _flattened(graph, node), _is_pooled(graph, node)
            sees = steps[node.inputs[0]] if len(set(node.inputs)) == 1 else unknown()
            gives = Step("layer", name=node.name)
            units.append(Unit(node, norm, _forms(graph, node), order, flat, node.name in shorter, pooled, sees, gives))
        is_result = owner in places and weighted
        values[node.name] = frozenset({Read(places[owner])}) if is_result else read
        inputs = [steps[name] for name in node.inputs]
        steps[node.name] = units[places[owner]].gives if is_result else step_of(graph, node, inputs)
    return Target(graph, tuple(units))


def folded_into(folded: Mapping[str, Node], name: str) -> str | None:
    """The convolution that a norm is one with."""
    return next((conv for conv, norm in folded.items() if norm.name == name), None)


def _read(node: Node, values: Mapping[str, frozenset[Read]]) -> frozenset[Read]:
    if isinstance(node.op, ops.Concat):
        return frozenset(
            Read(read.layer, f"{read.place}.{place}" if read.place else str(place))
            for place, name in enumerate(node.inputs)
            for read in values[name]
        )
    return frozenset().union(*(values[name] for name in node.inputs))


def _forms(graph: Graph, node: Node) -> tuple[Form, ...]:
    weights = graph.weights(node)
    kind = KINDS[type(node.op)]
    if "kernel" not in weights:
        if kind == "embedding":
            return ((kind, *weights["table"].shape),)
        if kind == "attention":
            channels, heads, features = weights["query_kernel"].shape
            return ((kind, channels, heads * features),)
        return ((kind, prod(next(iter(weights.values())).shape)),)
    shape = weights["kernel"].shape
    taps, first, second = shape[:-2], shape[-2], shape[-1]
    flat = flat_form(prod(shape))
    if kind == "depthwise":
        forms = [depthwise_form(taps, first * second), linear_form(taps, 1, first * second)]
    elif kind == "transposed":
        forms = [linear_form(taps, second, first, kind)]
    else:
        forms = [linear_form(taps, first, second)]
    flattened = _flattened(graph, node)
    if flattened is not None:
        forms.append(linear_form(flattened[:-1], flattened[-1], second))
    return (*forms, flat)


def _flattened(graph: Graph, node: Node) -> Shape | None:
    """The map of several places that a dense layer sees as one row."""
    if not isinstance(node.op, ops.Dense):
        return None
    before = graph[node.inputs[0]]
    while isinstance(before.op, _THROUGH):
        before = graph[before.inputs[0]]
    if not isinstance(before.op, ops.Flatten):
        return None
    shape = graph[before.inputs[0]].shape
    return shape if prod(shape[:-1]) > 1 else None


def _is_pooled(graph: Graph, node: Node) -> bool:
    before = graph[node.inputs[0]]
    return isinstance(before.op, _POOLS) and before.shape == graph[before.inputs[0]].shape


def _shortcuts(graph: Graph) -> frozenset[str]:
    """Nodes with weights on a branch of a sum that has fewer of them than another."""
    weighted: dict[str, int] = {}
    names: list[str] = []
    found: set[str] = set()
    for node in graph:
        bits = 0
        for name in node.inputs:
            bits |= weighted[name]
        if isinstance(node.op, ops.Add):
            branches = [weighted[name] for name in node.inputs]
            common = branches[0]
            for branch in branches:
                common &= branch
            own = [branch & ~common for branch in branches]
            most = max(branch.bit_count() for branch in own)
            for branch in own:
                if branch.bit_count() < most:
                    found.update(names[i] for i in range(branch.bit_length()) if branch >> i & 1)
        if graph.weights(node):
            bits |= 1 << len(names)
            names.append(node.name)
        weighted[node.name] = bits
    return frozenset(found)
