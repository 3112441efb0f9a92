"""The operations on a picture that AutoAugment and RandAugment choose from, and colour jitter, all by Pillow.

Ranges are those of Cubuk et al. 2018, table 6. The share of a range that is used, from 0 up to 1, says how strong an
operation is: at 0 it does nothing. An operation that has two directions takes either by its `sign`. What comes into a
picture from outside is grey, as in the authors' code for ImageNet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import permutations
from math import cos, radians, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

GREY = 128
MOST_SHEAR = 0.3
MOST_SHIFT = 150 / 331
"""Of the picture's side: table 6 gives pixels for pictures of 331."""
MOST_DEGREES = 30.0
MOST_ENHANCEMENT = 0.9
FEWEST_BITS = 4

Operation = Callable[[Image.Image, float, int], Image.Image]
"""From a picture of mode L or RGB, a share of the range, and a sign of -1 or 1."""
Affine = tuple[float, float, float, float, float, float]
"""`(a, b, c, d, e, f)`: what comes to the point `(x, y)` was at `(a x + b y + c, d x + e y + f)`, as in Pillow."""
_ORDERS = tuple(permutations(range(4)))


def _shear_x(share: float, width: int, height: int) -> Affine:
    return 1, share * MOST_SHEAR, 0, 0, 1, 0


def _shear_y(share: float, width: int, height: int) -> Affine:
    return 1, 0, 0, share * MOST_SHEAR, 1, 0


def _translate_x(share: float, width: int, height: int) -> Affine:
    return 1, 0, int(share * MOST_SHIFT * width), 0, 1, 0


def _translate_y(share: float, width: int, height: int) -> Affine:
    return 1, 0, 0, 0, 1, int(share * MOST_SHIFT * height)


def _rotate(share: float, width: int, height: int) -> Affine:
    """Round the middle of the picture, against the clock."""
    angle = -radians(share * MOST_DEGREES)
    a, b, d, e = (round(value, 15) for value in (cos(angle), sin(angle), -sin(angle), cos(angle)))
    x, y = width / 2, height / 2
    return a, b, -a * x - b * y + x, d, e, -d * x - e * y + y


MOVES: Mapping[str, Callable[[float, int, int], Affine]] = {
    "rotate": _rotate,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
"""Those that move what is in a picture, by the share of the range with its sign, the width and the height."""


def origins(name: str, share: float, sign: int, height: int, width: int) -> NDArray[np.intp]:
    """Where each pixel comes from when an operation of `MOVES` moves a map: `(height, width)`, counted row by row.

    The nearest pixel serves, and beyond its sides the map is mirrored.
    """
    a, b, c, d, e, f = MOVES[name](sign * share, width, height)
    y, x = np.mgrid[:height, :width] + 0.5
    rows, columns = np.floor(d * x + e * y + f).astype(np.intp), np.floor(a * x + b * y + c).astype(np.intp)
    return mirrored(rows, height) * width + mirrored(columns, width)


def mirrored(places: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Places along an axis of a size, those beyond its ends mirrored there: -1 is 0, `size` is `size - 1`."""
    turned = places % (2 * size)
    return np.minimum(turned, 2 * size - 1 - turned)


def _move(name: str) -> Operation:
    def operation(image: Image.Image, share: float, sign: int) -> Image.Image:
        matrix = MOVES[name](sign * share, image.width, image.height)
        return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=_grey(image))

    return operation


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    def operation(image: Image.Image, share: float, sign: int) -> Image.Image:
        return kind(image).enhance(max(0.0, 1 + sign * share * MOST_ENHANCEMENT))

    return operation


def _posterize(image: Image.Image, share: float, sign: int) -> Image.Image:
    return ImageOps.posterize(image, max(1, 8 - round(share * (8 - FEWEST_BITS))))


def _solarize(image: Image.Image, share: float, sign: int) -> Image.Image:
    return ImageOps.solarize(image, max(0, round(256 * (1 - share))))


OPERATIONS: Mapping[str, Operation] = {
    "identity": lambda image, share, sign: image,
    "auto_contrast": lambda image, share, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, share, sign: ImageOps.equalize(image),
    "rotate": _move("rotate"),
    "solarize": _solarize,
    "color": _enhance(ImageEnhance.Color),
    "posterize": _posterize,
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": _move("shear_x"),
    "shear_y": _move("shear_y"),
    "translate_x": _move("translate_x"),
    "translate_y": _move("translate_y"),
    "invert": lambda image, share, sign: ImageOps.invert(image),
}
RANDOM = tuple(name for name in OPERATIONS if name != "invert")
"""The 14 that RandAugment draws from (Cubuk et al. 2019, section 3)."""


def jitter(
    image: Image.Image, brightness: float, contrast: float, saturation: float, hue: float, order: float
) -> Image.Image:
    """A picture with three factors and a turn of the hue applied, in the order that a number from 0 up to 1 picks."""
    for step in _ORDERS[int(order * len(_ORDERS))]:
        match step:
            case 0 if brightness != 1:
                image = ImageEnhance.Brightness(image).enhance(brightness)
            case 1 if contrast != 1:
                image = ImageEnhance.Contrast(image).enhance(contrast)
            case 2 if saturation != 1:
                image = ImageEnhance.Color(image).enhance(saturation)
            case 3 if hue and image.mode == "RGB":
                image = _turned(image, hue)
    return image


def _turned(image: Image.Image, hue: float) -> Image.Image:
    """Every pixel's hue moved on by a share of the circle."""
    shade, saturation, value = image.convert("HSV").split()
    step = round(hue * 256)
    shade = shade.point([(i + step) % 256 for i in range(256)])
    return Image.merge("HSV", (shade, saturation, value)).convert("RGB")


def _grey(image: Image.Image) -> int | tuple[int, ...]:
    return GREY if image.mode == "L" else (GREY,) * 3
