"""Random changes of training pictures, whole batches at a time, deterministic under (seed, epoch, index).

The entries of a spec's `augment` line apply in the order written. A `random_resized_crop` that stands first cuts from
the picture as it is stored; anywhere else it cuts from the picture of the network's size.

Maps, which say something of every place of a picture, move as it does; each place takes what is nearest to it. As
nothing is known beyond the sides of a map, what comes in from there is mirrored, in the picture and its maps alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnc.data.augmentation.operations import GREY, MOVES, OPERATIONS, RANDOM, jitter, mirrored, origins
from cnnc.data.augmentation.policies import MOST_MAGNITUDE, POLICIES
from cnnc.data.augmentation.random_draws import uniform
from cnnc.data.pictures.decode import Box, resize
from cnnc.recipe import Augment, AutoAugment, ColorJitter, Cutout, Flip, PadCrop, RandAugment, RandomResizedCrop

Pictures = NDArray[np.generic]
"""`(batch, height, width, channels)`, uint8 or float."""
Maps = tuple[NDArray[Any], ...]
"""Each `(batch, height, width)` of classes, or `(batch, height, width, channels)`."""
T = TypeVar("T")
Step = tuple[str, float, int]
"""An operation of `OPERATIONS`, its share and its sign."""


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
    return augment_with_maps(pictures, (), entries, draw, first=first)[0]


def augment_with_maps(
    pictures: Pictures, maps: Maps, entries: Sequence[Augment], draw: Draw, *, first: int = 0
) -> tuple[Pictures, Maps]:
    """The batch and its maps after all `entries`; `first` is the place of the first of them in the spec's line.

    Maps have the pictures' height and width, unless nothing but a `Flip` moves them.
    """
    assert all(entry_moves_all(entry, pictures.shape[1:3], m.shape[1:3]) for entry in entries for m in maps)
    for place, entry in enumerate(entries, start=first):
        match entry:
            case PadCrop():
                pictures, maps = _pad_crop(pictures, maps, entry, draw, place)
            case Flip():
                turned = draw.uniform(stream(place, 0)) < entry.probability
                pictures, maps = _flip(pictures, turned), tuple(_flip(m, turned) for m in maps)
            case RandomResizedCrop():
                pictures, maps = _random_resized_crop(pictures, maps, entry, draw, place)
            case ColorJitter():
                pictures = _color_jitter(pictures, entry, draw, place)
            case Cutout():
                pictures = _cutout(pictures, entry, draw, place)
            case RandAugment():
                pictures, maps = _rand_augment(pictures, maps, entry, draw, place)
            case AutoAugment():
                pictures, maps = _auto_augment(pictures, maps, entry, draw, place)
            case _:
                raise AssertionError(entry)
    return pictures, maps


def entry_moves_all(entry: Augment, picture: tuple[int, ...], map: tuple[int, ...]) -> bool:
    """Whether an entry can move a map of some height and width as it moves the picture that it belongs to.

    A map of another size is either the picture at another scale or its middle: mirrored it is right for both.
    """
    if not entry.moves or picture == map:
        return True
    (height, width), (rows, columns) = picture, map
    return isinstance(entry, Flip) and (height * columns == width * rows or height - rows == width - columns)


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


def crop_maps(maps: Maps, entry: RandomResizedCrop, numbers: NDArray[np.float64]) -> Maps:
    """Maps cut as `crop_box` cuts the pictures of their aspect that they belong to, at their own size."""
    out = []
    for whole in maps:
        height, width = whole.shape[1:3]
        boxes = np.array([crop_box(entry, row, width, height) for row in numbers])
        rows = _nearest(boxes[:, 1], boxes[:, 3], height)
        columns = _nearest(boxes[:, 0], boxes[:, 2], width)
        out.append(_take(whole, rows, columns))
    return tuple(out)


def _nearest(start: NDArray[np.float64], end: NDArray[np.float64], size: int) -> NDArray[np.intp]:
    """The places along an axis in which the middles of `size` parts from `start` to `end` lie: `(batch, size)`."""
    middles = start[:, None] + (np.arange(size) + 0.5) * ((end - start) / size)[:, None]
    return middles.astype(np.intp)


def _take(arrays: NDArray[Any], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[Any]:
    """Of each of a batch its own rows and columns: `(batch, rows, columns, ...)`."""
    each = np.arange(len(arrays))[:, None, None]
    out: NDArray[Any] = arrays[each, rows[:, :, None], columns[:, None, :]]
    return out


def _pad_crop(pictures: Pictures, maps: Maps, entry: PadCrop, draw: Draw, place: int) -> tuple[Pictures, Maps]:
    pad = entry.pixels
    count, height, width, channels = pictures.shape
    tops, lefts = ((draw.uniform(stream(place, i)) * (2 * pad + 1)).astype(int) for i in range(2))
    if maps:
        rows = mirrored(tops[:, None] - pad + np.arange(height), height)
        columns = mirrored(lefts[:, None] - pad + np.arange(width), width)
        return _take(pictures, rows, columns), tuple(_take(m, rows, columns) for m in maps)
    padded = np.zeros((count, height + 2 * pad, width + 2 * pad, channels), pictures.dtype)
    padded[:, pad : pad + height, pad : pad + width] = pictures
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
    return out, maps


def _flip(arrays: NDArray[Any], turned: NDArray[np.bool_]) -> NDArray[Any]:
    out = np.empty(arrays.shape, arrays.dtype)
    channels = arrays.shape[-1] if arrays.ndim == 4 else None
    for target, source, turn in zip(out, arrays, turned.tolist(), strict=True):
        if not turn:
            target[...] = source
        elif channels is None or channels > 4:
            target[...] = source[:, ::-1]
        else:
            # numpy copies a row of single values backwards five times faster than one of short groups.
            for channel in range(channels):
                target[..., channel] = source[:, ::-1, channel]
    return out


def _random_resized_crop(
    pictures: Pictures, maps: Maps, entry: RandomResizedCrop, draw: Draw, place: int
) -> tuple[Pictures, Maps]:
    _, height, width, _ = pictures.shape
    numbers = crop_numbers(draw, place)
    boxes = [crop_box(entry, row, width, height) for row in numbers]
    cut = np.stack([resize(p, (height, width), box) for p, box in zip(pictures, boxes, strict=True)])
    return cut, crop_maps(maps, entry, numbers)


def _color_jitter(pictures: Pictures, entry: ColorJitter, draw: Draw, place: int) -> Pictures:
    widths = (entry.brightness, entry.contrast, entry.saturation)
    factors = [1 + width * (2 * draw.uniform(stream(place, i)) - 1) for i, width in enumerate(widths)]
    hue = entry.hue * (2 * draw.uniform(stream(place, 3)) - 1)
    numbers = np.stack([*factors, hue, draw.uniform(stream(place, 4))], axis=-1)
    return _each(pictures, lambda image, row: jitter(image, *row), numbers.tolist())


def _cutout(pictures: Pictures, entry: Cutout, draw: Draw, place: int) -> Pictures:
    _, height, width, _ = pictures.shape
    out = np.array(pictures, order="C")
    grey = GREY if out.dtype == np.uint8 else 0
    rows = (draw.uniform(stream(place, 0)) * height).astype(int) - entry.size // 2
    columns = (draw.uniform(stream(place, 1)) * width).astype(int) - entry.size // 2
    for picture, row, column in zip(out, rows.tolist(), columns.tolist(), strict=True):
        picture[max(0, row) : max(0, row + entry.size), max(0, column) : max(0, column + entry.size)] = grey
    return out


def _rand_augment(pictures: Pictures, maps: Maps, entry: RandAugment, draw: Draw, place: int) -> tuple[Pictures, Maps]:
    numbers = np.stack([draw.uniform(stream(place, i)) for i in range(2 * entry.layers)], axis=-1)
    share = entry.magnitude / 10

    def steps(row: list[float]) -> list[Step]:
        pairs = zip(row[::2], row[1::2], strict=True)
        return [(RANDOM[int(chosen * len(RANDOM))], share, 1 if side < 0.5 else -1) for chosen, side in pairs]

    return _operated(pictures, maps, [steps(row) for row in numbers.tolist()])


def _auto_augment(pictures: Pictures, maps: Maps, entry: AutoAugment, draw: Draw, place: int) -> tuple[Pictures, Maps]:
    policy = POLICIES[entry.policy]
    numbers = np.stack([draw.uniform(stream(place, i)) for i in range(5)], axis=-1)

    def steps(row: list[float]) -> list[Step]:
        pair = policy[int(row[0] * len(policy))]
        return [
            (name, magnitude / MOST_MAGNITUDE, 1 if side < 0.5 else -1)
            for (name, probability, magnitude), number, side in zip(pair, row[1:3], row[3:], strict=True)
            if number < probability
        ]

    return _operated(pictures, maps, [steps(row) for row in numbers.tolist()])


def _operated(pictures: Pictures, maps: Maps, steps: Sequence[Sequence[Step]]) -> tuple[Pictures, Maps]:
    """Every picture after its own steps, and its maps after those of them that move."""

    def change(image: Image.Image, own: Sequence[Step]) -> Image.Image:
        for name, share, sign in own:
            if maps and name in MOVES:
                image = Image.fromarray(_moved(np.asarray(image), name, share, sign))
            else:
                image = OPERATIONS[name](image, share, sign)
        return image

    moved = tuple(m.copy() for m in maps)
    for i, own in enumerate(steps if maps else ()):
        for name, share, sign in own:
            for m in moved if name in MOVES else ():
                m[i] = _moved(m[i], name, share, sign)
    return _each(pictures, change, steps), moved


def _moved(array: NDArray[Any], name: str, share: float, sign: int) -> NDArray[Any]:
    """A picture or a map `(height, width, ...)` after an operation of `MOVES`, mirrored at its sides."""
    height, width, *rest = array.shape
    out: NDArray[Any] = array.reshape(height * width, *rest)[origins(name, share, sign, height, width)]
    return out


def _each(pictures: Pictures, change: Callable[[Image.Image, T], Image.Image], rows: Sequence[T]) -> Pictures:
    """Every picture, uint8 of 1 or 3 channels, after `change`, which gets its own of the rows."""
    assert pictures.dtype == np.uint8, pictures.dtype
    grey = pictures.shape[-1] == 1
    out = np.empty(pictures.shape, np.uint8)
    for target, picture, row in zip(out, np.ascontiguousarray(pictures), rows, strict=True):
        changed = np.asarray(change(Image.fromarray(picture[..., 0] if grey else picture), row))
        target[...] = changed[..., None] if grey else changed
    return out


def stream(place: int, number: int) -> int:
    """Which stream of random numbers an entry takes its `number`th from."""
    return 16 * place + number
