"""Random changes of training pictures, whole batches at a time, deterministic under (seed, epoch, index).

The entries of a spec's `augment` line apply in the order written. A `random_resized_crop` that stands first cuts from
the picture as it is stored; anywhere else it cuts from the picture of the network's size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnc.data.decode import Box, resize
from cnnc.data.draws import uniform
from cnnc.data.operations import GREY, OPERATIONS, RANDOM, jitter
from cnnc.data.policies import MOST_MAGNITUDE, POLICIES
from cnnc.recipe import Augment, AutoAugment, ColorJitter, Cutout, Flip, PadCrop, RandAugment, RandomResizedCrop

Pictures = NDArray[np.generic]
"""`(batch, height, width, channels)`, uint8 or float."""


@dataclass(frozen=True)
class Draw:
    """Which random numbers a batch gets: those of a seed, an epoch and each picture's own index."""

    seed: int
    epoch: int
    indices: NDArray[np.integer]

    def uniform(self, stream: int) -> NDArray[np.float64]:
        """One number from 0 up to 1 for every picture."""
        return uniform(self.seed, self.epoch, self.indices, stream)


def augment(pictures: Pictures, entries: Sequence[Augment], draw: Draw, *, first: int = 0) -> Pictures:
    """The batch after all `entries`; `first` is the place of the first of them in the spec's line."""
    for place, entry in enumerate(entries, start=first):
        match entry:
            case PadCrop():
                pictures = _pad_crop(pictures, entry, draw, place)
            case Flip():
                pictures = _flip(pictures, entry, draw, place)
            case RandomResizedCrop():
                pictures = _random_resized_crop(pictures, entry, draw, place)
            case ColorJitter():
                pictures = _color_jitter(pictures, entry, draw, place)
            case Cutout():
                pictures = _cutout(pictures, entry, draw, place)
            case RandAugment():
                pictures = _rand_augment(pictures, entry, draw, place)
            case AutoAugment():
                pictures = _auto_augment(pictures, entry, draw, place)
            case _:
                raise AssertionError(entry)
    return pictures


def crop_numbers(draw: Draw, place: int) -> NDArray[np.float64]:
    """The random numbers that `crop_box` wants for every picture of a batch: `(batch, 4)`."""
    return np.stack([draw.uniform(stream(place, i)) for i in range(4)], axis=-1)


def crop_box(entry: RandomResizedCrop, numbers: NDArray[np.float64], width: int, height: int) -> Box:
    """The part that a picture is cut to: its area and the logarithm of its aspect are uniform, as is its place.

    As in Szegedy et al. 2015 and torchvision, but without a second try: an aspect with which the area does not fit
    into the picture is moved to the nearest with which it does.
    """
    area, aspect, x, y = numbers.tolist()
    target = width * height * (entry.minimum_area + area * (entry.maximum_area - entry.minimum_area))
    ratio = exp(log(3 / 4) + aspect * (log(4 / 3) - log(3 / 4)))
    ratio = min(max(ratio, target / height**2), width**2 / target)
    cut_width, cut_height = min(sqrt(target * ratio), width), min(sqrt(target / ratio), height)
    left, top = x * (width - cut_width), y * (height - cut_height)
    return left, top, left + cut_width, top + cut_height


def _pad_crop(pictures: Pictures, entry: PadCrop, draw: Draw, place: int) -> Pictures:
    pad = entry.pixels
    count, height, width, channels = pictures.shape
    padded = np.zeros((count, height + 2 * pad, width + 2 * pad, channels), pictures.dtype)
    padded[:, pad : pad + height, pad : pad + width] = pictures
    tops, lefts = ((draw.uniform(stream(place, i)) * (2 * pad + 1)).astype(int) for i in range(2))
    # Every window of every picture, without a copy; the index then copies one a picture.
    picture, row, pixel, _ = padded.strides
    item = padded.itemsize
    windows = np.lib.stride_tricks.as_strided(
        padded,
        (count, 2 * pad + 1, 2 * pad + 1, height, width * channels),
        (picture, row, pixel, row, item),
        writeable=False,
    )
    out: Pictures = windows[np.arange(count), tops, lefts].reshape(pictures.shape)
    return out


def _flip(pictures: Pictures, entry: Flip, draw: Draw, place: int) -> Pictures:
    mirrored = draw.uniform(stream(place, 0)) < entry.probability
    out = np.empty(pictures.shape, pictures.dtype)
    channels = pictures.shape[-1]
    for target, source, turned in zip(out, pictures, mirrored.tolist(), strict=True):
        if not turned:
            target[...] = source
        elif channels > 4:
            target[...] = source[:, ::-1]
        else:
            # numpy copies a row of single values backwards five times faster than one of short groups.
            for channel in range(channels):
                target[..., channel] = source[:, ::-1, channel]
    return out


def _random_resized_crop(pictures: Pictures, entry: RandomResizedCrop, draw: Draw, place: int) -> Pictures:
    _, height, width, _ = pictures.shape
    numbers = crop_numbers(draw, place)
    boxes = [crop_box(entry, row, width, height) for row in numbers]
    return np.stack([resize(p, (height, width), box) for p, box in zip(pictures, boxes, strict=True)])


def _color_jitter(pictures: Pictures, entry: ColorJitter, draw: Draw, place: int) -> Pictures:
    widths = (entry.brightness, entry.contrast, entry.saturation)
    factors = [1 + width * (2 * draw.uniform(stream(place, i)) - 1) for i, width in enumerate(widths)]
    hue = entry.hue * (2 * draw.uniform(stream(place, 3)) - 1)
    numbers = np.stack([*factors, hue, draw.uniform(stream(place, 4))], axis=-1)
    return _each(pictures, lambda image, row: jitter(image, *row), numbers)


def _cutout(pictures: Pictures, entry: Cutout, draw: Draw, place: int) -> Pictures:
    _, height, width, _ = pictures.shape
    out = np.array(pictures, order="C")
    grey = GREY if out.dtype == np.uint8 else 0
    rows = (draw.uniform(stream(place, 0)) * height).astype(int) - entry.size // 2
    columns = (draw.uniform(stream(place, 1)) * width).astype(int) - entry.size // 2
    for picture, row, column in zip(out, rows.tolist(), columns.tolist(), strict=True):
        picture[max(0, row) : max(0, row + entry.size), max(0, column) : max(0, column + entry.size)] = grey
    return out


def _rand_augment(pictures: Pictures, entry: RandAugment, draw: Draw, place: int) -> Pictures:
    numbers = np.stack([draw.uniform(stream(place, i)) for i in range(2 * entry.layers)], axis=-1)
    share = entry.magnitude / 10

    def change(image: Image.Image, row: list[float]) -> Image.Image:
        for chosen, side in zip(row[::2], row[1::2], strict=True):
            image = OPERATIONS[RANDOM[int(chosen * len(RANDOM))]](image, share, 1 if side < 0.5 else -1)
        return image

    return _each(pictures, change, numbers)


def _auto_augment(pictures: Pictures, entry: AutoAugment, draw: Draw, place: int) -> Pictures:
    policy = POLICIES[entry.policy]
    numbers = np.stack([draw.uniform(stream(place, i)) for i in range(5)], axis=-1)

    def change(image: Image.Image, row: list[float]) -> Image.Image:
        pair = policy[int(row[0] * len(policy))]
        for (name, probability, magnitude), number, side in zip(pair, row[1:3], row[3:], strict=True):
            if number < probability:
                image = OPERATIONS[name](image, magnitude / MOST_MAGNITUDE, 1 if side < 0.5 else -1)
        return image

    return _each(pictures, change, numbers)


def _each(
    pictures: Pictures, change: Callable[[Image.Image, list[float]], Image.Image], numbers: NDArray[np.float64]
) -> Pictures:
    """Every picture, uint8 of 1 or 3 channels, after `change`, which gets its row of the numbers."""
    assert pictures.dtype == np.uint8, pictures.dtype
    grey = pictures.shape[-1] == 1
    out = np.empty(pictures.shape, np.uint8)
    for target, picture, row in zip(out, np.ascontiguousarray(pictures), numbers.tolist(), strict=True):
        changed = np.asarray(change(Image.fromarray(picture[..., 0] if grey else picture), row))
        target[...] = changed[..., None] if grey else changed
    return out


def stream(place: int, number: int) -> int:
    """Which stream of random numbers an entry takes its `number`th from."""
    return 16 * place + number
