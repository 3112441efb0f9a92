"""`--data`: a data set by name or by path."""

from __future__ import annotations

import os
from pathlib import Path

from cnnc.data.sources.cifar import CLASSES as CIFAR_CLASSES
from cnnc.data.sources.cifar import load_cifar10
from cnnc.data.sources.data_set import DataSet
from cnnc.data.sources.digits import load_digits
from cnnc.data.sources.download import Report
from cnnc.data.sources.folder import Options, load_folder
from cnnc.data.sources.idx import load_idx
from cnnc.data.sources.record_sets import has_records, load_records
from cnnc.diagnostics import CnnError, did_you_mean

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10")


def load_data(
    data: str,
    *,
    folder: Path | None = None,
    options: Options = Options(),  # noqa: B008  # a frozen value
    report: Report = lambda line: None,
) -> DataSet:
    """The data set of a name or of a path.

    Args:
        data: one of `NAMES`, or the path of a folder of pictures or of record files.
        folder: where the files of a named data set lie; without it they are downloaded into a cache.
        options: how to read a folder of pictures.
        report: is told what takes long, such as a download.
    """
    if data in NAMES and folder is None and os.path.isdir(data):
        report(f"`{data}` means the data set of that name; write `./{data}` for the folder")
    match data:
        case "digits":
            return load_digits()
        case "mnist" | "fashion_mnist":
            return load_idx(data, folder, report)
        case "cifar10":
            tree = _cifar_tree(folder)
            return load_cifar10(folder, report) if tree is None else load_folder(tree, options)
    path = Path(data).expanduser()
    if not os.path.exists(path) and "/" not in data:
        raise CnnError.of(
            "data",
            f"there is no data set and no folder `{data}`",
            help=did_you_mean(data, NAMES) or f"the data sets by name are {', '.join(NAMES)}",
        )
    if folder is not None:
        raise CnnError.of("data", f"`--data-dir` goes with a data set's name, and `{data}` is a path")
    return load_records(path, options, report) if has_records(path) else load_folder(path, options)


def _cifar_tree(folder: Path | None) -> Path | None:
    """A `{train,test}/<class>/` form of CIFAR-10 in a local folder."""
    if folder is None:
        return None
    places = (folder, folder / "cifar10")
    return next((p for p in places if all((p / "train" / name).is_dir() for name in CIFAR_CLASSES)), None)
