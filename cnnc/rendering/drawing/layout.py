"""Where boxes stand: in layers from top to bottom, in the manner of Sugiyama, Tagawa & Toda 1981.

A box stands one layer below the lowest that it reads. An edge that passes layers gets an empty box in each, so that it
has a way of its own. The order in a layer follows the neighbours' mean; places are the nearest to theirs that fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Final

Vertex = tuple[int, int]
"""A box and 0, or an edge (by place) and the layer that it passes, negated."""

_SWEEPS: Final = 12


@dataclass(frozen=True)
class Layout:
    """Vertices of each layer from left to right, the centre of each, and the vertices that each edge goes through."""

    layers: tuple[tuple[Vertex, ...], ...]
    centres: Mapping[Vertex, float]
    ways: tuple[tuple[Vertex, ...], ...]


def arrange(count: int, edges: Sequence[tuple[int, int]], width: Callable[[Vertex], float], gap: float) -> Layout:
    """The layout of boxes 0 to `count` - 1, which are in topological order.

    Args:
        count: how many boxes there are.
        edges: pairs of a box and one that reads it.
        width: the breadth of a vertex.
        gap: the least distance of neighbours.
    """
    depths = _depths(count, edges)
    ways = tuple(
        ((source, 0), *((edge, -depth) for depth in range(depths[source] + 1, depths[target])), (target, 0))
        for edge, (source, target) in enumerate(edges)
    )
    layers: list[list[Vertex]] = [[] for _ in range(max(depths) + 1)]
    for box, depth in enumerate(depths):
        layers[depth].append((box, 0))
    for way in ways:
        for vertex in way[1:-1]:
            layers[-vertex[1]].append(vertex)
    above: dict[Vertex, list[Vertex]] = {vertex: [] for layer in layers for vertex in layer}
    below: dict[Vertex, list[Vertex]] = {vertex: [] for layer in layers for vertex in layer}
    for way in ways:
        for upper, lower in pairwise(way):
            above[lower].append(upper)
            below[upper].append(lower)
    for sweep in range(_SWEEPS):
        _sort(layers, above if sweep % 2 == 0 else below, downwards=sweep % 2 == 0)
    centres = _centres(layers, above, below, width, gap)
    return Layout(tuple(map(tuple, layers)), centres, ways)


def _depths(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The layer of each box. One that reads nothing stands right above the first that reads it."""
    depths = [0] * count
    readers: list[list[int]] = [[] for _ in range(count)]
    is_source = [True] * count
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        depths[target] = max(depths[target], depths[source] + 1)
        readers[source].append(target)
        is_source[target] = False
    for box in range(count):
        if is_source[box] and readers[box]:
            depths[box] = min(depths[reader] for reader in readers[box]) - 1
    return depths


def _sort(layers: list[list[Vertex]], neighbours: Mapping[Vertex, Sequence[Vertex]], downwards: bool) -> None:
    """Order each layer by the mean place of its neighbours in the layer before."""
    places = {vertex: place for layer in layers for place, vertex in enumerate(layer)}
    for layer in layers if downwards else reversed(layers):
        means = {v: fmean(places[n] for n in neighbours[v]) if neighbours[v] else float(places[v]) for v in layer}
        layer.sort(key=means.__getitem__)
        places |= {vertex: place for place, vertex in enumerate(layer)}


def _centres(
    layers: Sequence[Sequence[Vertex]],
    above: Mapping[Vertex, Sequence[Vertex]],
    below: Mapping[Vertex, Sequence[Vertex]],
    width: Callable[[Vertex], float],
    gap: float,
) -> Mapping[Vertex, float]:
    centres = {vertex: 0.0 for layer in layers for vertex in layer}
    for sweep in range(_SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wanted = [
                fmean([centres[n] for n in (*above[v], *below[v])] or [centres[v]]) if sweep else 0.0 for v in layer
            ]
            spans = [(width(a) + width(b)) / 2 + gap for a, b in pairwise(layer)]
            centres |= zip(layer, _spread(wanted, spans), strict=True)
    return centres


def _spread(wanted: Sequence[float], spans: Sequence[float]) -> list[float]:
    """The places nearest to those wanted, in squares, whose neighbours are at least their span apart.

    With the spans so far taken off, that is isotonic regression: pool neighbours that are out of order.
    """
    offsets = [0.0]
    for span in spans:
        offsets.append(offsets[-1] + span)
    pools: list[tuple[float, int]] = []
    for place, offset in zip(wanted, offsets, strict=True):
        pools.append((place - offset, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (first, n), (second, m) = pools[-2:]
            pools[-2:] = [((first * n + second * m) / (n + m), n + m)]
    flat = [mean for mean, size in pools for _ in range(size)]
    return [mean + offset for mean, offset in zip(flat, offsets, strict=True)]
