"""Data sets: a `DataSet` of parts, each in memory, in picture files, or in files of records."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import CnnError


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples in memory: an array `(count, ...)` for every input of a network and for every target.

    Pictures are uint8 `(count, height, width, channels)` of any size. Integer targets are classes from 0.
    """

    inputs: tuple[NDArray[Any], ...]
    targets: tuple[NDArray[Any], ...]

    def __len__(self) -> int:
        return len(self.inputs[0])

    @property
    def labels(self) -> NDArray[np.int32]:
        """The classes of the only target, as a set of labelled pictures has them."""
        (target,) = self.targets
        labels: NDArray[np.int32] = target.astype(np.int32)
        return labels


@dataclass(frozen=True, eq=False)
class Files:
    """Pictures on disk and their classes, from 0."""

    paths: tuple[Path, ...]
    labels: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class Records:
    """Pictures as records in large files, and their classes, from 0.

    Picture i lies in `paths[file[i]]`, `length[i]` bytes from byte `offset[i]` on. Where `form` is `array_record`,
    `offset` is the number of the record instead, and the picture is a field of it.
    """

    paths: tuple[Path, ...]
    file: NDArray[np.int32]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    labels: NDArray[np.int32]
    form: Literal["tfrecord", "array_record"] = "tfrecord"

    def __len__(self) -> int:
        return len(self.labels)


Part = Examples | Files | Records


@dataclass(frozen=True, eq=False)
class DataSet:
    """The parts of a data set. `classes` names what the labels count, and is empty where targets are no classes.

    `val` is what training watches and `test` what evaluation measures; they may be the same part. `kind` says which
    pictures of the set `test` holds, and `notes` what else the user should know of how the parts came about.
    """

    name: str
    train: Part
    val: Part
    test: Part
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kind: str = "test"


def split(labels: NDArray[np.integer], fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to keep and indices to hold out, both ascending: about `fraction` of every class, one at least.

    Raises:
        CnnError: when a class has a single example, which cannot be on both sides.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    held: list[NDArray[np.int64]] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise CnnError.of("data", f"class {label} has a single example, which cannot be split in two parts")
        count = min(max(1, round(len(members) * fraction)), len(members) - 1)
        held.append(generator.permutation(members)[:count])
    out = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), out), out


def targets_of(part: Part) -> tuple[NDArray[Any], ...]:
    """The targets of every example."""
    return part.targets if isinstance(part, Examples) else (part.labels,)


def name_of(part: Part, index: int) -> Path:
    """A name for an example: its file, or its place in one."""
    if isinstance(part, Files):
        return part.paths[index]
    if isinstance(part, Records):
        place = "record" if part.form == "array_record" else "byte"
        return part.paths[int(part.file[index])] / f"{place} {part.offset[index]}"
    return Path(f"example {index}")


def take(part: Part, indices: NDArray[np.integer]) -> Part:
    """The examples of some indices."""
    if isinstance(part, Files):
        return Files(tuple(part.paths[i] for i in indices), part.labels[indices])
    if isinstance(part, Records):
        chosen = {name: getattr(part, name)[indices] for name in ("file", "offset", "length", "labels")}
        return replace(part, **chosen)
    return Examples(tuple(x[indices] for x in part.inputs), tuple(y[indices] for y in part.targets))
