"""Folders of pictures: `{train,val,test}/<class>/`, or class folders alone, of which a part is held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnc.data.sources.data_set import DataSet, Files, split, take
from cnnc.data.sources.file_tree import entries, require_folder, walk
from cnnc.data.sources.parts import HELD_OUT, part_folders
from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.wording import quoted

PICTURES = (".jpg", ".jpeg", ".png", ".bmp")
_TEXTS = (".txt", ".csv", ".tsv", ".md", ".json")
"""Files beside pictures that are of no class and describe them."""
_JUNK = ("thumbs.db", "desktop.ini")
"""Files that desktops leave in folders, besides hidden ones."""


@dataclass(frozen=True)
class Options:
    """How to read a folder: the fraction held out of one without parts, its seed, and whether to skip other files."""

    held_out: float = HELD_OUT
    seed: int = 0
    skip_corrupt: bool = False


def load_folder(root: Path, options: Options = Options()) -> DataSet:  # a frozen value
    """A folder of pictures as a data set. Classes are the folders' names in alphabetical order."""
    require_folder(root)
    parts = part_folders(root)
    if not parts:
        return _without_parts(root, root, options)
    if "train" not in parts:
        first = next(iter(parts.values()))
        raise CnnError.of(
            "data",
            f"`{root}` holds {' and '.join(f'`{path.name}`' for path in parts.values())}, and no pictures to train on",
            help=f"they are wanted in `{root / 'train'}`, in class folders; to evaluate, name the part itself: {first}",
        )
    if len(parts) == 1:
        return _without_parts(root, parts["train"], options)
    classes = class_names(parts["train"])
    read = {part: read_part(path, classes, options) for part, path in parts.items()}
    notes = []
    if "val" not in read:
        notes.append("the test pictures serve as validation set too")
    if "test" not in read:
        notes.append("the validation pictures serve as test set too")
    val, test = read.get("val") or read["test"], read.get("test") or read["val"]
    return DataSet(
        str(root), read["train"], val, test, classes, tuple(notes), "test" if "test" in read else "validation"
    )


def load_all(root: Path, options: Options = Options()) -> Files:  # a frozen value
    """Every picture of a folder of class folders, nothing held out."""
    require_folder(root)
    return read_part(root, class_names(root), options)


def load_loose(root: Path, options: Options = Options()) -> Files:  # a frozen value
    """Every picture in a folder and in the folders in it, whatever it shows: all are of class 0."""
    require_folder(root)
    paths = tuple(_pictures(root, options, _TEXTS))
    if not paths:
        raise CnnError.of("data", f"`{root}` holds no pictures ({', '.join(PICTURES)})")
    return Files(paths, np.zeros(len(paths), np.int32))


def class_names(folder: Path) -> tuple[str, ...]:
    """The names of the class folders in a folder.

    Raises:
        CnnError: there are none, or what is there looks like parts, or like the class folders' own folder.
    """
    inside = entries(folder)
    if not inside.folders:
        loose = any(_is_picture_file(name) for name in inside.files)
        raise CnnError.of(
            "data",
            f"`{folder}` holds pictures, but no class folders" if loose else f"`{folder}` holds no class folders",
            help="a picture's class is its folder: train/<class>/*.jpg and val/<class>/*.jpg, or <class>/*.jpg alone",
        )
    _require_classes(folder, inside.folders)
    return inside.folders


def _require_classes(folder: Path, names: tuple[str, ...]) -> None:
    """Raises CnnError for folders that hold no pictures but, all of them, folders of the same names."""
    within = []
    for name in names:
        inside = entries(folder / name)
        if not inside.folders or any(map(_is_picture_file, inside.files)):
            return
        within.append(set(inside.folders))
    fewest = min(within, key=len)
    listed = quoted(sorted(fewest), 4)
    if len(names) == 1:
        raise CnnError.of(
            "data",
            f"`{folder}` holds one folder, `{names[0]}`, which holds no pictures but the folders {listed}",
            help=f"name that folder: {folder / names[0]}",
        )
    if all(fewest <= each for each in within):
        raise CnnError.of(
            "data",
            f"`{names[0]}` and `{names[1]}` in `{folder}` are not classes: each holds the same folders, {listed}",
            help="parts of a data set are called train, val and test; a class folder holds the pictures themselves",
        )


def read_part(folder: Path, classes: tuple[str, ...], options: Options) -> Files:
    """The pictures of a folder of class folders, labelled by their class's place in `classes`."""
    paths: list[Path] = []
    labels: list[int] = []
    for name in class_names(folder):
        if name not in classes:
            raise CnnError.of(
                "labels",
                f"`{folder}` has a class `{name}` that the training pictures lack",
                help=did_you_mean(name, classes) or f"the classes are {', '.join(classes[:20])}",
            )
        found = list(_pictures(folder / name, options))
        if not found:
            raise CnnError.of(
                "data",
                f"class `{name}` has no pictures in `{folder}`",
                help=f"put pictures ({', '.join(PICTURES)}) there, or remove the folder `{folder / name}`",
            )
        paths += found
        labels += [classes.index(name)] * len(found)
    return Files(tuple(paths), np.array(labels, np.int32))


def _without_parts(root: Path, folder: Path, options: Options) -> DataSet:
    classes = class_names(folder)
    everything = read_part(folder, classes, options)
    kept, held = (take(everything, i) for i in split(everything.labels, options.held_out, options.seed))
    note = f"{len(held)} of the {len(everything)} pictures are held out as validation and test set"
    return DataSet(str(root), kept, held, held, classes, (note,), "held-out")


def _is_picture_file(name: str) -> bool:
    return name.lower().endswith(PICTURES)


def _pictures(folder: Path, options: Options, others: tuple[str, ...] = ()) -> Iterator[Path]:
    for place, names in walk(folder):
        for name in names:
            if _is_picture_file(name):
                yield place / name
            elif not (name.lower().endswith(others) or name.lower() in _JUNK or options.skip_corrupt):
                raise CnnError.of(
                    "data",
                    f"`{place / name}` is not a picture of a kind that is read ({', '.join(PICTURES)})",
                    help="move it out of the class folder, or pass `--skip-corrupt` to leave such files out",
                )
