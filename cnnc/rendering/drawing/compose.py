"""A diagram as a scene: boxes where the layout puts them, columns side by side where one would be too tall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import log
from typing import Final

from cnnc.rendering.drawing.diagram import Diagram
from cnnc.rendering.drawing.layout import Layout, Vertex, arrange
from cnnc.rendering.drawing.part import draw_part, size
from cnnc.rendering.drawing.scene import FAINT, Box, Curve, Scene, Shape, Text

_BORDER: Final = 20
_BESIDE: Final = 40
_BELOW: Final = 40
_GUTTER: Final = 56
_TURN: Final = 20
_PORT: Final = 18
_WAY: Final = 12
_SHAPE: Final = 11
_PROPORTION: Final = 1.5
"""Breadth to height that columns are made for."""
_MOST_COLUMNS: Final = 6
_RELUCTANCE: Final = 0.2

Point = tuple[float, float]
Sizes = Mapping[Vertex, tuple[float, float]]


@dataclass(frozen=True)
class _Spot:
    """The middle of a vertex's upper edge, its size, its column, and the middle of the gutter to the right of that."""

    x: float
    top: float
    width: float
    height: float
    column: int
    gutter: float

    @property
    def bottom(self) -> float:
        return self.top + self.height


def compose(diagram: Diagram) -> Scene:
    """The picture of a diagram."""
    boxes = {(box, 0): size(part) for box, part in enumerate(diagram.parts)}
    layout = arrange(len(boxes), diagram.edges, lambda vertex: boxes[vertex][0] if vertex in boxes else _WAY, _BESIDE)
    sizes = {v: boxes.get(v, (_WAY, _height(layer, boxes))) for layer in layout.layers for v in layer}
    spots = _spots(layout, sizes, _columns(layout, sizes))
    ports = _ports(layout, spots)
    shapes: list[Shape] = [
        _connection([spots[vertex] for vertex in way], ports[edge]) for edge, way in enumerate(layout.ways)
    ]
    sources = {source for source, _ in diagram.edges}
    for box, part in enumerate(diagram.parts):
        spot = spots[box, 0]
        shapes.extend(draw_part(part, spot.x - spot.width / 2, spot.top))
        if box in sources and part.kind != "input":
            shapes.append(Text(spot.x + 8, spot.bottom + 11, part.shape, _SHAPE, colour=FAINT))
    return _framed(shapes)


def _height(layer: Sequence[Vertex], sizes: Sizes) -> float:
    return max(sizes[vertex][1] for vertex in layer if vertex in sizes)


def _columns(layout: Layout, sizes: Sizes) -> list[range]:
    """The layers of each column, so many that the picture has the best proportion."""
    choices = [_cut(layout, sizes, count) for count in range(1, _MOST_COLUMNS + 1)]

    def distance(columns: Sequence[range]) -> float:
        breadth = sum(right - left + _GUTTER for left, right in (_extent(layout, sizes, c) for c in columns))
        height = max(sum(_height(layout.layers[i], sizes) + _BELOW for i in column) for column in columns)
        return abs(log(breadth / height / _PROPORTION)) + _RELUCTANCE * len(columns)

    return min(choices, key=distance)


def _cut(layout: Layout, sizes: Sizes, count: int) -> list[range]:
    """About `count` columns of about the same height. One ends only where a single edge leads on."""
    crossing = [0] * len(layout.layers)
    depths = {vertex: depth for depth, layer in enumerate(layout.layers) for vertex in layer}
    for way in layout.ways:
        for vertex in way[1:]:
            crossing[depths[vertex]] += 1
    heights = [_height(layer, sizes) + _BELOW for layer in layout.layers]
    wanted = sum(heights) / count
    columns: list[range] = []
    start, filled = 0, 0.0
    for depth, height in enumerate(heights):
        if depth > start and crossing[depth] == 1 and filled + height / 2 > wanted and len(columns) < count - 1:
            columns.append(range(start, depth))
            start, filled = depth, 0.0
        filled += height
    return [*columns, range(start, len(heights))]


def _extent(layout: Layout, sizes: Sizes, column: range) -> tuple[float, float]:
    """Where a column begins and ends, as the layout has it."""
    vertices = [vertex for depth in column for vertex in layout.layers[depth]]
    left = min(layout.centres[vertex] - sizes[vertex][0] / 2 for vertex in vertices)
    return left, max(layout.centres[vertex] + sizes[vertex][0] / 2 for vertex in vertices)


def _spots(layout: Layout, sizes: Sizes, columns: Sequence[range]) -> Mapping[Vertex, _Spot]:
    spots: dict[Vertex, _Spot] = {}
    offset = 0.0
    for number, column in enumerate(columns):
        left, right = _extent(layout, sizes, column)
        gutter = offset + right - left + _GUTTER / 2
        top = 0.0
        for depth in column:
            for vertex in layout.layers[depth]:
                x = offset + layout.centres[vertex] - left
                spots[vertex] = _Spot(x, top, *sizes[vertex], number, gutter)
            top += _height(layout.layers[depth], sizes) + _BELOW
        offset += right - left + _GUTTER
    return spots


def _ports(layout: Layout, spots: Mapping[Vertex, _Spot]) -> list[float]:
    """How far from the middle of its target's upper edge each edge ends: side by side, ordered as they come."""
    ports = [0.0] * len(layout.ways)
    by_target: dict[Vertex, list[int]] = {}
    for edge, way in enumerate(layout.ways):
        by_target.setdefault(way[-1], []).append(edge)
    for edges in by_target.values():
        edges.sort(key=lambda edge: spots[layout.ways[edge][-2]].x)
        for place, edge in enumerate(edges):
            ports[edge] = (place - (len(edges) - 1) / 2) * _PORT
    return ports


def _connection(way: Sequence[_Spot], port: float) -> Curve:
    """The line of an edge: down, across between the layers, down; around by the gutter to another column."""
    points: list[Point] = [(way[0].x, way[0].bottom)]
    for upper, lower in pairwise(way):
        x = lower.x + (port if lower is way[-1] else 0)
        if upper.column == lower.column:
            turn = lower.top - _TURN
            points += [(upper.x, turn), (x, turn), (x, lower.top)]
        else:
            down, up = upper.bottom + _TURN, lower.top - _TURN
            points += [(upper.x, down), (upper.gutter, down), (upper.gutter, up), (x, up), (x, lower.top)]
        points.append((x, lower.bottom))
    return Curve(tuple(_straightened(points[:-1])))


def _straightened(points: Sequence[Point]) -> list[Point]:
    """The points without those on a straight line between their neighbours."""
    kept = [points[0]]
    for point, after in pairwise(points[1:]):
        (x, y), (u, v), (w, z) = kept[-1], point, after
        if abs((u - x) * (z - y) - (w - x) * (v - y)) > 1 and (abs(u - x) > 1 or abs(v - y) > 1):
            kept.append(point)
    return [*kept, points[-1]]


def _framed(shapes: Sequence[Shape]) -> Scene:
    """The shapes moved to the upper left, with a border around."""
    bounds = [_bounds(shape) for shape in shapes]
    left, top = min(b[0] for b in bounds) - _BORDER, min(b[1] for b in bounds) - _BORDER
    right, bottom = max(b[2] for b in bounds) + _BORDER, max(b[3] for b in bounds) + _BORDER
    moved = tuple(_moved(shape, -left, -top) for shape in shapes)
    return Scene(right - left, bottom - top, moved)


def _bounds(shape: Shape) -> tuple[float, float, float, float]:
    if isinstance(shape, Box):
        return shape.left, shape.top, shape.left + shape.width, shape.top + shape.height
    if isinstance(shape, Text):
        start = shape.x - shape.width * {"start": 0.0, "middle": 0.5, "end": 1.0}[shape.anchor]
        return start, shape.middle - shape.size / 2, start + shape.width, shape.middle + shape.size / 2
    xs, ys = zip(*shape.points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _moved(shape: Shape, dx: float, dy: float) -> Shape:
    if isinstance(shape, Box):
        return replace(shape, left=shape.left + dx, top=shape.top + dy)
    if isinstance(shape, Text):
        return replace(shape, x=shape.x + dx, middle=shape.middle + dy)
    return replace(shape, points=tuple((x + dx, y + dy) for x, y in shape.points))
