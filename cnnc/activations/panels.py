"""Panels of a layer: its grid, or those of two models and their differences, each with its scale."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnc.activations.collection import Look, Shown
from cnnc.activations.grid import WIDTH, grid
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


def panels(look: Look, shown: Shown, width: int = WIDTH) -> tuple[Panel, ...]:
    """One panel from the layer's minimum to its maximum; or three: both models on one scale, and what differs.

    Args:
        look: what it is of.
        shown: the layer.
        width: pixels that a panel takes at most across.
    """
    first, compared = shown.figures, shown.compared
    if compared is None:
        return (Panel("", grid(shown.values, first.low, first.high, width), HEAT, first.low, first.high),)
    assert look.other is not None
    second = figures(compared.second)
    low, high = min(first.low, second.low), max(first.high, second.high)
    top = compared.largest
    return (
        Panel(f"{look.watched.what}, {look.watched.form}", grid(compared.first, low, high, width), HEAT, low, high),
        Panel(f"{look.other.what}, {look.other.form}", grid(compared.second, low, high, width), HEAT, low, high),
        Panel("second less first", grid(compared.difference, -top, top, width), SIGNED, -top, top),
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
