"""A scene as PNG, by matplotlib."""

from __future__ import annotations

from io import BytesIO
from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path

from cnnc.rendering.drawing.scene import Box, Curve, Scene, Text, arrow_head, corners

_INCH: Final = 100
"""Pixels of the scene."""
_POINT: Final = 72 / _INCH
_SHARPNESS: Final = 2
"""Pixels of the file for one of the scene, less for a scene too big for it."""
_MOST_PIXELS: Final = 16_000
_ALIGN: Final = {"start": "left", "middle": "center", "end": "right"}


def to_png(scene: Scene) -> bytes:
    """The bytes of a PNG file, the same for the same scene and version of matplotlib."""
    figure = Figure(figsize=(scene.width / _INCH, scene.height / _INCH), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, scene.width), ylim=(scene.height, 0))
    axes.axis("off")
    for depth, shape in enumerate(scene.shapes):
        if isinstance(shape, Text):
            axes.text(
                shape.x,
                shape.middle,
                shape.text.replace("$", r"\$"),
                family="DejaVu Sans Mono",
                size=shape.size * _POINT,
                weight="bold" if shape.bold else "normal",
                color=shape.colour,
                ha=_ALIGN[shape.anchor],
                va="center_baseline",
                zorder=depth,
            )
        else:
            for patch in _patches(shape):
                patch.set_zorder(depth)
                axes.add_patch(patch)
    buffer = BytesIO()
    sharpness = min(_SHARPNESS, _MOST_PIXELS / max(scene.width, scene.height))
    figure.savefig(buffer, format="png", dpi=_INCH * sharpness, metadata={"Software": None})
    return buffer.getvalue()


def _patches(shape: Box | Curve) -> list[FancyBboxPatch | PathPatch | Polygon]:
    if isinstance(shape, Box):
        style = f"round,pad=0,rounding_size={shape.radius}"
        corner = (shape.left, shape.top)
        return [FancyBboxPatch(corner, shape.width, shape.height, style, fc=shape.fill, ec=shape.stroke, lw=_POINT)]
    line = PathPatch(_path(shape), fc="none", ec=shape.colour, lw=shape.thickness * _POINT, capstyle="butt")
    head = Polygon(arrow_head(shape), fc=shape.colour, ec="none")
    return [line, head] if shape.arrow else [line]


def _path(curve: Curve) -> Path:
    points, codes = [curve.points[0]], [Path.MOVETO]
    for start, corner, end in corners(curve):
        points += [start, corner, end]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*points, curve.points[-1]], [*codes, Path.LINETO])
