"""A layer's picture as a file: what went in and its colour split on top, a colour bar, a square per filter."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cnnc.activations.input_picture import as_rgb as in_colours
from cnnc.activations.inspection import Inspection, LayerView
from cnnc.activations.palettes import PAPER
from cnnc.activations.panels import Panel, as_rgb, number, panels, rgb_png
from cnnc.ops import format_shape

_INK, _PALE = (34, 38, 48), (104, 112, 128)
_MARGIN: Final = 20
_BETWEEN: Final = 24
_HEAD: Final = 150
"""Pixels that the pictures on top are high."""
_BAR: Final = 12
_LEAST_WIDTH: Final = 720
_BESIDE: Final = 560
"""Pixels that each of three panels takes at most across."""


def sheet(inspection: Inspection, view: LayerView) -> bytes:
    """A layer's PNG."""
    drawn = panels(inspection, view, *([_BESIDE] if view.comparison else []))
    width = max(_LEAST_WIDTH, sum(_width_of(panel) for panel in drawn) + _BETWEEN * (len(drawn) - 1)) + 2 * _MARGIN
    top = 58 + (_HEAD + 34 if inspection.channels else 0)
    captioned = 20 if view.comparison else 0
    height = top + captioned + 44 + max(panel.places.shape[0] for panel in drawn) + _MARGIN
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    _write(pen, (_MARGIN, 16), shortened(pen, view.layer.title, 20, width - 2 * _MARGIN), 20, _INK)
    _write(pen, (_MARGIN, 41), shortened(pen, _facts(view), 12, width - 2 * _MARGIN), 12, _PALE)
    if inspection.channels:
        _draw_head(canvas, pen, inspection, 70, width)
    left = _MARGIN
    for panel in drawn:
        across = _width_of(panel)
        if panel.caption:
            _write(pen, (left, top + 6), shortened(pen, panel.caption, 12, across), 12, _INK)
        _draw_bar(canvas, pen, panel, left, top + captioned + 6, min(across, 360))
        canvas.paste(Image.fromarray(as_rgb(panel)), (left, top + captioned + 44))
        left += across + _BETWEEN
    return rgb_png(np.asarray(canvas))


def _facts(view: LayerView) -> str:
    figures = view.figures
    words = [f"{view.layer.kind}, {format_shape(view.layer.shape)}", f"zeros {100 * figures.zeros:.0f} %"]
    if figures.dead:
        words.append(f"{figures.dead} of {figures.filters} filters zero everywhere")
    if view.comparison is not None:
        comparison = view.comparison
        words.append("no difference" if comparison.sqnr is None else f"SQNR {comparison.sqnr:.1f} dB")
        words.append(f"largest difference {number(comparison.largest)}")
        if comparison.equalized:
            words.append("equalised channels divided out")
    return "; ".join(words)


def _width_of(panel: Panel) -> int:
    return max(int(panel.places.shape[1]), 180)


def _draw_head(canvas: Image.Image, pen: ImageDraw.ImageDraw, inspection: Inspection, top: int, width: int) -> None:
    pictures = [("input", in_colours(inspection.value))]
    if len(inspection.channels) > 1:
        ranges = ((f"{c.name}, {number(c.low)} to {number(c.high)}", c.picture) for c in inspection.channels)
        pictures += list(ranges)
    left = _MARGIN
    for caption, picture in pictures:
        across = max(1, round(_HEAD * picture.shape[1] / picture.shape[0]))
        if left + across > width:
            break
        canvas.paste(_resized(picture, across, _HEAD), (left, top))
        _write(pen, (left, top + _HEAD + 5), shortened(pen, caption, 12, across), 12, _PALE)
        left += across + 12


def _resized(picture: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    way = Image.Resampling.NEAREST if picture.shape[0] < height else Image.Resampling.BOX
    return Image.fromarray(picture).resize((width, height), way)


def _draw_bar(canvas: Image.Image, pen: ImageDraw.ImageDraw, panel: Panel, left: int, top: int, across: int) -> None:
    """The palette from its first colour to its last, with the values of its ends, and of 0 where it is between."""
    places = np.rint(np.linspace(0, PAPER - 1, across)).astype(np.uint8)
    strip = np.broadcast_to(panel.palette[places][None], (_BAR, across, 3))
    canvas.paste(Image.fromarray(np.ascontiguousarray(strip)), (left, top))
    ends = (number(panel.low), number(panel.high))
    lengths = [pen.textlength(_plain(text), font(12)) for text in ends]
    _write(pen, (left, top + _BAR + 2), ends[0], 12, _INK)
    _write(pen, (left + across - lengths[1], top + _BAR + 2), ends[1], 12, _INK)
    if panel.low < 0 < panel.high:
        zero = left + across * -panel.low / (panel.high - panel.low)
        if left + lengths[0] + 8 < zero < left + across - lengths[1] - 8:
            pen.line([(zero, top), (zero, top + _BAR + 2)], fill=_INK)
            _write(pen, (zero - pen.textlength("0", font(12)) / 2, top + _BAR + 2), "0", 12, _INK)


def _write(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, colour: tuple[int, ...]) -> None:
    pen.text(place, _plain(text), font=font(size), fill=colour)


def _plain(text: str) -> str:
    """A text with the signs that Pillow's own font has."""
    return text.replace("\N{MINUS SIGN}", "-")


def shortened(pen: ImageDraw.ImageDraw, text: str, size: int, width: int) -> str:
    """A text that fits, its middle left out."""
    kept = text
    for half in range((len(text) - 3) // 2, -1, -1):
        if pen.textlength(kept, font(size)) <= width:
            break
        kept = f"{text[:half]}...{text[-half:]}" if half else text[:1]
    return kept


_FONTS: Final[dict[int, ImageFont.FreeTypeFont | ImageFont.ImageFont]] = {}


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, made once a size."""
    if size not in _FONTS:
        _FONTS[size] = ImageFont.load_default(size)
    return _FONTS[size]
