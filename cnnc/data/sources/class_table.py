"""Pictures whose classes a table lists: folders, or loose pictures, called by a key that stands for a class."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnc.data.sources.data_set import Files
from cnnc.data.sources.folder import Options, load_loose
from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.files import read_bytes
from cnnc.wording import reason_of


@dataclass(frozen=True)
class ClassList:
    """The classes of a table: their names in order, and the index of the class that a key stands for."""

    names: tuple[str, ...]
    indices: Mapping[str, int]


def read_class_list(path: Path) -> ClassList:
    """The classes of a table with a header and a line a class, parted by tabs, or by commas in a `.csv` file.

    The column `index` counts the network's outputs from 0, `name` is what a class is called, and a column more, if
    there is one, is what folders and files are called by (`synset`); else that is the name.

    Raises:
        CnnError: the table cannot be read, lacks a column, or its indices are not 0 to n - 1, each once.
    """
    rows = _read_rows(path)
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    for column in ("index", "name"):
        if column not in header:
            raise CnnError.of(
                "labels",
                f"the list of classes `{path}` has no column `{column}`",
                help="its first line names the columns: index, name, and what pictures are called by",
            )
    others = [i for i, column in enumerate(header) if column not in ("index", "name")]
    key, index, name = (others or [header.index("name")])[0], header.index("index"), header.index("name")
    classes: dict[int, tuple[str, str]] = {}
    for line, row in enumerate(rows[1:], 2):
        output = row[index].strip() if len(row) == len(header) else ""
        if not (output.isascii() and output.isdigit()) or int(output) in classes:
            raise CnnError.of("labels", f"line {line} of `{path}` has no index of its own: {' '.join(row)[:80]}")
        classes[int(output)] = (row[key].strip(), row[name].strip())
    if sorted(classes) != list(range(len(classes))) or not classes:
        raise CnnError.of("labels", f"the indices of `{path}` are not 0 to {max(len(classes) - 1, 0)}, each once")
    keys = [classes[output][0] for output in range(len(classes))]
    if len(set(keys)) < len(keys):
        double = next(name for name, count in Counter(keys).items() if count > 1)
        raise CnnError.of("labels", f"two classes of `{path}` are called `{double}`")
    names = tuple(classes[output][1] for output in range(len(classes)))
    return ClassList(names, {name: output for output, name in enumerate(keys)})


def _read_rows(path: Path) -> list[list[str]]:
    """The rows of a table that are not empty."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
        return [row for row in csv.reader(text.splitlines(), delimiter="," if path.suffix == ".csv" else "\t") if row]
    except FileNotFoundError:
        raise CnnError.of("labels", f"there is no list of classes `{path}`") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else reason_of(error)
        raise CnnError.of("labels", f"the list of classes `{path}` cannot be read: {reason}") from error


def load_listed(root: Path, classes: ClassList, options: Options = Options()) -> Files:  # noqa: B008  # a frozen value
    """Every picture in a folder, of the class that its own folder, its name, or its name up to a `_` stands for.

    Raises:
        CnnError: a picture is of no class of the list.
    """
    loose = load_loose(root, options)
    labels = []
    for path in loose.paths:
        folders = path.relative_to(root).parts[:-1]
        keys = [*folders, path.stem, path.stem.partition("_")[0]]
        label = next((classes.indices[key] for key in keys if key in classes.indices), None)
        if label is None:
            raise CnnError.of(
                "labels",
                f"`{path}` is of no class in the list of classes",
                help=did_you_mean(keys[0], classes.indices)
                or f"they are called {', '.join(list(classes.indices)[:3])}, ...",
            )
        labels.append(label)
    return Files(loose.paths, np.array(labels, np.int32))
