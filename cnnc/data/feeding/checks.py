"""Whether examples, and the changes asked of them, fit a network's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.data.augmentation.augment import entry_moves_all
from cnnc.data.augmentation.mix import split_off
from cnnc.data.sources.data_set import Examples, Part, targets_of
from cnnc.diagnostics import CnnError
from cnnc.ir.pixels import PICTURE_CHANNELS
from cnnc.ops.base import Shape, format_shape
from cnnc.recipe import Augment, AutoAugment, ColorJitter, Cutmix, Mix, RandAugment
from cnnc.wording import number_of


def require_pictures(part: Part, shapes: tuple[Shape, ...], entries: tuple[Augment, ...]) -> None:
    """Raises CnnError when `augment` is asked of what it cannot change."""
    if not entries:
        return
    if len(shapes) != 1 or len(shapes[0]) != 3:
        sizes = ", ".join(map(format_shape, shapes))
        raise CnnError.of(
            "train",
            f"`augment` changes pictures, and the network takes {sizes}",
            help="remove the `augment` line of the train section",
        )
    alone, mixes = split_off(entries)
    if entries != (*alone, *mixes):
        early = next(entry for entry, wanted in zip(entries, (*alone, *mixes), strict=True) if entry != wanted)
        raise CnnError.of(
            "train",
            f"`{early.names[0]}` mixes pictures that are ready, and does not come last",
            help=f"move `{early.names[0]}` to the end of the `augment` line",
        )
    floats = isinstance(part, Examples) and part.inputs[0].dtype != np.uint8
    for entry in entries:
        if isinstance(entry, ColorJitter | RandAugment | AutoAugment) and (floats or shapes[0][-1] not in (1, 3)):
            kind = str(part.inputs[0].dtype) if floats and isinstance(part, Examples) else format_shape(shapes[0])
            raise CnnError.of(
                "train",
                f"`{entry.names[0]}` changes pictures of 1 or 3 channels of bytes, and these are {kind}",
                help=f"remove `{entry.names[0]}` from the `augment` line",
            )
    for entry in mixes:
        if any(_is_beyond(entry, target) for target in targets_of(part)):
            raise CnnError.of(
                "train",
                f"`{entry.names[0]}` mixes labels, one a picture, and these pictures have several each",
                help=f"remove `{entry.names[0]}` from the `augment` line",
            )


def is_map(target: NDArray[Any]) -> bool:
    """Whether targets `(examples, ...)` say something of every place of their pictures, by their axes."""
    return target.ndim >= 3


def require_maps(part: Part, shapes: tuple[Shape, ...], entries: tuple[Augment, ...], crop: float) -> None:
    """Raises CnnError when pictures would be cut or moved and the maps among their targets could not be alike."""
    maps = [target for target in targets_of(part) if is_map(target)]
    if not maps or len(shapes) != 1 or len(shapes[0]) != 3:
        return
    size = shapes[0][:2]
    if isinstance(part, Examples) and needs_resize(part, shapes, crop):
        stored = part.inputs[0].shape[1:3]
        if crop != 1 or stored[0] * size[1] != stored[1] * size[0]:
            raise CnnError.of(
                "data",
                f"pictures of {format_shape(stored)} would be cut to the network's {format_shape(size)},"
                " and their masks not",
                help=f"give pictures and masks of {format_shape(size)}",
            )
    for entry in entries:
        for target in maps:
            map_size = target.shape[1:3]
            if not entry_moves_all(entry, size, map_size):
                raise CnnError.of(
                    "train",
                    f"`{entry.names[0]}` cannot move masks of {format_shape(map_size)} as it moves pictures of"
                    f" {format_shape(size)}",
                    help=f"remove `{entry.names[0]}` from the `augment` line",
                )


def _is_beyond(entry: Mix, target: NDArray[Any]) -> bool:
    """Whether targets are more than a mix can mix: several classes a picture, or to set a box into what is no label."""
    return target.ndim > 1 if target.dtype.kind in "iub" else is_map(target) and isinstance(entry, Cutmix)


def needs_resize(part: Examples, shapes: Sequence[Shape], crop: float) -> bool:
    shape = shapes[0]
    is_pictures = len(part.inputs) == len(shapes) == 1 and len(shape) == 3
    is_pictures = is_pictures and part.inputs[0].dtype == np.uint8 and part.inputs[0].ndim == 4
    if crop != 1 and not is_pictures:
        raise CnnError.of("argument", "`--crop` cuts pictures, and the data or the network's input are none")
    return is_pictures and (crop != 1 or part.inputs[0].shape[1:] != shape)


def fitted(part: Examples, shapes: Sequence[Shape]) -> Examples:
    """The examples as they are, their arrays checked against the network's inputs; a missing axis of one is added."""
    if len(part.inputs) != len(shapes):
        raise CnnError.of("data", f"the network has {number_of(len(shapes), 'input')}, and the data {len(part.inputs)}")
    arrays = []
    for array, shape in zip(part.inputs, shapes, strict=True):
        own = array.shape[1:]
        if not fits(own, shape):
            raise CnnError.of(
                "data",
                f"the data's examples are {format_shape(own)}, and the network takes {format_shape(shape)}",
                help=f"--input {format_shape(own)}" if len(own) == len(shape) else None,
            )
        arrays.append(array.reshape(len(array), *shape) if (*own, 1) == shape else array)
    return Examples(tuple(arrays), part.targets)


def fits(shape: Shape, expected: Shape) -> bool:
    """Whether examples of a shape are what an input takes: as they are, flattened, or with a last axis of one."""
    return shape == expected or (*shape, 1) == expected or (len(expected) == 1 and prod(shape) == expected[0])


def picture_size(part: Part, shapes: Sequence[Shape]) -> tuple[int, int]:
    """Height and width of the network's input, which must be a picture that the part's pictures can become."""
    channels = part.inputs[0].shape[-1] if isinstance(part, Examples) else None
    if len(shapes) != 1 or len(shapes[0]) != 3:
        sizes = ", ".join(map(format_shape, shapes))
        raise CnnError.of(
            "data",
            f"the data are pictures, and the network takes {sizes}",
            help="a network of pictures has one input, height x width x channels",
        )
    height, width, wanted = shapes[0]
    if wanted not in PICTURE_CHANNELS or (channels is not None and channels != wanted and {channels, wanted} != {1, 3}):
        own = "1, 3 or 4" if channels is None else str(channels)
        raise CnnError.of(
            "data",
            f"the network takes pictures of {wanted} channels, and the data's have {own}",
            help=f"--input {height}x{width}x{3 if channels is None else channels}",
        )
    return height, width
