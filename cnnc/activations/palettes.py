"""Colours of numbers: blue to red for a layer's values, blue over white to red for differences.

A picture of numbers is an array of places in a palette. The last two places are no numbers: paper and gaps.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.uint8]
"""Places in a palette."""

PAPER: Final = 254
"""The background of a line."""
GAP: Final = 255
"""Between squares, and where a value is no number; transparent on the page."""
_TOP: Final = 253
_PAPER_COLOUR: Final = (244, 245, 248)
_HEAT: Final = ("1c1c5c", "2350c4", "2f9fe0", "56cfae", "b9df5b", "f8c33c", "f06f27", "b3141c")
_SIGNED: Final = ("16307e", "3f77d1", "a9c6ee", "f7f7f7", "f3b49b", "d9513c", "7c0f1d")


def _palette(colours: tuple[str, ...]) -> NDArray[np.uint8]:
    """256 colours `(256, 3)`: the given ones, evenly spaced and blended between, then paper and gap."""
    anchors = np.array([[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in colours], np.float64)
    places = np.linspace(0, len(colours) - 1, _TOP + 1)
    blended = [np.interp(places, np.arange(len(colours)), anchors[:, channel]) for channel in range(3)]
    numbers = np.rint(np.stack(blended, axis=1)).astype(np.uint8)
    return np.concatenate([numbers, np.array([_PAPER_COLOUR, (255, 255, 255)], np.uint8)])


HEAT: Final = _palette(_HEAT)
"""Dark blue for the least, dark red for the most."""
SIGNED: Final = _palette(_SIGNED)
"""Blue below zero, white at zero, red above."""


def placed(values: NDArray[Any], low: float, high: float) -> Indices:
    """Where values from `low` to `high` lie in a palette; beyond them its ends, and a gap for what is no number."""
    span = high - low
    shares = (np.asarray(values, np.float64) - low) / span if span > 0 else np.where(np.isfinite(values), 0.0, np.nan)
    known = np.isfinite(shares)
    places = np.rint(np.clip(np.where(known, shares, 0.0), 0, 1) * _TOP)
    return np.where(known, places, GAP).astype(np.uint8)


def css_gradient(palette: NDArray[np.uint8], steps: int = 12) -> str:
    """A palette as the colours of a CSS gradient, least first."""
    places = np.linspace(0, _TOP, steps).astype(int)
    return ", ".join("#{:02x}{:02x}{:02x}".format(*palette[place]) for place in places)
