"""What a network is tested on, whether a run's or a file's: a part of a data set, labelled as the network counts."""

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
from cnnc.data.sources.parts import part_folders
from cnnc.data.sources.record_sets import has_records
from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.runs.events import Message, Report
from cnnc.runs.metrics import Scores


@dataclass(frozen=True, eq=False)
class Tested:
    """A part to test on, what its labels count, and how to call it; listed classes are in the network's order."""

    part: Part
    classes: tuple[str, ...]
    what: str
    is_listed: bool = False


@dataclass(frozen=True, eq=False)
class Measured:
    """The scores of a network's first output that has classes, or else its first; of what, and what was left out."""

    scores: Scores
    classes: tuple[str, ...]
    what: str
    broken: tuple[Path, ...]


def part_to_test(
    data: str, folder: Path | None, options: Options, *, whole: bool, classes: Path | None = None, report: Report
) -> Tested:
    """The test part of a data set by name or path.

    Args:
        data: the set.
        folder: where the files of one by name lie.
        options: how to read a folder.
        whole: whether a folder of class folders alone counts as a whole, and no part of it is held out.
        classes: a list of the classes that a folder's pictures are of (`read_class_list`); all of them are meant.
        report: is told what takes long.
    """
    path = Path(data).expanduser()
    if classes is not None:
        if data in NAMES or not os.path.isdir(path):
            raise CnnError.of("data", f"`--classes` lists those of a folder of pictures, and `{data}` is none")
        listed = read_class_list(classes)
        pictures = load_listed(path, listed, options)
        return Tested(pictures, listed.names, f"all {len(pictures):,} pictures of {data}", is_listed=True)
    if whole and data not in NAMES and os.path.isdir(path) and not part_folders(path) and not has_records(path):
        files = load_all(path, options)
        return Tested(files, class_names(path), f"all {len(files):,} pictures of {data}")
    data_set: DataSet = load_data(data, folder=folder, options=options, report=lambda line: report(Message(line)))
    what = f"the {len(data_set.test):,} {data_set.kind} pictures of {data}"
    return Tested(data_set.test, data_set.classes, what)


def relabelled(part: Part, places: Sequence[int]) -> Part:
    """The part with each label in the place that the network counts it at."""
    labels: NDArray[np.int32] = np.array(places, np.int32)[part.labels]
    return Examples(part.inputs, (labels,)) if isinstance(part, Examples) else replace(part, labels=labels)


def of_present(part: Part, classes: tuple[str, ...], find: Callable[[tuple[str, ...]], Sequence[int]]) -> Part:
    """The part with its labels in the places that `find` gives classes; those that no example has need none."""
    present = np.unique(part.labels)
    places = np.full(len(classes), -1)
    places[present] = find(tuple(classes[label] for label in present))
    return relabelled(part, places.tolist())


def by_name(part: Part, classes: tuple[str, ...], wanted: tuple[str, ...]) -> Part:
    """The part with its labels counted as the network counts them: by the classes' names."""
    if classes == wanted or not classes:
        return part

    def find(names: tuple[str, ...]) -> list[int]:
        for name in names:
            if name not in wanted:
                raise CnnError.of(
                    "labels",
                    f"the data has a class `{name}` that the network was not trained on",
                    help=did_you_mean(name, wanted) or f"its classes are {', '.join(wanted[:20])}",
                )
        return [wanted.index(name) for name in names]

    return of_present(part, classes, find)
