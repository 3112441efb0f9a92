"""Arrays of files in our order of axes: space, inputs, outputs; activations have channels last."""

from __future__ import annotations

from math import prod
from typing import Final

import numpy as np

from cnnc.ops.base import Shape
from cnnc.weights.importing.layers.file_layers import Array, Kind

_SPACE: Final = "DHW"


def reorder(
    array: Array, layout: str, kind: Kind, shape: Shape, *, flattened: Shape | None = None, channels_first: bool = False
) -> Array:
    """A kernel in our order.

    Args:
        array: the file's.
        layout: the order of its axes, as a reader states it.
        kind: of the operator.
        shape: our kernel's.
        flattened: `(height, width, channels)` of the map that a dense layer sees as one row.
        channels_first: whether the file's network makes a row of a map with its channels outermost.

    Returns:
        An array of `shape`, contiguous.
    """
    ours = _ours(layout, kind)
    if array.ndim == 1 and len(layout) > 1:
        sizes = dict(zip(ours, shape, strict=True))
        array = array.reshape([sizes.get(letter, 1) for letter in layout])
    if layout in ("OI", "IO"):
        array = array if layout == "IO" else array.T
        if flattened is not None and channels_first:
            *space, channels = flattened
            array = array.reshape(channels, *space, -1)
            array = np.moveaxis(array, 0, -2)
        return np.ascontiguousarray(array.reshape(shape), np.float32)
    kept = [letter for letter in layout if letter != "1"]
    array = array.reshape([size for size, letter in zip(array.shape, layout, strict=True) if letter != "1"])
    array = array.transpose([kept.index(letter) for letter in ours if letter in kept])
    return np.ascontiguousarray(array.reshape(shape), np.float32)


def change(
    layout: str, kind: Kind, shape: Shape, *, flattened: Shape | None = None, channels_first: bool = False
) -> str:
    """A few words for a table on how `reorder` moves axes; empty where nothing moves."""
    ours = _ours(layout, kind)
    plain = layout.replace("1", "")
    if len(layout) == 2 and len(shape) == 2:
        moved = "transposed" if layout == "OI" else ""
        if flattened is not None and channels_first:
            return f"{moved}, CHW to HWC".removeprefix(", ")
        return moved
    if len(layout) == 2:
        return f"{layout} -> {ours}, 1x1"
    if len(shape) == 2:
        return f"{layout} -> IO"
    return "" if plain == ours or prod(shape) == 1 else f"{layout} -> {ours}"


def _ours(layout: str, kind: Kind) -> str:
    """Our order of a layout's axes."""
    space = "".join(letter for letter in _SPACE if letter in layout)
    if "C" in layout:
        return f"{space}CM" if "M" in layout else f"{space}C"
    if kind == "transposed":
        return f"{space}OI"
    return f"{space}IO"
