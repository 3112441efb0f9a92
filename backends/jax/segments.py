"""Cuts a graph where a single value crosses, and finds runs of neighbouring parts that are the same computation.

The network's own inputs do not count as crossing, as they are there all the time. Past its first branches a network has
the same cuts in every topological order: the nodes that all others either lead to or come from, without an edge past.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence, Set
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from cnnc.ir import Graph, Node
from cnnc.ops import DropPath, Input

_LONGEST = 128
"""Segments of a repeat at most: what repeats with a longer period is not looked for."""


class Segment(NamedTuple):
    """Nodes in topological order of which later ones read only the last. `entry` is what they read of earlier ones."""

    nodes: tuple[Node, ...]
    entry: str | None
    """None for the first segment, which reads the network's inputs."""

    @property
    def exit(self) -> str:
        """The value that later nodes read."""
        return self.nodes[-1].name


Run = tuple[Segment, ...]
"""Neighbouring segments that differ in names and weights alone, and in the rates of their stochastic depth."""


def segments(graph: Graph, wanted: Collection[str]) -> list[Segment]:
    """The nodes that the wanted ones depend on, without the inputs, cut wherever a single value crosses.

    A wanted value that is no segment's last leaves the network from within; it does not count as crossing.
    """
    nodes = [node for node in ancestors(graph, wanted) if not isinstance(node.op, Input)]
    last_read = {name: position for position, node in enumerate(nodes) for name in node.inputs}
    found: list[Segment] = []
    live: set[str] = set()
    start = 0
    for position, node in enumerate(nodes):
        live = {name for name in {*live, node.name} if last_read.get(name, position) > position}
        if live == {node.name} or position == len(nodes) - 1:
            found.append(Segment(tuple(nodes[start : position + 1]), found[-1].exit if found else None))
            start = position + 1
    return found


def runs(
    graph: Graph, parts: Sequence[Segment], wanted: Collection[str], frozen: Set[str] = frozenset(), least: int = 2
) -> list[Run]:
    """The segments in order: at least `least` alike in a row as one run, and each of the others alone.

    Segments that repeat with a period, such as a block and the activation after it, are joined to one of its length.
    The longest run is taken first.

    Args:
        graph: the network.
        parts: its segments, all of them.
        wanted: the nodes whose values leave the network.
        frozen: nodes whose weights do not learn. Segments of which one is frozen are not alike.
        least: repeats of a run, 2 or more.
    """
    assert least >= 2, least
    signatures = [_signature(graph, part, frozenset(wanted), frozen) for part in parts]
    return list(_runs(parts, signatures, least))


def ancestors(graph: Graph, wanted: Collection[str]) -> list[Node]:
    """The nodes that the wanted ones depend on, and these, in topological order."""
    needed = set(wanted)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return [node for node in graph if node.name in needed]


def joined(parts: Sequence[Segment]) -> Segment:
    """Neighbouring segments as one."""
    assert all(later.entry == earlier.exit for earlier, later in pairwise(parts)), parts
    return Segment(tuple(node for part in parts for node in part.nodes), parts[0].entry)


def _runs(parts: Sequence[Segment], signatures: Sequence[Hashable], least: int) -> Iterator[Run]:
    best = _best(parts, signatures, least)
    if best is None:
        yield from ((part,) for part in parts)
        return
    start, period, count = best
    end = start + period * count
    yield from _runs(parts[:start], signatures[:start], least)
    yield tuple(joined(parts[position : position + period]) for position in range(start, end, period))
    yield from _runs(parts[end:], signatures[end:], least)


def _best(parts: Sequence[Segment], signatures: Sequence[Hashable], least: int) -> tuple[int, int, int] | None:
    """Start, period and count of the repeats that spare the most nodes; None where nothing repeats often enough."""
    before = [0]
    for part in parts:
        before.append(before[-1] + len(part.nodes))
    best, most = None, 0
    for period in range(1, min(len(parts) // least, _LONGEST) + 1):
        alike = 0  # segments from here on that are like those a period later
        for start in range(len(parts) - period - 1, -1, -1):
            signature = signatures[start]
            alike = alike + 1 if signature is not None and signature == signatures[start + period] else 0
            count = 1 + alike // period
            spared = before[start + period * (count - 1)] - before[start]
            if count >= least and (spared > most or (spared == most and best is not None and best[1] == period)):
                best, most = (start, period, count), spared
    return best


def _signature(graph: Graph, part: Segment, wanted: Set[str], frozen: Set[str]) -> Hashable:
    """Equal for segments that are the same computation; None for one that is like no other.

    That reads an input of the network, uses weights of another segment, or holds a value that is wanted.
    """
    places = {node.name: place for place, node in enumerate(part.nodes)}
    if part.entry is None or not wanted.isdisjoint(places):
        return None
    places[part.entry] = -1
    found: list[Hashable] = [graph[part.entry].shape]
    for node in part.nodes:
        if not places.keys() >= {*node.inputs, node.owner}:
            return None
        op = replace(node.op, rate=0.0) if isinstance(node.op, DropPath) else node.op
        inputs = tuple(places[name] for name in node.inputs)
        found.append((op, node.shape, inputs, places[node.owner], node.owner in frozen))
    return tuple(found)
