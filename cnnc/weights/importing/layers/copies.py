"""Several copies of the same weights in a file: a student and its teacher, what was trained and its average.

Which is meant, no file says. A copy is called by what comes before its names, `teacher.conv1.weight`, or by the key
that a checkpoint has it under, `params_ema`; what has nothing before its names is called `weights`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from cnnc.diagnostics import CnnError
from cnnc.ops.base import Shape
from cnnc.weights.importing.layers.file_errors import fault, name_list

PLAIN: Final = "weights"
_AVERAGES: Final = ("ema", "model_ema", "ema_model", "module_ema", "ema_module", "averaged", "swa")
_SEPARATORS: Final = "._/"
_SHARE: Final = 0.9
"""So much of the smaller copy is in the larger one: a student has a head more than its teacher."""
_LEAST: Final = 2
"""Arrays of a copy."""

T = TypeVar("T")


def select_copy(path: Path, arrays: Mapping[str, T], shapes: Mapping[str, Shape], copy: str | None) -> dict[str, T]:
    """The arrays of one copy, by names without what comes before all of them.

    Args:
        path: the file.
        arrays: all of it, by name.
        shapes: of the arrays.
        copy: what the user chose; None for nothing.

    Raises:
        CnnError: an average is there beside the weights and none was chosen, or there is no such copy.
    """
    averages = {name: word for name in arrays if (word := _average(name)) is not None}
    if copy is None:
        if _is_average(shapes, averages):
            raise ambiguous_copies(path, [PLAIN, *dict.fromkeys(averages.values())])
        return dict(arrays)
    found = {
        name[len(copy) + 1 :]: array
        for name, array in arrays.items()
        if name.startswith(copy) and name[len(copy) : len(copy) + 1] in tuple(_SEPARATORS)
    }
    if not found and copy == PLAIN and averages:
        return {name: array for name, array in arrays.items() if name not in averages}
    if not found:
        firsts = dict.fromkeys(_first(name) for name in arrays)
        raise fault(path, f"it has no copy `{copy}`", help=f"names in it begin with {name_list(firsts)}")
    return found


def copies(shapes: Mapping[str, Shape]) -> list[str]:
    """The copies that names begin with, the largest first; none where they are no such.

    `layer1` and `layer2` are parts of a network and no copies: what differs by a number.
    """
    groups: defaultdict[str, dict[str, Shape]] = defaultdict(dict)
    for name, shape in shapes.items():
        first = _first(name)
        groups[first][name[len(first) + 1 :]] = shape
    ranked = sorted(groups, key=lambda word: -len(groups[word]))
    if len(ranked) < 2 or len(groups[ranked[1]]) < _LEAST:
        return []
    largest = groups[ranked[0]].items()
    same = [
        word
        for word in ranked
        if len(groups[word]) >= _LEAST and len(groups[word].items() & largest) >= _SHARE * len(groups[word])
    ]
    stems = {re.sub(r"\d+", "", word) for word in same}
    return same if len(same) > 1 and len(stems) == len(same) else []


def ambiguous_copies(path: Path, names: Iterable[str]) -> CnnError:
    """The error that a file holds the same weights several times."""
    words = list(names)
    return fault(
        path,
        f"it holds {len(words)} copies of its weights, {name_list(words)}, and does not say which is meant",
        help=f"choose one: --copy {words[-1]}",
    )


def _average(name: str) -> str | None:
    """The word for an average that a name begins with."""
    words = (word for word in _AVERAGES if name.startswith(word) and name[len(word) : len(word) + 1] in ("_", ".", "/"))
    return max(words, key=len, default=None)


def _is_average(shapes: Mapping[str, Shape], averages: Mapping[str, str]) -> bool:
    """Whether most of what is called an average is there by its own name, too."""
    plain = {(_bare(name), shape) for name, shape in shapes.items() if name not in averages}
    same = sum((_bare(name[len(word) + 1 :]), shapes[name]) in plain for name, word in averages.items())
    return same >= _LEAST and same >= _SHARE * len(averages)


def _bare(name: str) -> str:
    """A name without what parts it: averages are often kept under names without points."""
    return re.sub(rf"[{_SEPARATORS}]", "", name)


def _first(name: str) -> str:
    return re.split(r"[./]", name, maxsplit=1)[0]
