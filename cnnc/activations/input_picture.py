"""Inputs: a picture as the network takes it, and that picture split into its channels; or an array."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc.activations.model_view import ModelView, NetworkView, is_reversed, picture_layers
from cnnc.data.pictures.decode import decode
from cnnc.diagnostics import CnnError, clause
from cnnc.ir.pixels import is_picture_shape
from cnnc.ops import format_shape

_NAMES: Final = {1: ("grey",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "opacity")}
_TINTS: Final = {
    "grey": (255, 255, 255),
    "red": (255, 64, 64),
    "green": (72, 214, 96),
    "blue": (86, 134, 255),
    "opacity": (255, 255, 255),
}


@dataclass(frozen=True, eq=False)
class Channel:
    """A channel that the network sees, in its order: a picture `(height, width, 3)`, and its range in the network."""

    name: str
    picture: NDArray[np.uint8]
    low: float
    high: float


def read_input(path: Path, view: ModelView) -> NDArray[Any]:
    """A picture cut and resized to a network's input, or the array in a `.npy` file of the input's shape.

    Raises:
        CnnError: the picture cannot be decoded, the array does not fit, or the network takes no pictures.
    """
    shape = view.input_shape
    if path.suffix.lower() == ".npy":
        return _array(path, view)
    if not is_picture_shape(shape):
        raise CnnError.of(
            "data",
            f"`{view.name}` takes {format_shape(shape)}, and a picture is height x width x 1, 3 or 4",
            help=f"give an array of {format_shape(shape)} as a .npy file",
        )
    try:
        return decode(path, (shape[0], shape[1]), shape[2])
    except CnnError as error:  # its help is of folders of pictures
        (diagnostic,) = error.diagnostics
        raise CnnError.of(diagnostic.code, diagnostic.message) from error


def channels(view: ModelView, value: NDArray[Any]) -> tuple[Channel, ...]:
    """A picture `(height, width, channels)` split into its channels, as the first layer that computes gets them."""
    order, seen = list(range(value.shape[-1])), np.asarray(value, np.float64)
    if isinstance(view, NetworkView):
        chain = picture_layers(view.trained.net.graph)
        if is_reversed(view.trained.net.graph):
            order.reverse()
        if len(chain) > 1:
            seen = np.asarray(view.evaluate(value, [chain[-1].name])[chain[-1].name], np.float64)
    names = _NAMES[value.shape[-1]]
    split = []
    for place, channel in enumerate(order):
        tint = np.array(_TINTS[names[channel]], np.float64) / 255
        picture = np.rint(value[..., channel, None] * tint).astype(np.uint8)
        split.append(Channel(names[channel], picture, float(seen[..., place].min()), float(seen[..., place].max())))
    return tuple(split)


def as_rgb(value: NDArray[Any]) -> NDArray[np.uint8]:
    """A picture of 1, 3 or 4 channels `(height, width, channels)` as `(height, width, 3)`."""
    return np.ascontiguousarray(value[..., :3] if value.shape[-1] >= 3 else value[..., :1].repeat(3, axis=-1))


def _array(path: Path, view: ModelView) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise CnnError.of("data", f"there is no array `{path}`") from None
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise CnnError.of("data", f"cannot read `{path}`: {clause(reason)}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise CnnError.of("data", f"`{path}` holds no array of numbers")
    if array.shape == (1, *view.input_shape):
        array = array[0]
    if array.shape != view.input_shape:
        raise CnnError.of(
            "data",
            f"`{path}` holds {format_shape(array.shape)}, and `{view.name}` takes {format_shape(view.input_shape)}",
        )
    if not np.isfinite(array).all():
        raise CnnError.of("data", f"`{path}` holds values that are not finite numbers")
    return array if array.dtype.kind in "iu" else array.astype(np.float32)
