"""Statistics of a data set: counts, sizes, colours, files that cannot be decoded, pictures that are in two parts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnc.data.feeding.feed import WORKERS
from cnnc.data.pictures.decode import MOST_BYTES, decode_bytes
from cnnc.data.sources.data_set import DataSet, Examples, Files, Part, name_of, targets_of
from cnnc.data.sources.record_pictures import read_picture
from cnnc.diagnostics import CnnError
from cnnc.files import read_bytes
from cnnc.wording import reason_of

_MOST_PIXELS = 512
"""A picture's colours are measured on it made no wider and no higher than this, each counting by its own size."""
_AHEAD = 64


@dataclass(frozen=True)
class Broken:
    """A picture that cannot be read, and why."""

    name: Path
    reason: str


@dataclass(frozen=True)
class Repeated:
    """A picture of one part that another has too, byte for byte."""

    name: Path
    part: str
    other: Path
    other_part: str


@dataclass(frozen=True)
class Size:
    """How many pictures have a width, a height and a number of channels."""

    width: int
    height: int
    channels: int
    count: int


@dataclass(frozen=True)
class PartStatistics:
    """Statistics of a part. `counts` has a number a class; `sizes` are the commonest first; `bytes` of picture files.

    `mean` and `deviation` are over all pixels of all pictures, from 0 to 255, a number a channel.
    """

    part: str
    count: int
    counts: tuple[int, ...]
    sizes: tuple[Size, ...]
    bytes: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    broken: tuple[Broken, ...]


@dataclass(frozen=True, eq=False)
class _PictureStatistics:
    """The sums over one picture; `reason` says why it cannot be read."""

    stored: int
    digest: bytes
    size: tuple[int, int, int] | None
    sums: NDArray[np.float64] | None
    reason: str | None = None


class _Total:
    """The sums over the pictures of a part so far."""

    def __init__(self) -> None:
        self.bytes = 0
        self.sizes: Counter[tuple[int, int, int]] = Counter()
        self.sums: NDArray[np.float64] = np.zeros((3, 1))
        self.broken: list[Broken] = []

    def add(self, part: Part, index: int, picture: _PictureStatistics) -> None:
        self.bytes += picture.stored
        if picture.size is not None and picture.sums is not None:
            self.sizes[picture.size] += 1
            self.sums = self.sums + picture.sums
        else:
            self.broken.append(Broken(name_of(part, index), picture.reason or ""))

    def statistics(self, name: str, part: Part, classes: int) -> PartStatistics:
        pixels, sums, squares = self.sums
        mean = sums / np.maximum(pixels, 1)
        deviation = np.sqrt(np.maximum(squares / np.maximum(pixels, 1) - np.square(mean), 0))
        return PartStatistics(
            name,
            len(part),
            tuple(np.bincount(targets_of(part)[0], minlength=classes).tolist()),
            tuple(Size(*size, count) for size, count in self.sizes.most_common()),
            self.bytes,
            tuple(mean.tolist()),
            tuple(deviation.tolist()),
            tuple(self.broken),
        )


def parts_of(data: DataSet) -> dict[str, Part]:
    """The parts by name, each once: a set without a test part has its validation part in both places."""
    parts: dict[str, Part] = {}
    for name, part in (("train", data.train), ("val", data.val), ("test", data.test)):
        if not any(part is other for other in parts.values()):
            parts[name] = part
    return parts


def inspect(data: DataSet, channels: int = 3) -> tuple[list[PartStatistics], list[Repeated]]:
    """Every picture of every part, decoded once, and those that are in two parts.

    Args:
        data: the set, of pictures.
        channels: 1 or 3: what means and deviations are of.

    Raises:
        CnnError: the data are no labelled pictures.
    """
    statistics: list[PartStatistics] = []
    first: dict[bytes, tuple[str, int]] = {}
    repeated: list[Repeated] = []
    parts = parts_of(data)
    for name, part in parts.items():
        _require_pictures(part)
        total, own = _Total(), dict[bytes, tuple[str, int]]()
        for index, picture in enumerate(_measure_all(part, channels)):
            total.add(part, index, picture)
            if picture.digest in first:
                other, at = first[picture.digest]
                repeated.append(Repeated(name_of(part, index), name, name_of(parts[other], at), other))
            own.setdefault(picture.digest, (name, index))
        first = {**own, **first}
        statistics.append(total.statistics(name, part, len(data.classes)))
    return statistics, repeated


def _require_pictures(part: Part) -> None:
    if isinstance(part, Examples) and (len(part.inputs) != 1 or part.inputs[0].ndim != 4):
        raise CnnError.of("data", "the data are no pictures", help="`cnnc data` looks at sets of labelled pictures")


def _measure_all(part: Part, channels: int) -> Iterator[_PictureStatistics]:
    """Every picture measured by threads, a bounded number ahead."""
    with ThreadPoolExecutor(WORKERS) as pool:
        for start in range(0, len(part), _AHEAD):
            indices = range(start, min(start + _AHEAD, len(part)))
            yield from pool.map(lambda index: _measure(part, index, channels), indices)


def _measure(part: Part, index: int, channels: int) -> _PictureStatistics:
    if isinstance(part, Examples):
        array = part.inputs[0][index]
        height, width, own = array.shape
        return _PictureStatistics(0, _digest(array.tobytes()), (width, height, own), _sums(array))
    name = name_of(part, index)
    try:
        raw = read_bytes(name, MOST_BYTES) if isinstance(part, Files) else read_picture(part, index)
    except OSError as error:
        return _PictureStatistics(0, str(name).encode(), None, None, reason_of(error))
    except CnnError as error:
        return _PictureStatistics(0, str(name).encode(), None, None, error.diagnostics[0].message)
    try:
        size = _size(raw)
        scale = max(1, ceil(max(size[:2]) / _MOST_PIXELS))
        smaller = (max(1, size[1] // scale), max(1, size[0] // scale))
        picture = decode_bytes(raw, str(name), smaller, channels, lambda width, height: (0, 0, width, height))
    except CnnError as error:
        return _PictureStatistics(len(raw), _digest(raw), None, None, error.diagnostics[0].message)
    return _PictureStatistics(
        len(raw), _digest(raw), size, _sums(picture) * (size[0] * size[1] / (picture.size / channels))
    )


def _size(raw: bytes) -> tuple[int, int, int]:
    """Width, height and channels as stored; zeros for a file that `decode_bytes` will not read either."""
    try:
        with Image.open(BytesIO(raw)) as image:
            width, height = image.size
            if image.getexif().get(0x0112, 1) >= 5:
                width, height = height, width
            return width, height, len(image.getbands())
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 1, 1, 0


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()


def _sums(picture: NDArray[np.generic]) -> NDArray[np.float64]:
    """Pixels, sums and sums of squares, `(3, channels)`."""
    values = picture.reshape(-1, picture.shape[-1]).astype(np.float64)
    return np.stack([np.full(values.shape[1], len(values)), values.sum(axis=0), np.square(values).sum(axis=0)])


def normalize_line(statistics: PartStatistics) -> str:
    """The layer that brings the part's pixels to mean 0 and deviation 1, as a spec has it."""
    mean = ", ".join(f"{value:.1f}" for value in statistics.mean)
    std = ", ".join(f"{value:.1f}" if value >= 0.05 else "1.0" for value in statistics.deviation)
    return f"normalize(mean=[{mean}], std=[{std}])"


def unbalanced(counts: Sequence[int]) -> float:
    """How many times more pictures the largest class has than the smallest; infinite where one has none."""
    return max(counts) / min(counts) if counts and min(counts) else float("inf")
