"""Colour refinement (Weisfeiler & Leman 1968): what has one colour and neighbours of the same colours keeps one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

Colours = list[int | None]
"""Of everything in a graph; None for what is to be overlooked."""
Neighbours = list[list[tuple[str, int]]]
"""For everything its neighbours, each with a word for the direction and the place."""


def step(neighbours: Neighbours, colours: Colours, known: dict[object, int]) -> Colours:
    """Colours by the own one and those of neighbours. `known` gives the same to the same in several graphs."""
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


def refined(neighbours: Neighbours, colours: Colours) -> Colours:
    """Colours of one graph that another step changes no more."""
    count = -1
    while len(counts(colours)) != count:
        count = len(counts(colours))
        colours = step(neighbours, colours, {})
    return colours


def counts(colours: Colours) -> Mapping[int, int]:
    """How many have each colour."""
    return Counter(colour for colour in colours if colour is not None)
