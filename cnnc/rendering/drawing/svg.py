"""A scene as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from cnnc.printable import printable
from cnnc.rendering.drawing.scene import Box, Curve, Scene, Shape, Text, arrow_head, corners

_FONT = "DejaVu Sans Mono, Menlo, Consolas, monospace"


def to_svg(scene: Scene, title: str) -> bytes:
    """The bytes of an SVG file, the same for the same scene."""
    width, height = _number(scene.width), _number(scene.height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="{_FONT}">',
        f"<title>{escape(printable(title))}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *(element for shape in scene.shapes for element in _elements(shape)),
        "</svg>",
    ]
    return "\n".join([*lines, ""]).encode()


def _elements(shape: Shape) -> Iterator[str]:
    if isinstance(shape, Box):
        yield (
            f'<rect x="{_number(shape.left)}" y="{_number(shape.top)}" width="{_number(shape.width)}" '
            f'height="{_number(shape.height)}" rx="{_number(shape.radius)}" '
            f'fill="{shape.fill}" stroke="{shape.stroke}"/>'
        )
    elif isinstance(shape, Text):
        bold = ' font-weight="bold"' if shape.bold else ""
        yield (
            f'<text x="{_number(shape.x)}" y="{_number(shape.middle)}" font-size="{_number(shape.size)}" '
            f'text-anchor="{shape.anchor}" dominant-baseline="central" fill="{shape.colour}" '
            f'textLength="{_number(shape.width)}"{bold}>{escape(printable(shape.text))}</text>'
        )
    else:
        stroke = f'fill="none" stroke="{shape.colour}" stroke-width="{_number(shape.thickness)}"'
        yield f'<path d="{_path(shape)}" {stroke}/>'
        if shape.arrow:
            points = " ".join(f"{_number(x)},{_number(y)}" for x, y in arrow_head(shape))
            yield f'<polygon points="{points}" fill="{shape.colour}"/>'


def _path(curve: Curve) -> str:
    parts = [f"M{_point(curve.points[0])}"]
    parts.extend(f"L{_point(start)} Q{_point(corner)} {_point(end)}" for start, corner, end in corners(curve))
    return " ".join([*parts, f"L{_point(curve.points[-1])}"])


def _point(point: tuple[float, float]) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
