"""Folders as they lie on the disk: what is in one, and all files beneath it. Links are followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cnnc.diagnostics import CnnError
from cnnc.wording import reason_of


class Entries(NamedTuple):
    """The names in a folder in alphabetical order, hidden ones left out; a link is what it leads to."""

    folders: tuple[str, ...]
    files: tuple[str, ...]


def entries(folder: Path) -> Entries:
    """The entries of a folder. Raises CnnError of code `data` where it cannot be read."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if not entry.name.startswith("."):
                    (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        raise _unreadable(Path(error.filename or folder), error) from error
    return Entries(tuple(sorted(folders)), tuple(sorted(files)))


def walk(folder: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A folder and all beneath it, each with the names of its files; a folder comes before those in it.

    Raises:
        CnnError: of code `data`, where a folder cannot be read, or a link leads back to where it lies.
    """
    return _walk(folder, {})


def require_folder(root: Path) -> None:
    """Raises CnnError of code `data` where there is no folder that can be read."""
    try:
        root.stat()
    except FileNotFoundError:
        raise CnnError.of("data", f"there is no folder `{root}`") from None
    except OSError as error:
        raise _unreadable(root, error) from error
    if not root.is_dir():
        raise CnnError.of("data", f"`{root}` is a file, and a folder of pictures is wanted")


def _walk(folder: Path, above: dict[tuple[int, int], Path]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    inside = entries(folder)
    found = folder.stat()
    key = (found.st_dev, found.st_ino)
    if key in above:
        raise CnnError.of(
            "data",
            f"`{folder}` leads back to `{above[key]}`, in which it lies",
            help="remove that link: the pictures in it would never end",
        )
    yield folder, inside.files
    for name in inside.folders:
        yield from _walk(folder / name, {**above, key: folder})


def _unreadable(path: Path, error: OSError) -> CnnError:
    reason = reason_of(error)
    return CnnError.of(
        "data", f"cannot read `{path}`: {reason}", help="make it readable, or move it out of the pictures' folder"
    )
