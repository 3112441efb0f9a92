"""A layer's values as one picture: a square per filter, a line for a signal, slices for a volume."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnc.activations.palettes import GAP, PAPER, Indices, placed

Values = NDArray[Any]

WIDTH: Final = 1000
"""Pixels that a grid takes at most across."""
_ASPECT: Final = 1.6
"""Width over height that a grid comes near to."""
_LARGEST: Final = 192
"""Pixels that a square is enlarged to at most."""
_FEWER: Final = 0.85
"""This share of the best number of columns will do where it makes room for larger squares,"""
_SMALL: Final = 4
"""unless they are enlarged so many times already,"""
_EMPTY: Final = 0.06
"""or more than this share of places would stay empty."""
_LINE_ASPECT: Final = 3
_LEAST_LINE: Final = 9
"""Pixels that a line's tile is high at least."""
_SLICE_GAP, _APART = 2, 8
"""Pixels between a volume's slices, and between filters."""
_SLICES: Final = 6
"""So many slices of a volume are shown, evenly spaced."""


def grid(values: Values, low: float, high: float, width: int = WIDTH, gap: int = 1) -> Indices:
    """A layer's values as a grid of its filters in their order, row by row, coloured from `low` to `high`.

    Args:
        values: `(features,)`, `(length, filters)`, `(height, width, filters)` or `(depth, height, width, filters)`.
        low: the value of a palette's first colour.
        high: of its last.
        width: pixels that the grid takes at most across. Squares are enlarged by whole numbers, or made smaller by
            averages over areas.
        gap: pixels between squares.
    """
    if values.ndim == 2:
        return _laid_out(list(_lines(values, low, high, width)), _columns(values.shape[-1], 1, _LINE_ASPECT), gap)
    if values.ndim == 4:
        return _slices(values, low, high, width)
    maps = values if values.ndim == 3 else values[None, None]
    height, across, count = maps.shape
    columns = _columns(count, height, across)
    room = max(1, (width - gap) // columns - gap)
    if room >= across:
        scale = room // across
        fewer = (width - gap) // (across * (scale + 1) + gap)
        empty = ceil(count / max(1, fewer)) * fewer - count
        if scale < _SMALL and fewer >= _FEWER * columns and empty <= _EMPTY * count:  # the next size nearly fits
            columns, scale = fewer, scale + 1
        scale = max(1, min(scale, _LARGEST // max(height, across)))
        tiles = placed(maps, low, high).repeat(scale, axis=0).repeat(scale, axis=1)
    else:
        tiles = placed(_shrunk(maps, max(1, round(height * room / across)), room), low, high)
    return _laid_out([tiles[..., i] for i in range(count)], columns, gap)


def _slices(values: Values, low: float, high: float, width: int) -> Indices:
    """A volume's slices, a row of them for each filter."""
    chosen = np.linspace(0, len(values) - 1, min(_SLICES, len(values))).round().astype(int)
    count, (height, across) = values.shape[-1], values.shape[1:3]
    columns = _columns(count, height, across * len(chosen))
    room = ((width - _APART) // columns - _APART - _SLICE_GAP * (len(chosen) - 1)) // len(chosen)
    if room < across:
        shape = (max(1, round(height * room / across)), max(1, room))
        kept = [placed(_shrunk(values[i], *shape), low, high) for i in chosen]
    else:
        scale = min(room // across, max(1, _LARGEST // max(height, across)))
        kept = [placed(values[i], low, high).repeat(scale, axis=0).repeat(scale, axis=1) for i in chosen]
    gap = np.full((kept[0].shape[0], _SLICE_GAP, count), GAP, np.uint8)
    rows = np.concatenate([part for each in kept for part in (gap, each)][1:], axis=1)
    return _laid_out([rows[..., i] for i in range(count)], columns, _APART)


def _columns(count: int, height: int, width: int) -> int:
    """How many of `count` tiles stand in a row: so that the grid has a good aspect, and few places stay empty."""

    def cost(columns: int) -> float:
        rows = ceil(count / columns)
        empty = rows * columns - count
        return abs(log(columns * width / (rows * height * _ASPECT))) + 1.5 * empty / count

    return min(range(1, count + 1), key=cost)


def _shrunk(maps: Values, height: int, width: int) -> Values:
    planes = (Image.fromarray(np.ascontiguousarray(maps[..., i], np.float32)) for i in range(maps.shape[-1]))
    small = [np.asarray(plane.resize((width, height), Image.Resampling.BOX)) for plane in planes]
    return np.stack(small, axis=-1)


def _lines(values: Values, low: float, high: float, width: int) -> Iterator[Indices]:
    """Each filter's signal as a line from left to right on paper, in the colours of its values."""
    length, count = values.shape
    across = max(2, min((width - 1) // _columns(count, 1, _LINE_ASPECT) - 1, 2 * _LARGEST))
    height = max(_LEAST_LINE, across // _LINE_ASPECT)
    span = high - low if high > low else 1.0
    bins = np.linspace(0, length, across + 1)
    starts = np.minimum(bins[:-1].astype(int), length - 1)
    for i in range(count):
        signal = np.nan_to_num(np.asarray(values[:, i], np.float64), nan=low, posinf=high, neginf=low)
        if length >= across:
            least, most = np.minimum.reduceat(signal, starts), np.maximum.reduceat(signal, starts)
        else:
            least = most = np.interp(np.linspace(0, length - 1, across), np.arange(length), signal)
        # A column also reaches to the middle of where the one before it was, so that the line has no holes.
        before = np.concatenate([[(least[0] + most[0]) / 2], (least[:-1] + most[:-1]) / 2])
        least, most = np.minimum(least, before), np.maximum(most, before)
        top, bottom = (np.rint((height - 1) * (1 - np.clip((e - low) / span, 0, 1))) for e in (most, least))
        rows = np.arange(height)[:, None]
        levels = low + span * (1 - np.arange(height) / (height - 1))
        inked = np.broadcast_to(placed(levels, low, low + span)[:, None], (height, across))
        yield np.where((rows >= top) & (rows <= bottom), inked, PAPER).astype(np.uint8)


def _laid_out(tiles: list[Indices], columns: int, gap: int) -> Indices:
    height, width = tiles[0].shape
    down, along = height + gap, width + gap
    sheet = np.full((ceil(len(tiles) / columns) * down + gap, columns * along + gap), GAP, np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // columns * down + gap, place % columns * along + gap
        sheet[top : top + height, left : left + width] = tile
    return sheet
