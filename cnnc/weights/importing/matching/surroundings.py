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


class GraphColours:
    """All nodes of a graph in colours, which get finer as more is known of the units among them."""

    def __init__(self, target: Target) -> None:
        graph = target.graph
        indices = {node.name: index for index, node in enumerate(graph)}
        self.units = [indices[unit.name] for unit in target.units]
        self.neighbours = _neighbours(graph, indices)
        labels = {name: label for label, name in graph.outputs}
        known: dict[object, int] = {}
        labelled = [
            (  # inputs and outputs are what their names say
                None if isinstance(node.op, _NOTHING) else node.op,
                labels.get(node.name),
                None if node.inputs else node.name,
            )
            for node in graph
        ]
        self.colours: Colours = [known.setdefault(each, len(known)) for each in labelled]

    def refine(self, units: Colours) -> Colours:
        """The colours of units once the graph's are refined by the ones that they have."""
        known: dict[object, int] = {}
        colours: list[object] = [*self.colours]
        for index, colour in zip(self.units, units, strict=True):
            colours[index] = (colours[index], colour)
        start: Colours = [known.setdefault(each, len(known)) for each in colours]
        self.colours = refined(self.neighbours, start)
        return [self.colours[index] for index in self.units]


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
