"""Panels of a layer: its grid, or those of two models and their differences, each with its scale."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnc.activations.grid import WIDTH, grid
from cnnc.activations.inspection import Inspection, LayerView
from cnnc.activations.palettes import GAP, HEAT, SIGNED, Indices
from cnnc.activations.statistics import figures


@dataclass(frozen=True, eq=False)
class Panel:
    """A grid as places in a palette, and the values that the palette's ends stand for."""

    caption: str
    places: Indices
    palette: NDArray[np.uint8]
    low: float
    high: float


def panels(inspection: Inspection, view: LayerView, width: int = WIDTH) -> tuple[Panel, ...]:
    """One panel from the layer's minimum to its maximum; or three: both models on one scale, and what differs.

    Args:
        inspection: that of the model, or of two.
        view: that of the layer.
        width: pixels that a panel takes at most across.
    """
    first, comparison = view.figures, view.comparison
    if comparison is None:
        return (Panel("", grid(view.values, first.low, first.high, width), HEAT, first.low, first.high),)
    model, other = inspection.view, inspection.other
    assert other is not None
    second = figures(comparison.second)
    low, high = min(first.low, second.low), max(first.high, second.high)
    top = comparison.largest
    return (
        Panel(f"{model.name}, {model.dtype}", grid(comparison.first, low, high, width), HEAT, low, high),
        Panel(f"{other.name}, {other.dtype}", grid(comparison.second, low, high, width), HEAT, low, high),
        Panel("second less first", grid(comparison.difference, -top, top, width), SIGNED, -top, top),
    )


def number(value: float) -> str:
    """A value in few digits."""
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}") if value else "0"


def palette_png(panel: Panel) -> bytes:
    """A panel as a PNG of one byte a pixel, its gaps transparent."""
    height, width = panel.places.shape
    image = Image.frombytes("P", (width, height), panel.places.tobytes())
    image.putpalette(panel.palette.tobytes())
    return _saved(image, compress_level=7, transparency=GAP)


def rgb_png(picture: NDArray[np.uint8]) -> bytes:
    """A picture of 3 or 4 channels as a PNG."""
    return _saved(Image.fromarray(np.ascontiguousarray(picture)), compress_level=6)


def as_rgb(panel: Panel) -> NDArray[np.uint8]:
    """A panel's colours `(height, width, 3)`, its gaps white."""
    return panel.palette[panel.places]


def _saved(image: Image.Image, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", **options)
    return content.getvalue()
