"""Two graphs of layers matched by how they are connected.

Layers begin with the colour of their form, and get a new one from their own and those of the layers that they read and
are read by, in both graphs at once, until nothing more is told apart. What then still has one colour is alike, and if
it is so in the whole of our graph, one of it is picked, in the order of both, and refinement goes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnc.weights.importing.layers.file_layers import Read
from cnnc.weights.importing.layers.graph_layers import Target
from cnnc.weights.importing.matching.colour_refinement import Colours, Neighbours, counts, step
from cnnc.weights.importing.matching.surroundings import GraphColours

Edges = Sequence[tuple[Read, ...]]
Class = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Correspondence:
    """The sources of targets.

    Attributes:
        pairs: for a target its source.
        alike: targets and as many sources that are connected alike, while something between the targets is not.
    """

    pairs: Mapping[int, int]
    alike: tuple[Class, ...]


def match_by_graph(
    sources: Edges, target: Target, source_colours: Colours, target_colours: Colours
) -> Correspondence | None:
    """The correspondence of two graphs, or None if they are not alike.

    Args:
        sources: what each layer of the file reads.
        target: the units of the graph.
        source_colours: equal numbers for what may be equal; None for a layer that is to be overlooked.
        target_colours: those of the units.
    """
    both = _GraphPair(_edges(sources), _edges([unit.reads for unit in target.units]))
    return both.match([*source_colours], [*target_colours], GraphColours(target))


def _edges(edges: Edges) -> Neighbours:
    """For every layer its neighbours, each with a word for the direction and the rank of its place."""
    found: Neighbours = [[] for _ in edges]
    for index, reads in enumerate(edges):
        ranks = {place: rank for rank, place in enumerate(sorted({_path(read.place) for read in reads}))}
        for read in reads:
            # A concatenation within another has the order of one of all.
            place = ranks[_path(read.place)] if len(ranks) > 1 else ""
            found[index].append((f"<{place}", read.layer))
            found[read.layer].append((f">{place}", index))
    return found


def _path(place: str) -> tuple[int, ...]:
    """The places in concatenations on the way, the outermost first."""
    return tuple(int(each) for each in reversed(place.split("."))) if place else ()


class _GraphPair:
    def __init__(self, sources: Neighbours, targets: Neighbours) -> None:
        self.sources = sources
        self.targets = targets

    def match(self, sources: Colours, targets: Colours, graph: GraphColours) -> Correspondence | None:
        while True:
            refined = self._refined(sources, targets)
            if refined is None:
                return None
            sources, targets = refined
            alike = _repeated(targets)
            open_ = _distinguished(alike, graph.refine(targets)) if alike else set()
            free = [colour for colour in alike if colour not in open_]
            if not free:
                break
            colour = min(free, key=lambda each: alike[each])
            fresh = max(c for c in targets if c is not None) + 1
            sources[sources.index(colour)] = fresh
            targets[alike[colour][0]] = fresh
        by_colour = {colour: index for index, colour in enumerate(sources) if colour not in alike}
        pairs = {
            index: by_colour[colour]
            for index, colour in enumerate(targets)
            if colour is not None and colour not in alike
        }
        groups = ((tuple(alike[each]), tuple(i for i, own in enumerate(sources) if own == each)) for each in alike)
        # What has one colour has neighbours of the same colours on both sides: pairs read pairs.
        return Correspondence(pairs, tuple(groups))

    def _refined(self, sources: Colours, targets: Colours) -> tuple[Colours, Colours] | None:
        """Colours that refinement changes no more, or None where the two sides have other numbers of one."""
        count = -1
        while True:
            if counts(sources) != counts(targets):
                return None
            now = len(counts(targets))
            if now == count:
                return sources, targets
            count = now
            known: dict[object, int] = {}
            sources = step(self.sources, sources, known)
            targets = step(self.targets, targets, known)


def _repeated(colours: Colours) -> dict[int, list[int]]:
    """The colours that several have, with all that have it."""
    places: defaultdict[int, list[int]] = defaultdict(list)
    for index, colour in enumerate(colours):
        if colour is not None:
            places[colour].append(index)
    return {colour: indices for colour, indices in places.items() if len(indices) > 1}


def _distinguished(alike: Mapping[int, Sequence[int]], graph: Colours) -> set[int]:
    """The colours of those that the whole graph tells apart."""
    return {colour for colour, units in alike.items() if len({graph[unit] for unit in units}) > 1}
