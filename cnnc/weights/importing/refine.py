"""Two graphs of layers matched by how they are connected.

Colour refinement (Weisfeiler & Leman 1968): layers begin with the colour of their form, and get a new one from their
own and those of the layers that they read and are read by, in both graphs at once, until nothing more is told apart.
What then still has one colour is alike; one of it is picked, in the order of both, and refinement goes on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from cnnc.weights.importing.source import Read

Edges = Sequence[tuple[Read, ...]]
Colours = list[int | None]


def matched_by_graph(
    sources: Edges, targets: Edges, source_colours: Colours, target_colours: Colours
) -> Mapping[int, int] | None:
    """For every coloured target its source, or None if the graphs are not alike.

    Args:
        sources: what each layer of the file reads.
        targets: what each unit of the graph reads.
        source_colours: equal numbers for what may be equal; None for a layer that is to be overlooked.
        target_colours: those of the units.
    """
    for with_places in (True, False):
        both = _Pair(_edges(sources, with_places), _edges(targets, with_places))
        found = both.match(list(source_colours), list(target_colours))
        if found is not None:
            return found
    return None


Neighbours = list[list[tuple[str, int]]]


def _edges(edges: Edges, with_places: bool) -> Neighbours:
    """For every layer its neighbours, each with a word for the direction and the place."""
    found: Neighbours = [[] for _ in edges]
    for index, reads in enumerate(edges):
        for read in reads:
            place = read.place if with_places else ""
            found[index].append((f"<{place}", read.layer))
            found[read.layer].append((f">{place}", index))
    return found


class _Pair:
    def __init__(self, sources: Neighbours, targets: Neighbours) -> None:
        self.sources = sources
        self.targets = targets

    def match(self, sources: Colours, targets: Colours) -> dict[int, int] | None:
        while True:
            refined = self._refined(sources, targets)
            if refined is None:
                return None
            sources, targets = refined
            alike = _alike(targets)
            if not alike:
                break
            colour = min(alike, key=lambda each: alike[each])
            fresh = max(c for c in targets if c is not None) + 1
            sources[sources.index(colour)] = fresh
            targets[alike[colour]] = fresh
        by_colour = {colour: index for index, colour in enumerate(sources) if colour is not None}
        found = {index: by_colour[colour] for index, colour in enumerate(targets) if colour is not None}
        return found if self._is_kept(found) else None

    def _refined(self, sources: Colours, targets: Colours) -> tuple[Colours, Colours] | None:
        """Colours that refinement changes no more, or None where the two sides have other numbers of one."""
        count = -1
        while True:
            if _counts(sources) != _counts(targets):
                return None
            now = len(_counts(targets))
            if now == count:
                return sources, targets
            count = now
            known: dict[object, int] = {}
            sources = _step(self.sources, sources, known)
            targets = _step(self.targets, targets, known)

    def _is_kept(self, found: Mapping[int, int]) -> bool:
        """Whether every matched pair reads matched pairs: what was picked among alike ones was no mistake."""
        back = {source: target for target, source in found.items()}
        for target, source in found.items():
            own = {(word, found[other]) for word, other in self.targets[target] if other in found}
            if own != {(word, other) for word, other in self.sources[source] if other in back}:
                return False
        return True


def _step(neighbours: Neighbours, colours: Colours, known: dict[object, int]) -> Colours:
    after: Colours = []
    for index, colour in enumerate(colours):
        if colour is None:
            after.append(None)
            continue
        around = tuple(
            sorted((word, seen) for word, other in neighbours[index] if (seen := colours[other]) is not None)
        )
        after.append(known.setdefault((colour, around), len(known)))
    return after


def _counts(colours: Colours) -> Counter[int]:
    return Counter(colour for colour in colours if colour is not None)


def _alike(colours: Colours) -> dict[int, int]:
    """The colours that several have, with the first that has it."""
    places: defaultdict[int, list[int]] = defaultdict(list)
    for index, colour in enumerate(colours):
        if colour is not None:
            places[colour].append(index)
    return {colour: indices[0] for colour, indices in places.items() if len(indices) > 1}
