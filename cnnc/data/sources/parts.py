"""Names of the parts of a data set: folders, and files of records, for training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from cnnc.data.sources.file_tree import entries
from cnnc.diagnostics import CnnError

Part = Literal["train", "val", "test"]
HELD_OUT: Final = 0.2
"""The share of every class that is held out of a data set without parts, unless its user says another."""
NAMES: Final[Mapping[str, Part]] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""The parts by their names in small letters; in names they may be written as one likes."""


def part_folders(root: Path) -> dict[Part, Path]:
    """The folders of a data set's parts; none where a folder has class folders alone.

    Where a folder called `train` has no folders in it and lies beside others, it is a class, of railways perhaps.

    Raises:
        CnnError: two folders are the same part, or a folder cannot be read.
    """
    found: dict[Part, Path] = {}
    names = entries(root).folders
    for name in names:
        part = NAMES.get(name.lower())
        if part in found:
            raise CnnError.of(
                "data",
                f"`{root}` holds two folders for {part}: `{found[part].name}` and `{name}`",
                help="keep one of them there",
            )
        if part is not None:
            found[part] = root / name
    is_classes = len(found) < len(names) and not any(entries(path).folders for path in found.values())
    return {} if is_classes else found
