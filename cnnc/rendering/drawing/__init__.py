"""Pictures of networks: a graph to boxes, boxes to places, places to SVG, PNG or Mermaid."""

from __future__ import annotations

from typing import Final

from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.ir import Graph
from cnnc.rendering.drawing.diagram import diagram

FORMATS: Final = ("svg", "png", "mmd")
"""The endings of a picture's name."""


def draw(graph: Graph, format: str) -> bytes:
    """A picture of a graph as the bytes of a file: `svg`, `png`, or `mmd`, which is Mermaid.

    Raises CnnError for another format, and for a PNG without matplotlib.
    """
    if format not in FORMATS:
        help = did_you_mean(format, FORMATS) or f"a picture's name ends in {', '.join('.' + each for each in FORMATS)}"
        raise CnnError.of("value", f"no picture has the format `{format}`", help=help)
    found = diagram(graph)
    if format == "mmd":
        from cnnc.rendering.drawing.mermaid import to_mermaid

        return to_mermaid(found)
    from cnnc.rendering.drawing.compose import compose

    scene = compose(found)
    if format == "svg":
        from cnnc.rendering.drawing.svg import to_svg

        return to_svg(scene, graph.name)
    try:
        from cnnc.rendering.drawing.png import to_png
    except ModuleNotFoundError as error:
        message = f"a PNG is drawn by {error.name}, which is not installed"
        raise CnnError.of("install", message, help="pip install 'cnnc[train]', or draw an .svg") from error
    return to_png(scene)
