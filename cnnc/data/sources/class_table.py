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
    """The classes of a table: their names in order, and at which place the class of a key is."""

    names: tuple[str, ...]
    places: Mapping[str, int]


def read_class_list(path: Path) -> ClassList:
    """The classes of a table with a header and a line a class, parted by tabs, or by commas in a `.csv` file.

    The column `index` counts the network's outputs from 0, `name` is what a class is called, and a column more, if
    there is one, is what folders and files are called by (`synset`); else that is the name.

    Raises:
        CnnError: the table cannot be read, lacks a column, or its indices are not 0 to n - 1, each once.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
        rows = [row for row in csv.reader(text.splitlines(), delimiter="," if path.suffix == ".csv" else "\t") if row]
    except FileNotFoundError:
        raise CnnError.of("labels", f"there is no list of classes `{path}`") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else reason_of(error)
        raise CnnError.of("labels", f"the list of classes `{path}` cannot be read: {reason}") from error
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
    found: dict[int, tuple[str, str]] = {}
    for line, row in enumerate(rows[1:], 2):
        place = row[index].strip() if len(row) == len(header) else ""
        if not (place.isascii() and place.isdigit()) or int(place) in found:
            raise CnnError.of("labels", f"line {line} of `{path}` has no index of its own: {' '.join(row)[:80]}")
        found[int(place)] = (row[key].strip(), row[name].strip())
    if sorted(found) != list(range(len(found))) or not found:
        raise CnnError.of("labels", f"the indices of `{path}` are not 0 to {max(len(found) - 1, 0)}, each once")
    keys = [found[place][0] for place in range(len(found))]
    if len(set(keys)) < len(keys):
        double = next(name for name, count in Counter(keys).items() if count > 1)
        raise CnnError.of("labels", f"two classes of `{path}` are called `{double}`")
    names = tuple(found[place][1] for place in range(len(found)))
    return ClassList(names, {name: place for place, name in enumerate(keys)})


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
        place = next((classes.places[key] for key in keys if key in classes.places), None)
        if place is None:
            raise CnnError.of(
                "labels",
                f"`{path}` is of no class in the list of classes",
                help=did_you_mean(keys[0], classes.places)
                or f"they are called {', '.join(list(classes.places)[:3])}, ...",
            )
        labels.append(place)
    return Files(loose.paths, np.array(labels, np.int32))
