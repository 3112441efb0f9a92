"""Test sets: the part of a data set that a predictor is tested on, labelled as the predictor counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnc.data.sources.by_name import NAMES, load_data
from cnnc.data.sources.class_table import load_listed, read_class_list
from cnnc.data.sources.data_set import DataSet, Examples, Part
from cnnc.data.sources.folder import Options, class_names, load_all
from cnnc.data.sources.parts import HELD_OUT, part_folders
from cnnc.data.sources.record_sets import has_records
from cnnc.diagnostics import CnnError
from cnnc.evaluation.class_labels import places_in_order, places_of, require_labels
from cnnc.evaluation.predictor import Predictor
from cnnc.runs.data_note import DataNote
from cnnc.runs.events import Message, Report, ignore


@dataclass(frozen=True, eq=False)
class TestSet:
    """A part to test on, what its labels count, and how to call it; listed classes are in the network's order."""

    __test__ = False  # is none of pytest's

    part: Part
    classes: tuple[str, ...]
    what: str
    is_listed: bool = False


def load_test_set(
    predictor: Predictor,
    data: str | None = None,
    *,
    folder: Path | None = None,
    held_out: float | None = None,
    skip_corrupt: bool = False,
    classes: Path | None = None,
    report: Report = ignore,
) -> TestSet:
    """The test part of a data set, by default of the one that a predictor was trained on.

    A folder without parts counts as a whole, unless it is the one that the run held a part out of, or `held_out` says
    that a part of it is wanted.

    Args:
        predictor: what is tested.
        data: the set's name or folder.
        folder: where the files of a set by name lie.
        held_out: the share of a folder without parts that is held out.
        skip_corrupt: leave out pictures that cannot be decoded.
        classes: a list of the classes that a folder's pictures are of (`read_class_list`); all of them are meant.
        report: is told what takes long.
    """
    note = predictor.data
    if data is None:
        if note is None or note.name is None:
            raise CnnError.of("data", "the run was trained on arrays, and it is not said what to evaluate on")
        data, folder = note.name, folder or (Path(note.folder) if note.folder else None)
    share = held_out if held_out is not None else HELD_OUT if note is None else note.held_out
    options = Options(share, 0 if note is None else note.seed, skip_corrupt)
    path = Path(data).expanduser()
    if classes is not None:
        return _load_listed(data, classes, options)
    if held_out is None and not is_same_data(data, note) and is_undivided(data):
        files = load_all(path, options)
        return TestSet(files, class_names(path), f"all {len(files):,} pictures of {data}")
    data_set: DataSet = load_data(data, folder=folder, options=options, report=lambda line: report(Message(line)))
    what = f"the {len(data_set.test):,} {data_set.kind} pictures of {data}"
    return TestSet(data_set.test, data_set.classes, what)


def _load_listed(data: str, classes: Path, options: Options) -> TestSet:
    """All pictures of a folder, whose classes a list has."""
    path = Path(data).expanduser()
    if data in NAMES or not os.path.isdir(path):
        raise CnnError.of("data", f"`--classes` lists those of a folder of pictures, and `{data}` is none")
    listed = read_class_list(classes)
    pictures = load_listed(path, listed, options)
    return TestSet(pictures, listed.names, f"all {len(pictures):,} pictures of {data}", is_listed=True)


def is_same_data(data: str, note: DataNote | None) -> bool:
    """Whether a data set, by name or folder, is the one of a note."""
    if note is None or note.name is None or data in NAMES:
        return note is not None and data == note.name
    return os.path.realpath(Path(data).expanduser()) == os.path.realpath(Path(note.name).expanduser())


def is_undivided(data: str) -> bool:
    """Whether data is a folder of class folders alone, without parts."""
    path = Path(data).expanduser()
    return data not in NAMES and os.path.isdir(path) and not part_folders(path) and not has_records(path)


def label_as(predictor: Predictor, test_set: TestSet) -> tuple[Part, tuple[str, ...]]:
    """The part with its labels counted as a predictor counts its outputs, and what these are called.

    Classes are told by their names, and in order where the predictor has none, or the list is made for it.

    Raises:
        CnnError: it has no such classes, or another number of them.
    """
    known, given, part = predictor.classes, test_set.classes, test_set.part
    what, output = f"`{predictor.name}`", predictor.outputs[0]
    count = output.shape[-1] if output.reading == "labels" else max(output.shape[-1], 2)
    if known:
        require_labels(known, count, what)
    if test_set.is_listed:
        order, names = places_in_order(known, given, count, what)
        return _relabelled(part, order), names
    if not given or known == given:
        return part, known or given
    if not known:
        return _relabelled(part, places_of(known, given, count, what)), given
    return _of_present(part, given, lambda names: places_of(known, names, count, what)), known


def _relabelled(part: Part, places: Sequence[int]) -> Part:
    """The part with each label in the place that the network counts it at."""
    labels: NDArray[np.int32] = np.array(places, np.int32)[part.labels]
    return Examples(part.inputs, (labels,)) if isinstance(part, Examples) else replace(part, labels=labels)


def _of_present(part: Part, classes: tuple[str, ...], find: Callable[[tuple[str, ...]], Sequence[int]]) -> Part:
    """The part with its labels in the places that `find` gives classes; those that no example has need none."""
    present = np.unique(part.labels)
    places = np.full(len(classes), -1)
    places[present] = find(tuple(classes[label] for label in present))
    return _relabelled(part, places.tolist())
