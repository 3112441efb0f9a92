"""Calibration samples: examples of a data set as the network takes them, or random ones where there is no data."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnc import backends
from cnnc.compiling.subject import Subject
from cnnc.diagnostics import CnnError

if TYPE_CHECKING:
    from cnnc.data.folder import Options
    from cnnc.data.sources import Part

Sample = dict[str, NDArray[Any]]
FEW = 16
"""Fewer samples than this make ranges that the next picture may leave."""


@dataclass(frozen=True, eq=False)
class Samples:
    """An array `(1, ...)` for every input, for every sample; what they are, and what the user should know of them."""

    arrays: tuple[Sample, ...]
    what: str
    notes: tuple[str, ...] = ()


def random_samples(subject: Subject, count: int) -> Samples:
    """Samples of noise: enough to see a network's structure, and no measure of its accuracy."""
    sample = backends.load("tflite", "condition").random_sample
    arrays = tuple(sample(subject.net.graph, seed) for seed in range(count))
    return Samples(arrays, f"{count} random samples")


def data_samples(
    subject: Subject, data: str, *, folder: Path | None, count: int, skip_corrupt: bool = False, crop: float = 1.0
) -> Samples:
    """`count` training examples of a data set, drawn by the run's seed; all of them where there are fewer.

    Of a folder of pictures that is not the run's own, all serve, sorted by class or not: ranges need no labels.
    `crop` is the share of the shorter side of every picture that the network sees.

    Raises:
        CnnError: the data cannot be read or does not fit the network, or its pictures are all of one colour.
    """
    from cnnc.data.feed import fetch, prepare
    from cnnc.data.folder import Options
    from cnnc.data.sources import take

    part, kind = _part(subject, data, folder, Options(subject.held_out, subject.seed, skip_corrupt))
    graph = subject.net.graph
    wanted = min(count, len(part))
    drawn = np.sort(np.random.default_rng(subject.seed).permutation(len(part))[:wanted])
    shapes = [node.shape for node in graph.inputs]
    feed = prepare(take(part, drawn), shapes, skip_corrupt=skip_corrupt, crop=crop)
    with ThreadPoolExecutor() as pool:
        fetched = fetch(feed, np.arange(len(feed)), 0, pool)
    arrays = tuple(
        {node.name: array[i : i + 1] for node, array in zip(graph.inputs, fetched.inputs, strict=True)}
        for i in range(len(feed))
        if fetched.valid[i]
    )
    _require_contrast(arrays, data)
    what = f"{len(arrays)} {kind}{'' if len(arrays) == 1 else 's'} of {data}"
    notes = []
    if len(arrays) < FEW:
        notes.append(f"ranges are measured on only {what}, and the next may leave them; 100 are a safer number")
    elif len(part) < count:
        notes.append(f"ranges are measured on all {what}: there are no more")
    return Samples(arrays, what, tuple(notes))


def is_own(subject: Subject, data: str) -> bool:
    """Whether a data set, by name or path, is the one that the subject was trained on."""
    from cnnc.data.load import NAMES

    if subject.data is None or data in NAMES:
        return data == subject.data
    return os.path.realpath(Path(data).expanduser()) == os.path.realpath(Path(subject.data).expanduser())


def _part(subject: Subject, data: str, folder: Path | None, options: Options) -> tuple[Part, str]:
    """What ranges are measured on, and what one of it is called."""
    from cnnc.data.folder import load_loose
    from cnnc.data.load import NAMES, load_data
    from cnnc.data.parts import part_folders
    from cnnc.data.record_sets import has_records

    path = Path(data).expanduser()
    is_folder = data not in NAMES and os.path.isdir(path) and not is_own(subject, data)
    if is_folder and "train" not in part_folders(path) and not has_records(path):
        return load_loose(path, options), "picture"
    return load_data(data, folder=folder, options=options).train, "training picture"


def _require_contrast(arrays: tuple[Sample, ...], data: str) -> None:
    if not arrays:
        raise CnnError.of("calibration", f"no picture of `{data}` can be decoded to measure ranges on")
    if all(array.min() == array.max() for sample in arrays for array in sample.values()):
        raise CnnError.of(
            "calibration",
            f"each of the {len(arrays)} calibration pictures of `{data}` is of a single colour",
            help="ranges measured on them would fit nothing else; calibrate on pictures such as the network will see",
        )
