"""A part of a data set made ready for a network: pictures of the network's size, in memory where they fit.

Pictures are resized by their shorter side and cut at the centre, grey and RGB follow the network. Sets that fit in
`HELD_BYTES` at the network's size are decoded once; larger ones, and pictures of which every epoch cuts another part,
are decoded as they are wanted, by a pool of threads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.data.augment import Draw, augment, crop_box, crop_numbers
from cnnc.data.decode import MODES, BoxOf, Picture, centred, decode, resize, to_channels
from cnnc.data.sources import Examples, Files, Part, take
from cnnc.diagnostics import CnnError
from cnnc.ops.base import Shape, format_shape
from cnnc.recipe import Augment, RandomResizedCrop

HELD_BYTES = 1 << 30
WORKERS = os.cpu_count() or 1


@dataclass(frozen=True, eq=False)
class Feed:
    """Examples for a network whose inputs have `shapes`, changed at random by `augment` under `seed`.

    `size` is the height and width that pictures of another size are brought to as they are wanted; None means that
    `part` is in memory and of the network's size. `crop` is the share of the shorter side that is kept, and `broken`
    gathers the pictures that were left out.
    """

    part: Part
    shapes: tuple[Shape, ...]
    augment: tuple[Augment, ...] = ()
    seed: int = 0
    size: tuple[int, int] | None = None
    skip_corrupt: bool = False
    crop: float = 1.0
    broken: set[Path] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.part)

    @property
    def targets(self) -> tuple[NDArray[Any], ...]:
        """The targets of every example."""
        return (self.part.labels,) if isinstance(self.part, Files) else self.part.targets


@dataclass(frozen=True, eq=False)
class Fetched:
    """Arrays for every input and every target; `valid` is false for a picture that was left out."""

    inputs: tuple[NDArray[Any], ...]
    targets: tuple[NDArray[Any], ...]
    valid: NDArray[np.bool_]


def prepare(
    part: Part,
    shapes: Sequence[Shape],
    *,
    augment: Sequence[Augment] = (),
    seed: int = 0,
    skip_corrupt: bool = False,
    crop: float = 1.0,
) -> Feed:
    """The feed of a part for a network whose inputs have these shapes; of pictures `crop` of the shorter side is kept.

    Raises:
        CnnError: `data` when the examples cannot be brought to the shapes, `picture` when one cannot be decoded,
            `train` when `augment` is asked of what is no picture.
    """
    entries = tuple(augment)
    if entries and (len(shapes) != 1 or len(shapes[0]) != 3):
        found = ", ".join(map(format_shape, shapes))
        raise CnnError.of(
            "train",
            f"`augment` changes pictures, and the network takes {found}",
            help="remove the `augment` line of the train section",
        )
    if isinstance(part, Examples) and not _needs_resize(part, shapes, crop):
        held = _fitted(part, shapes)
        return Feed(held, tuple(shapes), entries, seed)
    size = _picture_size(part, shapes)
    lazy = Feed(part, tuple(shapes), entries, seed, size, skip_corrupt, crop)
    cuts = bool(entries) and isinstance(entries[0], RandomResizedCrop)
    return lazy if cuts or len(part) * prod(shapes[0]) > HELD_BYTES else _hold(lazy)


def fetch(feed: Feed, indices: NDArray[np.integer], epoch: int, pool: Executor) -> Fetched:
    """The examples of some indices as an epoch sees them."""
    targets = tuple(target[indices] for target in feed.targets)
    entries, first, valid = feed.augment, 0, np.ones(len(indices), bool)
    draw = Draw(feed.seed, epoch, indices)
    if feed.size is None:
        assert isinstance(feed.part, Examples)
        inputs = tuple(array[indices] for array in feed.part.inputs)
    else:
        boxes: Sequence[BoxOf | None] = [None] * len(indices)
        if entries and isinstance(entries[0], RandomResizedCrop):
            boxes, entries, first = _crops(entries[0], draw), entries[1:], 1
        pictures = list(pool.map(lambda i, box_of: _read(feed, int(i), box_of), indices, boxes))
        valid = np.array([picture is not None for picture in pictures])
        blank = np.zeros(feed.shapes[0], np.uint8)
        inputs = (np.stack([blank if picture is None else picture for picture in pictures]),)
    if entries:
        inputs = (augment(inputs[0], entries, draw, first=first),)
    shaped = tuple(array.reshape(-1, *shape) for array, shape in zip(inputs, feed.shapes, strict=True))
    return Fetched(shaped, targets, valid)


def _needs_resize(part: Examples, shapes: Sequence[Shape], crop: float) -> bool:
    shape = shapes[0]
    is_pictures = len(part.inputs) == len(shapes) == 1 and len(shape) == 3
    is_pictures = is_pictures and part.inputs[0].dtype == np.uint8 and part.inputs[0].ndim == 4
    if crop != 1 and not is_pictures:
        raise CnnError.of("argument", "`--crop` cuts pictures, and the data or the network's input are none")
    return is_pictures and (crop != 1 or part.inputs[0].shape[1:] != shape)


def _fitted(part: Examples, shapes: Sequence[Shape]) -> Examples:
    """The examples as they are, their arrays checked against the network's inputs; a missing axis of one is added."""
    if len(part.inputs) != len(shapes):
        raise CnnError.of("data", f"the network has {len(shapes)} inputs, and the data {len(part.inputs)}")
    fitted = []
    for array, shape in zip(part.inputs, shapes, strict=True):
        found = array.shape[1:]
        if found != shape and (*found, 1) != shape and not (len(shape) == 1 and prod(found) == shape[0]):
            raise CnnError.of(
                "data",
                f"the data's examples are {format_shape(found)}, and the network takes {format_shape(shape)}",
                help=f"--input {format_shape(found)}" if len(found) == len(shape) else None,
            )
        fitted.append(array.reshape(len(array), *shape) if (*found, 1) == shape else array)
    return Examples(tuple(fitted), part.targets)


def _picture_size(part: Part, shapes: Sequence[Shape]) -> tuple[int, int]:
    """Height and width of the network's input, which must be a picture that the part's pictures can become."""
    channels = part.inputs[0].shape[-1] if isinstance(part, Examples) else None
    if len(shapes) != 1 or len(shapes[0]) != 3:
        found = ", ".join(map(format_shape, shapes))
        raise CnnError.of(
            "data",
            f"the data are pictures, and the network takes {found}",
            help="a network of pictures has one input, height x width x channels",
        )
    height, width, wanted = shapes[0]
    if wanted not in MODES or (channels is not None and channels != wanted and {channels, wanted} != {1, 3}):
        own = "1, 3 or 4" if channels is None else str(channels)
        raise CnnError.of(
            "data",
            f"the network takes pictures of {wanted} channels, and the data's have {own}",
            help=f"--input {height}x{width}x{3 if channels is None else channels}",
        )
    return height, width


def _hold(feed: Feed) -> Feed:
    """The feed with every picture decoded into memory, and without those that cannot be."""
    out = np.empty((len(feed), *feed.shapes[0]), np.uint8)

    def put(index: int) -> bool:
        picture = _read(feed, index, None)
        if picture is None:
            return False
        out[index] = picture
        return True

    with ThreadPoolExecutor(WORKERS) as pool:
        good = np.fromiter(pool.map(put, range(len(feed))), bool, len(feed))
    if not good.any():
        raise CnnError.of("data", f"none of the {len(feed)} pictures can be decoded")
    whole = Examples((out,), feed.targets)
    part = whole if good.all() else take(whole, np.flatnonzero(good))
    return replace(feed, part=part, size=None)


def _read(feed: Feed, index: int, box_of: BoxOf | None) -> Picture | None:
    """One picture of the network's size; None if it cannot be decoded and the feed skips such."""
    assert feed.size is not None
    channels = feed.shapes[0][-1]
    if isinstance(feed.part, Files):
        path = feed.part.paths[index]
        try:
            return decode(path, feed.size, channels, box_of or centred(feed.size, feed.crop))
        except CnnError:
            if not feed.skip_corrupt:
                raise
            feed.broken.add(path)
            return None
    array = feed.part.inputs[0][index]
    box = (box_of or centred(feed.size, feed.crop))(array.shape[1], array.shape[0])
    return to_channels(resize(array, feed.size, box).astype(np.uint8, copy=False), channels)


def _crops(entry: RandomResizedCrop, draw: Draw) -> list[BoxOf]:
    """For every picture of a batch its random part, once the picture's size is known."""
    return [partial(crop_box, entry, row) for row in crop_numbers(draw, 0)]
