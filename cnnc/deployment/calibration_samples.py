"""Calibration samples: examples as the network takes them, of data in any form, or random ones where there is none."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc import backends
from cnnc.data.sources.arrays import ordered
from cnnc.deployment.array_data import inputs_in, is_index, require_fitting, rows_of
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.ops import format_shape
from cnnc.runs.trained import Trained
from cnnc.wording import number_of

if TYPE_CHECKING:
    from cnnc.data.sources.data_set import Part
    from cnnc.data.sources.folder import Options

Sample = dict[str, NDArray[Any]]
FEW = 16
"""Fewer samples than this make ranges that the next picture may leave."""


@dataclass(frozen=True, eq=False)
class Samples:
    """An array `(1, ...)` for every input, for every sample; what they are, and what the user should know of them."""

    arrays: tuple[Sample, ...]
    what: str
    notes: tuple[str, ...] = ()


def random_samples(trained: Trained, count: int) -> Samples:
    """Samples of noise: enough to see a network's structure, and no measure of its accuracy."""
    sample = backends.load("tflite", "random_weights").random_sample
    arrays = tuple(sample(trained.net.graph, seed) for seed in range(count))
    return Samples(arrays, f"{count} random samples", (_STRUCTURE,))


_STRUCTURE: Final = "the samples are random: what is measured on them tells of the structure alone, not of accuracy"


def samples_of(
    trained: Trained,
    data: Any,
    *,
    folder: Path | None = None,
    count: int = 100,
    skip_corrupt: bool = False,
    crop: float = 1.0,
) -> Samples:
    """At most `count` samples of data in any form, drawn by the run's seed where there are more.

    | `data` | which samples |
    |---|---|
    | a data set's name, a folder | training examples; all pictures of a folder that is no data set |
    | the path of an `.npz` | rows of its arrays, which have the names of the network's inputs |
    | the path of an `.npy` | rows of its array, for a network of one input |
    | an array, a tuple of arrays, a dict of arrays by the inputs' names | rows |
    | anything else that gives arrays, tuples or dicts of arrays | the first ones, each one example or a batch of them |
    | `Samples` | these |

    Bytes (uint8) are pixels; all other numbers are taken as they are.

    Args:
        trained: the network.
        data: the data.
        folder: where the files of a data set by name lie.
        count: how many.
        skip_corrupt: leave out pictures that cannot be decoded.
        crop: the share of the shorter side of every picture that the network sees.

    Raises:
        CnnError: the data cannot be read or does not fit the network, or is all the same.
    """
    if isinstance(data, Samples):
        return data
    if isinstance(data, str | os.PathLike):
        return _file_samples(trained, os.fspath(data), folder, count, skip_corrupt=skip_corrupt, crop=crop)
    return _array_samples(trained, _input_arrays(trained.net.graph, data, count), "examples in arrays", count, crop)


def _file_samples(
    trained: Trained, name: str, folder: Path | None, count: int, *, skip_corrupt: bool, crop: float
) -> Samples:
    """Samples of a file of arrays, a folder or a data set by name."""
    from cnnc.data.sources.array_files import is_array_file

    if not is_array_file(name):
        return _data_set_samples(trained, name, folder, count, skip_corrupt=skip_corrupt, crop=crop)
    path = Path(name).expanduser()
    kind = "training examples kept with the run" if path == trained.calibration else f"examples of {name}"
    return _array_samples(trained, inputs_in(trained.net.graph, path), kind, count, crop)


def _input_arrays(graph: Graph, data: Any, count: int) -> Mapping[str, Any]:
    """The arrays of data in memory by the inputs' names."""
    if not isinstance(data, tuple | Mapping) and not hasattr(data, "__array__"):
        data = _collected(graph, data, count)
    names = [node.name for node in graph.inputs]
    return dict(zip(names, ordered(data, names, "input"), strict=True))


def _data_set_samples(
    trained: Trained, data: str, folder: Path | None, count: int, *, skip_corrupt: bool, crop: float
) -> Samples:
    from cnnc.data.sources.data_set import take
    from cnnc.data.sources.folder import Options

    part, kind = _part(trained, data, folder, Options(trained.data.held_out, trained.data.seed, skip_corrupt))
    drawn = take(part, _drawn(trained, len(part), count))
    arrays = _fetched(trained.net.graph, drawn, skip_corrupt=skip_corrupt, crop=crop)
    _require_contrast(arrays, data)
    what = f"{number_of(len(arrays), kind)} of {data}"
    return Samples(arrays, what, _notes(what, len(arrays), len(part), count))


def _array_samples(trained: Trained, sources: Mapping[str, Any], kind: str, count: int, crop: float) -> Samples:
    graph = trained.net.graph
    total = require_fitting(graph, sources)
    part = rows_of(graph, sources, _drawn(trained, total, count))
    if all(array.min() == array.max() for array in part.inputs):
        raise CnnError.of(
            "calibration",
            f"all values of the {len(part)} {kind} are the same",
            help="ranges measured on them would fit nothing else; calibrate on what the network will see",
        )
    arrays = _fetched(graph, part, crop=crop)
    what = f"{len(arrays)} {kind}"
    flat = [
        f"all values of `{node.name}` are the same in these samples, and others will be cut off"
        for node, array in zip(graph.inputs, part.inputs, strict=True)
        if not is_index(node) and array.min() == array.max()
    ]
    return Samples(arrays, what, (*_notes(what, len(arrays), total, count), *flat))


def _drawn(trained: Trained, total: int, count: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(trained.data.seed).permutation(total)[:count])


def _fetched(graph: Graph, part: Part, *, skip_corrupt: bool = False, crop: float = 1.0) -> tuple[Sample, ...]:
    """The examples of a part as the network takes them, without pictures that cannot be decoded."""
    from cnnc.data.feeding.feed import fetch, prepare

    feed = prepare(part, [node.shape for node in graph.inputs], skip_corrupt=skip_corrupt, crop=crop)
    with ThreadPoolExecutor() as pool:
        fetched = fetch(feed, np.arange(len(feed)), 0, pool)
    return tuple(
        {node.name: array[i : i + 1] for node, array in zip(graph.inputs, fetched.inputs, strict=True)}
        for i in range(len(feed))
        if fetched.valid[i]
    )


def _notes(what: str, found: int, total: int, wanted: int) -> tuple[str, ...]:
    if found < FEW:
        return (f"ranges are measured on only {what}, and the next may leave them; 100 are a safer number",)
    return (f"ranges are measured on all {what}: there are no more",) if total < wanted else ()


def _collected(graph: Graph, data: Any, count: int) -> tuple[NDArray[Any], ...]:
    """The first examples, or batches, of what is iterated over: for each input an array `(examples, ...)`."""
    if not isinstance(data, Iterable):
        raise CnnError.of(
            "calibration",
            f"calibration data is an array, a path or an iterable of examples, and not {type(data).__name__}",
            help="such as a dict of arrays by the names of the inputs",
        )
    names = [node.name for node in graph.inputs]
    parts: list[list[NDArray[Any]]] = [[] for _ in names]
    for number, item in enumerate(data):
        # A list of arrays is what TensorFlow's representative data sets give.
        given = tuple(item) if isinstance(item, list) and any(isinstance(each, np.ndarray) for each in item) else item
        for node, array, part in zip(graph.inputs, ordered(given, names, "input"), parts, strict=True):
            axes = array.ndim - len(node.shape)
            if axes not in (0, 1) or array.shape[axes:] != node.shape:
                raise CnnError.of(
                    "data",
                    f"example {number} of the calibration data has {format_shape(array.shape)} for the input"
                    f" `{node.name}`, which takes {format_shape(node.shape)}",
                )
            part.append(array if axes else array[None])
        if sum(map(len, parts[0])) >= count:
            break
    if not parts[0]:
        raise CnnError.of("calibration", "the calibration data gives no examples")
    return tuple(np.concatenate(part) for part in parts)


def _part(trained: Trained, data: str, folder: Path | None, options: Options) -> tuple[Part, str]:
    """The part that ranges are measured on, and the word for one example of it."""
    from cnnc.data.sources.by_name import NAMES, load_data
    from cnnc.data.sources.folder import load_loose
    from cnnc.data.sources.parts import part_folders
    from cnnc.data.sources.record_sets import has_records
    from cnnc.evaluation.test_set import is_same_data

    path = Path(data).expanduser()
    is_folder = data not in NAMES and os.path.isdir(path) and not is_same_data(data, trained.data)
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
