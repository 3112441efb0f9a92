"""At which output a network has a class of the data: by names that lists of labels write in many ways, or in order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.files import read_bytes
from cnnc.tflite_file.metadata import read_labels
from cnnc.wording import number_of, quoted, reason_of

BACKGROUND: Final = "background"
"""The first entry of TensorFlow's lists of ImageNet's classes, which its networks of 1,001 outputs count first."""


def labels_of(path: Path) -> tuple[str, ...]:
    """The labels in a list, a line each, which may be numbered.

    Raises:
        CnnError: the list cannot be read.
    """
    try:
        return read_labels(read_bytes(path), numbered=True)
    except OSError as error:
        reason = reason_of(error)
        raise CnnError.of("labels", f"the list of labels `{path}` cannot be read: {reason}") from error


def read_classes(path: Path, count: int, what: str) -> tuple[tuple[str, ...], list[str]]:
    """The labels in a list for the `count` classes of `what`, and a note of a first one that is left out.

    Raises:
        CnnError: the list cannot be read, or has another number of labels.
    """
    labels, notes = without_background(labels_of(path), count, str(path))
    require_labels(labels, count, what)
    return labels, notes


def without_background(labels: tuple[str, ...], count: int, source: str) -> tuple[tuple[str, ...], list[str]]:
    """The labels for `count` outputs without the `background` that a list of one more starts with, and a note of it."""
    if len(labels) != count + 1 or labels[0].strip().lower() != BACKGROUND:
        return labels, []
    return labels[1:], [f"the first of the {len(labels)} labels in {source}, `{labels[0]}`, is left out"]


def require_labels(labels: tuple[str, ...], count: int, what: str) -> None:
    """Raises CnnError where labels are not as many as the classes of a network or file."""
    if len(labels) != count:
        raise CnnError.of(
            "labels",
            f"{what} has {number_of(count, 'class')}, and the list {number_of(len(labels), 'label')}",
            help="give the list that belongs to it with `--labels`, a label a line in the order of its classes",
        )


def places_in_order(
    labels: tuple[str, ...], classes: tuple[str, ...], count: int, what: str
) -> tuple[list[int], tuple[str, ...]]:
    """At which output a network has each class of a list in order, and what its outputs are called.

    A network of one output more counts a background first.

    Raises:
        CnnError: the network has another number of outputs.
    """
    if len(classes) == count:
        return list(range(count)), labels or classes
    if len(classes) + 1 == count and (not labels or labels[0].strip().lower() == BACKGROUND):
        return list(range(1, count)), labels or (BACKGROUND, *classes)
    raise CnnError.of(
        "labels",
        f"the list has {number_of(len(classes), 'class')}, and {what} has {number_of(count, 'output')}",
        help="the list says of every output in order what it stands for; a first one more may be a background",
    )


def places_of(labels: tuple[str, ...], classes: tuple[str, ...], count: int, what: str) -> list[int]:
    """At which output a network has each class of the data: by name where there are labels, else in order.

    A label that is the class goes first. It may also list names, `tench, Tinca tinca`: a class is found by one of them,
    if no other label has it as well.
    """
    if not labels:
        if len(classes) != count:
            raise CnnError.of(
                "labels",
                f"the data has {number_of(len(classes), 'class')}, and {what} has {count} and no labels",
                help="give their names with `--labels FILE`, a label a line in the order of its outputs",
            )
        return list(range(count))
    if set(classes) <= set(labels) and len(set(labels)) == len(labels):
        return [labels.index(name) for name in classes]
    found = _named(labels)
    missing = [name for name in classes if _plain(name) not in found]
    known = {_plain(name) for label in labels for name in label.split(",")}
    if missing and all(_plain(name) in known for name in missing):
        raise CnnError.of(
            "labels",
            f"several labels of {what} have the name of a class of the data: {quoted(missing, 10)}",
            help="give a list that tells them apart with `--labels`, or leave the class out",
        )
    if missing:
        which = "a class of the data is" if len(missing) == 1 else f"{len(missing)} classes of the data are"
        raise CnnError.of(
            "labels",
            f"{which} not among the labels of {what}: {quoted(missing, 10)}",
            help=did_you_mean(missing[0], labels) or f"its labels are {quoted(labels, 10)}",
        )
    return [found[_plain(name)] for name in classes]


def _named(labels: tuple[str, ...]) -> dict[str, int]:
    """The place of every label: by the whole of it, by the first of its names, by each of them, if it is the only one.

    The whole goes before the first, and that before the others.
    """
    names = [[_plain(label), *dict.fromkeys(map(_plain, label.split(",")))] for label in labels]
    found: dict[str, int] = {}
    for level_of in (slice(2, None), slice(1, 2), slice(0, 1)):
        level = [(name, i) for i, each in enumerate(names) for name in each[level_of]]
        counts = Counter(name for name, _ in level)
        found |= {name: i for name, i in level if counts[name] == 1}
        for name in counts:
            if counts[name] > 1:
                found.pop(name, None)
    return found


def _plain(name: str) -> str:
    """A name without what folders and lists write differently: `Egyptian_cat` is `Egyptian cat`."""
    return " ".join(name.replace("_", " ").lower().split())
