"""Diagrams: boxes of lines and the edges between them, without positions.

A labelled pipeline is one box with a line a layer (norms and activations stay on the line of what they follow), a
repeat one box with a count and the lines of its typical turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cnnc.ir import Graph, Node
from cnnc.ops import Input, format_shape
from cnnc.rendering.drawing.lines import Line, lines_of, merge_turns
from cnnc.rendering.folding import Group, Item, flatten, fold


@dataclass(frozen=True)
class Part:
    """A box. `notes` are lines that other turns of a repeat have in place of those shown; `shape` is what comes out."""

    kind: Literal["input", "layers", "repeat", "output"]
    title: str
    shape: str
    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()
    count: int = 1


@dataclass(frozen=True)
class Diagram:
    """Boxes in topological order, and edges as pairs of their places among them."""

    name: str
    parts: tuple[Part, ...]
    edges: tuple[tuple[int, int], ...]


def diagram(graph: Graph) -> Diagram:
    """The boxes and edges that show a graph."""
    parts: list[Part] = []
    home: dict[str, int] = {}
    edges: dict[tuple[int, int], None] = {}
    for title, items, nodes in _stretches(graph):
        place = len(parts)
        parts.append(_part(graph, title, items))
        home |= {node.name: place for node in nodes}
        edges |= {(home[name], place): None for node in nodes for name in node.inputs if home[name] != place}
    for label, name in graph.outputs:
        edges[home[name], len(parts)] = None
        parts.append(Part("output", label, format_shape(graph[name].shape)))
    return Diagram(graph.name, tuple(parts), tuple(edges))


def _part(graph: Graph, title: str, items: Sequence[Item]) -> Part:
    first = items[0]
    shape = format_shape([*flatten(items)][-1].shape)
    if isinstance(first, Group):
        lines, notes = merge_turns([(turns, lines_of(graph, turns.items)) for turns in first.turns])
        return Part("repeat" if first.count > 1 else "layers", title, shape, lines, notes, first.count)
    if isinstance(first.op, Input):
        return Part("input", title, shape)
    return Part("layers", title, shape, lines_of(graph, items))


def _stretches(graph: Graph) -> Iterator[tuple[str, Sequence[Item], Sequence[Node]]]:
    """A box: an input, a repeat, a labelled pipeline, or a chain without a label.

    Yields a title, the items shown, and all nodes that these stand for.
    """
    nodes = graph.nodes
    places = {node.name: place for place, node in enumerate(nodes)}
    shown = {name for _, name in graph.outputs}
    start = end = 0
    for item in fold(graph):
        alone = isinstance(item, Group) or isinstance(item.op, Input)
        if start < end and (alone or nodes[end - 1].name in shown or not _continues(graph, places, start, end)):
            yield _label(nodes[start]), nodes[start:end], nodes[start:end]
            start = end
        end += sum(len(turns.nodes) for turns in item.turns) if isinstance(item, Group) else 1
        if alone:
            yield item.name, (item,), nodes[start:end]
            start = end
    if start < end:
        yield _label(nodes[start]), nodes[start:end], nodes[start:end]


def _label(node: Node) -> str:
    return node.name.partition(".")[0] if "." in node.name else ""


def _continues(graph: Graph, places: Mapping[str, int], start: int, end: int) -> bool:
    """Whether the layer at `end` belongs to the box that begins at `start`.

    It has the same label, no other box reads what is before it, and it reads nothing from outside that the box's first
    layer does not. Without a label it must read of the box.
    """
    first, last, node = graph.nodes[start], graph.nodes[end - 1], graph.nodes[end]
    label = _label(last)
    private = all(_label(reader) == label and not reader.repeats for reader in graph.consumers[last.name])
    outside = {name for name in node.inputs if places[name] < start}
    reads = len(outside) < len({*node.inputs})
    return _label(node) == label and private and outside <= {*first.inputs} and (reads or bool(label))
