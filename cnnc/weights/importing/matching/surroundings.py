"""Surroundings that tell operators apart, besides weighted layers: a `tanh` behind one, a `sigmoid` behind the other.

A file knows how its layers are connected, and not what lies between them. Two of them that are connected alike may
take each other's places only if in our graph, everything in it regarded, they are alike, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cnnc.ir import Graph
from cnnc.ops import Add, Dropout, DropPath, Mul
from cnnc.weights.importing.layers.graph_layers import Target
from cnnc.weights.importing.matching.colour_refinement import Colours, Neighbours, refined

_UNORDERED: Final = (Add, Mul)
_NOTHING: Final = (Dropout, DropPath)
"""Operators that trained networks do not have."""


class Whole:
    """All nodes of a graph in colours, which get finer as more is known of the units among them."""

    def __init__(self, target: Target) -> None:
        graph = target.graph
        places = {node.name: place for place, node in enumerate(graph)}
        self.units = [places[unit.name] for unit in target.units]
        self.neighbours = _neighbours(graph, places)
        labels = {name: label for label, name in graph.outputs}
        known: dict[object, int] = {}
        first = [
            (  # inputs and outputs are what their names say
                None if isinstance(node.op, _NOTHING) else node.op,
                labels.get(node.name),
                None if node.inputs else node.name,
            )
            for node in graph
        ]
        self.colours: Colours = [known.setdefault(each, len(known)) for each in first]

    def told_apart(self, units: Colours) -> Colours:
        """The colours of units, those given taken into account."""
        known: dict[object, int] = {}
        colours: list[object] = [*self.colours]
        for place, colour in zip(self.units, units, strict=True):
            colours[place] = (colours[place], colour)
        start: Colours = [known.setdefault(each, len(known)) for each in colours]
        self.colours = refined(self.neighbours, start)
        return [self.colours[place] for place in self.units]


def _neighbours(graph: Graph, places: dict[str, int]) -> Neighbours:
    found: Neighbours = [[] for _ in graph]
    for index, node in enumerate(graph):
        read: Sequence[tuple[str, str]] = [
            ("" if isinstance(node.op, _UNORDERED) else str(place), name) for place, name in enumerate(node.inputs)
        ]
        if node.weights_of is not None:
            read = [*read, ("weights", node.weights_of)]
        for word, name in read:
            found[index].append((f"<{word}", places[name]))
            found[places[name]].append((f">{word}", index))
    return found
