"""The repeats of a graph as a tree, with neighbours that are alike folded into one: for tables and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from cnnc.frozen import dataclass
from cnnc.ir import Graph, Node
from cnnc.ops import Op, Shape


@dataclass(frozen=True)
class Turns:
    """The turns `first` up to `last` of a group, all alike.

    `items` are those of the first; `nodes` are all of them, turn after turn.
    """

    first: int
    last: int
    items: tuple[Item, ...]
    nodes: tuple[Node, ...]

    @property
    def count(self) -> int:
        """How many turns these are."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Group:
    """The turns of a repeat in their order."""

    name: str
    turns: tuple[Turns, ...]

    @property
    def count(self) -> int:
        """How many turns these are."""
        return sum(turns.count for turns in self.turns)


Item = Node | Group


def fold(graph: Graph) -> tuple[Item, ...]:
    """The nodes in their order, those in repeats within groups.

    Neighbouring turns are alike when they have the same operators, of the same shapes, wired the same way.
    """
    return tuple(_items(graph, graph.nodes, 0))


def _items(graph: Graph, nodes: Sequence[Node], depth: int) -> Iterator[Item]:
    for name, run in groupby(nodes, lambda node: node.repeats[depth].group if len(node.repeats) > depth else None):
        if name is None:
            yield from run
        else:
            yield Group(name, tuple(_turns(graph, tuple(run), depth)))


def _turns(graph: Graph, nodes: Sequence[Node], depth: int) -> Iterator[Turns]:
    turns = [(index, tuple(run)) for index, run in groupby(nodes, lambda node: node.repeats[depth].index)]
    for _, alike in groupby(turns, lambda turn: _structure(graph, turn[1], depth)):
        (first, members), *others = alike
        nodes = (*members, *(node for _, more in others for node in more))
        yield Turns(first, others[-1][0] if others else first, tuple(_items(graph, members, depth + 1)), nodes)


_Structure = tuple[tuple[Op, bool, tuple[int | Shape, ...], tuple[int, ...]], ...]


def _structure(graph: Graph, nodes: Sequence[Node], depth: int) -> _Structure:
    """The key by which turns are alike: operators, whether weights are shared, inner repeats, and inputs.

    These by place, or by shape where they come from outside.
    """
    places = {node.name: place for place, node in enumerate(nodes)}

    def source(name: str) -> int | Shape:
        return places[name] if name in places else graph[name].shape

    return tuple(
        (
            node.op,
            node.weights_of is None,
            tuple(map(source, node.inputs)),
            tuple(r.index for r in node.repeats[depth + 1 :]),
        )
        for node in nodes
    )


def flatten(items: Iterable[Item]) -> Iterator[Node]:
    """The nodes of a tree in their order, each of what was folded once."""
    for item in items:
        if isinstance(item, Node):
            yield item
        else:
            for turns in item.turns:
                yield from flatten(turns.items)
