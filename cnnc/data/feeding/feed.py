"""A part of a data set made ready for a network: pictures of the network's size, changed at random, in chunks.

Pictures are resized by their shorter side and cut at the centre, grey and RGB follow the network. Each is decoded once
where it can be kept: a small set at once, a larger one as the first epoch comes along (`data.sources.decoded_cache`).
Pictures of which every epoch cuts another part are decoded as they are wanted. Threads do the work: Pillow and
simplejpeg let go of the interpreter meanwhile, and processes would have to send what they made (`bench/pipeline.py`
measures both).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.data.augmentation.augment import Draw, augment_with_maps, crop_box, crop_maps, crop_numbers
from cnnc.data.augmentation.mix import split_off
from cnnc.data.feeding.checks import fitted, is_map, needs_resize, picture_size, require_maps, require_pictures
from cnnc.data.pictures.decode import BoxOf, Picture, centred, decode, decode_bytes, resize, to_channels, undecodable
from cnnc.data.sources.data_set import Examples, Files, Part, Records, name_of, take, targets_of
from cnnc.data.sources.decoded_cache import BROKEN, GOOD, MISSING, DecodedPictures, open_decoded
from cnnc.data.sources.record_pictures import read_picture
from cnnc.diagnostics import CnnError
from cnnc.ops.base import Shape
from cnnc.recipe import Augment, RandomResizedCrop

WORKERS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SMALL_BYTES = 1 << 25
"""Sets that are no larger when decoded are decoded before the first step, which then knows of every broken picture."""
_CHUNK = 16
"""A thread gets no fewer pictures at a time, as handing them over costs too."""


@dataclass(frozen=True)
class Shard:
    """Which part of every global batch a process reads: the `index`th of `count` equal ones, in order.

    The parts are of the order that the whole set is shuffled into, so processes have as much to do as each other
    however unequal the files are that the set lies in.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        assert 0 <= self.index < self.count, self

    def of(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """The process's own part of a batch. Raises CnnError when the batch does not split into equal parts."""
        if len(batch) % self.count:
            raise CnnError.of(
                "value",
                f"a batch of {len(batch)} does not split over {self.count} processes",
                help=f"--batch {ceil(len(batch) / self.count) * self.count}",
            )
        size = len(batch) // self.count
        return batch[self.index * size : (self.index + 1) * size]


@dataclass(frozen=True, eq=False)
class Feed:
    """Examples for a network whose inputs have `shapes`, changed at random by `augment` under `seed`.

    `size` is the height and width that pictures of another size are brought to as they are wanted, `decoded` their
    cache; None means that `part` is in memory and of the network's size. `widths` are the channels of the
    network's outputs, for what mixes labels. `crop` is the share of the shorter side that is kept, and `broken` gathers
    the pictures that were left out.
    """

    part: Part
    shapes: tuple[Shape, ...]
    augment: tuple[Augment, ...] = ()
    seed: int = 0
    size: tuple[int, int] | None = None
    skip_corrupt: bool = False
    crop: float = 1.0
    broken: set[Path] = field(default_factory=set)
    decoded: DecodedPictures | None = None
    stamps: NDArray[np.int64] | None = None
    widths: tuple[int, ...] = ()
    workers: int = WORKERS
    shard: Shard = Shard()
    names: Part | None = None
    """The part that the examples were read from, where `part` no longer knows."""

    def __len__(self) -> int:
        return len(self.part)

    @property
    def targets(self) -> tuple[NDArray[Any], ...]:
        """The targets of every example."""
        return targets_of(self.part)


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
    widths: Sequence[int] = (),
    workers: int | None = None,
) -> Feed:
    """The feed of a part, all of it, for a network whose inputs have these shapes.

    Args:
        part: the examples.
        shapes: of the network's inputs.
        augment: the random changes, in order.
        seed: of the order and the changes.
        skip_corrupt: leave out pictures that cannot be decoded.
        crop: the share of the shorter side that is kept of pictures.
        widths: the channels of the network's outputs; what mixes labels wants them.
        workers: threads that decode and change pictures, one a core by default. What comes out is the same.

    Raises:
        CnnError: `data` when the examples cannot be brought to the shapes, `train` when `augment` is asked of what it
            cannot change.
    """
    entries, inputs = tuple(augment), tuple(shapes)
    require_pictures(part, inputs, entries)
    require_maps(part, inputs, entries, crop)
    rest: dict[str, Any] = {"widths": tuple(widths), "workers": workers or WORKERS}
    if isinstance(part, Examples) and not needs_resize(part, inputs, crop):
        return Feed(fitted(part, inputs), inputs, entries, seed, **rest)
    size = picture_size(part, inputs)
    lazy = Feed(part, inputs, entries, seed, size, skip_corrupt, crop, **rest)
    if entries and isinstance(entries[0], RandomResizedCrop):
        return lazy
    if len(part) * prod(inputs[0]) <= SMALL_BYTES:
        return _decode_all(lazy)
    return _cached(lazy)


def example_name(feed: Feed, index: int) -> Path:
    """A name for an example: its file, its place in one, or its number."""
    return name_of(feed.names or feed.part, index)


def fetch(feed: Feed, indices: NDArray[np.integer], epoch: int, pool: Executor) -> Fetched:
    """The examples of some indices as an epoch sees them, before any are mixed."""
    return begin(feed, indices, epoch, pool)()


def begin(feed: Feed, indices: NDArray[np.integer], epoch: int, pool: Executor) -> Callable[[], Fetched]:
    """Set the pool to work on some examples. The function returned waits for them."""
    chunks = max(1, min(feed.workers, len(indices) // _CHUNK))
    waiting = [pool.submit(_produce, feed, part, epoch) for part in np.array_split(indices, chunks)]

    def wait() -> Fetched:
        done = [future.result() for future in waiting]
        inputs, targets = (
            tuple(map(_concatenate, zip(*arrays, strict=True)))
            for arrays in ([chunk.inputs for chunk in done], [chunk.targets for chunk in done])
        )
        return Fetched(inputs, targets, _concatenate([chunk.valid for chunk in done]))

    return wait


def _produce(feed: Feed, indices: NDArray[np.integer], epoch: int) -> Fetched:
    """Some examples, with the maps among their targets changed as the pictures are."""
    entries, first, valid = split_off(feed.augment)[0], 0, np.ones(len(indices), bool)
    draw = Draw(feed.seed, epoch, indices)
    targets = [target[indices] for target in feed.targets]
    places = [i for i, target in enumerate(targets) if is_map(target)]
    maps = tuple(targets[i] for i in places)
    if feed.size is None:
        assert isinstance(feed.part, Examples)
        inputs = tuple(array[indices] for array in feed.part.inputs)
    elif entries and isinstance(entries[0], RandomResizedCrop):
        numbers = crop_numbers(draw, 0)
        pictures, valid = _read_all(feed, indices, [partial(crop_box, entries[0], row) for row in numbers])
        maps = crop_maps(maps, entries[0], numbers)
        inputs, entries, first = (pictures,), entries[1:], 1
    else:
        pictures, valid = _from_cache(feed, indices)
        inputs = (pictures,)
    if entries:
        changed, maps = augment_with_maps(inputs[0], maps, entries, draw, first=first)
        inputs = (changed,)
    for i, moved in zip(places, maps, strict=True):
        targets[i] = moved
    shaped = tuple(array.reshape(-1, *shape) for array, shape in zip(inputs, feed.shapes, strict=True))
    return Fetched(shaped, tuple(targets), valid)


def _decode_all(feed: Feed) -> Feed:
    """The feed with every picture decoded into memory, and without those that cannot be."""
    indices = np.arange(len(feed))
    with ThreadPoolExecutor(feed.workers) as pool:
        chunks = pool.map(
            lambda part: _read_all(feed, part, [None] * len(part)),
            np.array_split(indices, max(1, len(feed) // 64)),
        )
        pictures, valid = (_concatenate(arrays) for arrays in zip(*chunks, strict=True))
    if not valid.any():
        raise undecodable(len(feed))
    whole, good = Examples((pictures,), feed.targets), np.flatnonzero(valid)
    part = whole if valid.all() else take(whole, good)
    return replace(feed, part=part, size=None, names=feed.part if valid.all() else take(feed.part, good))


def _cached(feed: Feed) -> Feed:
    """The feed with a cache of decoded pictures, where it can have one; files must not change from now on."""
    stamps = _stamps(feed.part)
    decoded = open_decoded(len(feed), feed.shapes[0], None if stamps is None else _origin(feed.part, stamps, feed.crop))
    if decoded is not None and not feed.skip_corrupt:
        decoded.state[decoded.state == BROKEN] = MISSING  # to report in this run what another left out
    return replace(feed, decoded=decoded, stamps=stamps)


def _from_cache(feed: Feed, indices: NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pictures out of the cache, and into it where they are not yet."""
    decoded = feed.decoded
    if decoded is None:
        return _read_all(feed, indices, [None] * len(indices))
    for i in indices[decoded.state[indices] == MISSING].tolist():
        decoded.store(i, _read(feed, i, None))
    state = decoded.state[indices]
    out = decoded.pictures[indices]
    if (state == BROKEN).any():
        feed.broken.update(name_of(feed.part, int(i)) for i in indices[state == BROKEN])
        out[state == BROKEN] = 0
    return np.asarray(out), state == GOOD


def _read_all(
    feed: Feed, indices: NDArray[np.integer], boxes: Sequence[BoxOf | None]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pictures one after the other, black where one is left out, and which are good."""
    out, valid = np.empty((len(indices), *feed.shapes[0]), np.uint8), np.ones(len(indices), bool)
    for i, (index, box_of) in enumerate(zip(indices.tolist(), boxes, strict=True)):
        picture = _read(feed, index, box_of)
        out[i] = 0 if picture is None else picture
        valid[i] = picture is not None
    return out, valid


def _read(feed: Feed, index: int, box_of: BoxOf | None) -> Picture | None:
    """One picture of the network's size; None if it cannot be decoded and the feed skips such."""
    assert feed.size is not None
    part, channels = feed.part, feed.shapes[0][-1]
    box_of = box_of or centred(feed.size, feed.crop)
    if isinstance(part, Examples):
        array = part.inputs[0][index]
        box = box_of(array.shape[1], array.shape[0])
        return to_channels(resize(array, feed.size, box).astype(np.uint8, copy=False), channels)
    try:
        if isinstance(part, Records):
            return decode_bytes(read_picture(part, index), str(name_of(part, index)), feed.size, channels, box_of)
        picture = decode(part.paths[index], feed.size, channels, box_of)
        if feed.stamps is not None:
            _require_unchanged(part.paths[index], feed.stamps[index])
        return picture
    except CnnError as error:
        if isinstance(part, Files) and not part.paths[index].exists():
            raise CnnError.of(
                "data",
                f"`{part.paths[index]}` was there when the folder was read, and is gone",
                help="start again once nothing changes the folder any more; a run goes on from where it was saved",
            ) from error
        if not feed.skip_corrupt or error.diagnostics[0].code != "picture":
            raise
        feed.broken.add(name_of(part, index))
        return None


def _require_unchanged(path: Path, stamp: NDArray[np.int64]) -> None:
    """Raises CnnError when a file is another than when the folder was read."""
    if path.is_file() and not np.array_equal(_stamp(path), stamp):
        raise CnnError.of(
            "data",
            f"`{path}` was changed after the folder was read",
            help="start again once nothing changes the folder any more; a run goes on from where it was saved",
        )


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of change; zeros for a file that is gone, which reading it will say."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _stamps(part: Part) -> NDArray[np.int64] | None:
    """Size and time of change of every file, `(files, 2)`; None for what is in memory."""
    if isinstance(part, Examples):
        return None
    return np.array([_stamp(path) for path in part.paths], np.int64).reshape(-1, 2)


def _origin(part: Part, stamps: NDArray[np.int64], crop: float) -> Iterator[bytes]:
    """All that decides what the pictures of a part look like."""
    assert not isinstance(part, Examples)
    yield "\n".join(os.path.abspath(path) for path in part.paths).encode(errors="surrogateescape")
    yield stamps.tobytes() + repr(crop).encode()
    if isinstance(part, Records):
        yield part.form.encode()
        yield from (part.file.tobytes(), part.offset.tobytes())


def _concatenate(chunks: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
