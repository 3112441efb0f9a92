"""Pictures to uint8 arrays: every mode that Pillow reads, upright, cut and resized to what a network takes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from math import ceil, isclose
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cnnc.data.pictures.jpeg import decode_jpeg, size_of
from cnnc.diagnostics import CnnError, clause
from cnnc.files import read_bytes
from cnnc.ir.pixels import PICTURE_CHANNELS

Picture = NDArray[np.uint8]
"""`(height, width, channels)`."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""
BoxOf = Callable[[int, int], Box]
"""The part to cut out of a picture of a width and a height."""

MOST_BYTES = 1 << 30
"""Of a picture's file: as many pixels as are decoded, without any packing, have room in it."""
MODES = dict(zip(PICTURE_CHANNELS, ("L", "RGB", "RGBA"), strict=True))
"""Pillow's modes by the number of channels."""

# What Pillow raises for broken files: its own errors are OSErrors; the rest escapes from its format plugins.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_SIDEWAYS = (5, 6, 7, 8)
_DRAFT = 0.5
"""A JPEG that is shrunk to less than that is decoded at a smaller scale."""
_ORIENTATION = 0x0112


def undecodable(count: int, whole: str = "") -> CnnError:
    """That none of so many pictures is one, `whole` saying what they are of."""
    if count == 1:
        return CnnError.of("data", f"the only picture {whole}cannot be decoded")
    return CnnError.of("data", f"none of the {count:,} pictures {whole}can be decoded")


def decode(path: Path, size: tuple[int, int], channels: int, box_of: BoxOf | None = None) -> Picture:
    """A picture file cut by `box_of` (the centred box of the size's aspect if None) and resized to `size`.

    Args:
        path: a file that Pillow can read. EXIF's orientation is followed, transparency is laid over white, 16 bits
            are cut to their upper 8, CMYK and palettes become RGB.
        size: height and width wanted.
        channels: 1, 3 or 4.
        box_of: the part to cut out, given the upright picture's width and height.

    Raises:
        CnnError: of code `picture`, naming the file, when it cannot be decoded.
    """
    try:
        raw = read_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        raise CnnError.of("picture", f"there is no picture `{path}`") from None
    except OSError as error:
        raise _undecodable(str(path), error) from error
    return decode_bytes(raw, str(path), size, channels, box_of)


def decode_bytes(raw: bytes, name: str, size: tuple[int, int], channels: int, box_of: BoxOf | None = None) -> Picture:
    """A picture file's content as `decode` has it; `name` is what errors call it."""
    wanted = box_of or centred(size)
    fast = _fast(raw, size, channels, wanted)
    if fast is not None:
        return fast
    try:
        with Image.open(BytesIO(raw)) as image:
            return _cut(image, size, channels, wanted)
    except BROKEN as error:
        raise _undecodable(name, error) from error


def _undecodable(name: str, error: BaseException) -> CnnError:
    unknown = isinstance(error, OSError) and _unknown(error)
    return CnnError.of(
        "picture",
        f"cannot decode `{name}`: {'it is no picture of a known kind' if unknown else _reason(error)}",
        help="replace or remove the file; of a data set, `--skip-corrupt` leaves out what cannot be decoded",
    )


def resize(picture: NDArray[np.generic], size: tuple[int, int], box: Box) -> NDArray[np.generic]:
    """A part of an array `(height, width, channels)`, uint8 or float, resized bilinearly with antialiasing."""
    height, width = size
    if box == (0, 0, width, height) == (0, 0, picture.shape[1], picture.shape[0]):
        return picture
    if picture.dtype == np.uint8 and picture.shape[-1] == 3:
        whole = Image.fromarray(np.ascontiguousarray(picture))
        return np.asarray(whole.resize((width, height), Image.Resampling.BILINEAR, box))
    planes = [Image.fromarray(picture[..., c]) for c in range(picture.shape[-1])]
    return np.stack([np.asarray(p.resize((width, height), Image.Resampling.BILINEAR, box)) for p in planes], axis=-1)


def centred(size: tuple[int, int], share: float = 1.0) -> BoxOf:
    """A centred box of the size's aspect: resizing it is resizing the shorter side, then a centre crop.

    `share` is that of the largest such box's sides. Where the box then has just the size, it starts at a whole pixel
    and nothing is resampled: with 0.875, 224x224 are cut out of 341x256.
    """

    def box_of(width: int, height: int) -> Box:
        scale = min(width / size[1], height / size[0]) * share
        cut_width, cut_height = size[1] * scale, size[0] * scale
        left, top = (width - cut_width) / 2, (height - cut_height) / 2
        if share != 1 and isclose(scale, 1):
            left, top, cut_height, cut_width = float(int(left)), float(int(top)), *map(float, size)
        return left, top, left + cut_width, top + cut_height

    return box_of


def to_channels(pictures: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Grey to RGB and back for an array `(..., channels)`; grey is ITU-R 601 luma, rounded as Pillow does."""
    found = pictures.shape[-1]
    if found == channels:
        return pictures
    assert {found, channels} <= {1, 3}, (found, channels)
    if channels == 3:
        return np.repeat(pictures, 3, axis=-1)
    weights = np.array([19595, 38470, 7471], np.uint32)
    return (((pictures.astype(np.uint32) @ weights) + 0x8000) >> 16).astype(np.uint8)[..., None]


def _fast(raw: bytes, size: tuple[int, int], channels: int, box_of: BoxOf) -> Picture | None:
    """The result of `_cut`, if the file is a JPEG that can be had faster; None otherwise."""
    full = size_of(raw, channels)
    if full is None:
        return None
    box = box_of(*full)
    height, width = size
    if max(width / (box[2] - box[0]), height / (box[3] - box[1])) < _DRAFT:
        return None
    pixels = decode_jpeg(raw, channels)
    if pixels is None or (full == (width, height) and box == (0, 0, width, height)):
        return pixels
    image = Image.fromarray(pixels if channels > 1 else pixels[..., 0])
    array = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box))
    return array if array.ndim == 3 else array[..., None]


def _cut(image: Image.Image, size: tuple[int, int], channels: int, box_of: BoxOf) -> Picture:
    height, width = size
    orientation = image.getexif().get(_ORIENTATION, 1)
    full = image.size[::-1] if orientation in _SIDEWAYS else image.size
    box = box_of(*full)
    shrink = max(width / (box[2] - box[0]), height / (box[3] - box[1]))
    if shrink < _DRAFT:
        # A JPEG decodes several times faster at 1/2, 1/4 or 1/8; twice the size wanted leaves the resize its quality.
        image.draft(None, (ceil(2 * shrink * image.size[0]), ceil(2 * shrink * image.size[1])))
    upright = image if orientation == 1 else ImageOps.exif_transpose(image)
    converted = _convert(upright, MODES[channels])
    ratio_x, ratio_y = converted.size[0] / full[0], converted.size[1] / full[1]
    box = (box[0] * ratio_x, box[1] * ratio_y, box[2] * ratio_x, box[3] * ratio_y)
    if converted.size != (width, height) or box != (0, 0, width, height):
        converted = converted.resize((width, height), Image.Resampling.BILINEAR, box)
    array = np.asarray(converted)
    return array if array.ndim == 3 else array[..., None]


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        deep = image.mode.startswith("I;16") or values.max(initial=0) > 255
        values = values.astype(np.int64) >> 8 if deep else values
        image = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    if mode != "RGBA" and image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def _unknown(error: OSError) -> bool:
    return type(error).__name__ == "UnidentifiedImageError"


def _reason(error: BaseException) -> str:
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return clause(text) if text else type(error).__name__
