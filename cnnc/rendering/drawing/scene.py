"""A picture as flat shapes, which every file format draws alike. Units are pixels, y grows downwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

INK: Final = "#1f2937"
FAINT: Final = "#6b7280"
_HEAD: Final = 6
"""The length of an arrow's head."""
CHARACTER: Final = 0.602
"""Advance of a monospaced character, in sizes of the font."""


@dataclass(frozen=True)
class Box:
    """A rectangle with round corners."""

    left: float
    top: float
    width: float
    height: float
    radius: float
    fill: str
    stroke: str


@dataclass(frozen=True)
class Text:
    """Monospaced text around the height `middle`; `x` is its start, middle or end."""

    x: float
    middle: float
    text: str
    size: float
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False
    colour: str = INK

    @property
    def width(self) -> float:
        """How broad the text is."""
        return breadth(self.text, self.size)


@dataclass(frozen=True)
class Curve:
    """A line through points, corners rounded by `radius`; an arrow's head at its end."""

    points: tuple[tuple[float, float], ...]
    radius: float = 8
    colour: str = FAINT
    thickness: float = 1.4
    arrow: bool = True


Shape = Box | Text | Curve


@dataclass(frozen=True)
class Scene:
    """All shapes, those behind first."""

    width: float
    height: float
    shapes: tuple[Shape, ...]


def breadth(text: str, size: float) -> float:
    """How broad a text is."""
    return len(text) * CHARACTER * size


Corner = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


def corners(curve: Curve) -> list[Corner]:
    """Where each inner corner's rounding starts, the corner itself, and where the rounding ends."""
    found = []
    for before, corner, after in zip(curve.points, curve.points[1:], curve.points[2:], strict=False):
        found.append((_towards(corner, before, curve.radius), corner, _towards(corner, after, curve.radius)))
    return found


def arrow_head(curve: Curve) -> tuple[tuple[float, float], ...]:
    """The triangle at a curve's end."""
    (x0, y0), (x, y) = curve.points[-2:]
    length = max(1e-9, ((x - x0) ** 2 + (y - y0) ** 2) ** 0.5)
    dx, dy = (x - x0) / length * _HEAD, (y - y0) / length * _HEAD
    return (x, y), (x - dx - dy / 2, y - dy + dx / 2), (x - dx + dy / 2, y - dy - dx / 2)


def _towards(start: tuple[float, float], end: tuple[float, float], distance: float) -> tuple[float, float]:
    """A point on the way from start to end, halfway at most."""
    length = ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5
    part = min(0.5, distance / length) if length else 0.0
    return start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part
