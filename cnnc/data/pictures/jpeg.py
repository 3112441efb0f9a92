"""JPEG files decoded by simplejpeg, where it is installed: the pixels that Pillow gives, in half the time or less.

Both call libjpeg-turbo. What takes more than decoding (an orientation, CMYK, a smaller scale, a broken file) is left to
Pillow, whose word is the last.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_START = b"\xff\xd8"
_ORIENTED = (b"Exif\0\0", b"tiff:Orientation")


def size_of(raw: bytes, channels: int) -> tuple[int, int] | None:
    """Width and height of a JPEG file that `decode_jpeg` takes as it is; None for whatever else."""
    module = _module()
    if module is None or raw[:2] != _START or channels not in (1, 3) or any(mark in raw for mark in _ORIENTED):
        return None
    try:
        height, width, colours, _ = module.decode_jpeg_header(raw)
    except ValueError:
        return None
    fits = colours == "Gray" if channels == 1 else colours in ("Gray", "YCbCr", "RGB")
    return (width, height) if fits and width * height <= (Image.MAX_IMAGE_PIXELS or width * height) else None


def decode_jpeg(raw: bytes, channels: int) -> NDArray[np.uint8] | None:
    """The pixels `(height, width, channels)` of a file that `size_of` knows; None if it is broken."""
    module = _module()
    assert module is not None
    try:
        pixels: NDArray[np.uint8] = module.decode_jpeg(raw, colorspace="GRAY" if channels == 1 else "RGB")
    except ValueError:
        return None
    return pixels


@cache
def _module() -> ModuleType | None:
    try:
        import simplejpeg  # type: ignore[import-not-found,import-untyped,unused-ignore]  # optional, ships no types
    except ModuleNotFoundError:
        return None
    module: ModuleType = simplejpeg
    return module
