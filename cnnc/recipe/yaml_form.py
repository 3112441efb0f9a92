"""A recipe as `args.yaml` has it, with every setting written out, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final

from cnnc.diagnostics import CnnError
from cnnc.documents import BadDocument, typed
from cnnc.recipe.entry import Entry, OutOfRange, entries
from cnnc.recipe.settings import Recipe

_EVERY: Final = "every output"
_ENTRIES: Final = ("optimizer", "schedule")
_PAIRS: Final = ("unfreeze", "rates")
_ELSEWHERE: Final = ("data", "augment", "losses")
"""`data` is noted apart, with its classes; the others are written under their names in a spec."""


def recipe_in_words(recipe: Recipe) -> dict[str, Any]:
    """Every setting of a recipe, defaults written out; entries as `{name: {field: value}}`.

    What transfers from other weights is left out where nothing does.
    """
    words: dict[str, Any] = {
        "augment": [_in_words(entry) for entry in recipe.augment],
        "loss": {label or _EVERY: _in_words(loss) for label, loss in recipe.losses},
    }
    for name in (f.name for f in fields(Recipe)):
        value = getattr(recipe, name)
        if name in _ENTRIES:
            words[name] = _in_words(value)
        elif name == "unfreeze":
            words[name] = {pattern: epoch for epoch, pattern in value}
        elif name == "rates":
            words[name] = dict(value)
        elif name not in _ELSEWHERE:
            words[name] = plain(value)
    return {name: value for name, value in words.items() if value not in (None, [], {}) or name == "augment"}


def recipe_from_words(words: Mapping[str, Any], data: str | None) -> Recipe:
    """The recipe that was written so; what an older version did not write is at its default.

    Raises:
        CnnError: `run`, for what `recipe_in_words` does not write.
    """
    known = {f.name for f in fields(Recipe)} - set(_ELSEWHERE) | {"augment", "loss"}
    if unknown := set(words) - known:
        raise CnnError.of("run", f"args.yaml has unknown settings: {', '.join(sorted(map(str, unknown)))}")
    values: dict[str, Any] = {"data": data}
    try:
        for name, value in words.items():
            if name in _ENTRIES:
                values[name] = _entry(value)
            elif name == "augment":
                values[name] = tuple(map(_entry, value))
            elif name == "loss":
                values["losses"] = tuple(
                    (None if label == _EVERY else label, _entry(loss)) for label, loss in value.items()
                )
            elif name in _PAIRS:
                pairs = value.items()
                values[name] = (
                    tuple((epoch, pattern) for pattern, epoch in pairs) if name == "unfreeze" else tuple(pairs)
                )
            else:
                values[name] = value
        return typed(Recipe, values)
    except OutOfRange as error:
        raise CnnError.of("run", f"args.yaml: {error.message}") from error
    except BadDocument as error:
        raise CnnError.of("run", f"args.yaml does not say how the run was trained: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CnnError.of("run", "args.yaml does not say how the run was trained") from error


def plain(value: Any) -> Any:
    """Tuples as lists, which is what YAML has."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _in_words(entry: Entry) -> dict[str, Any]:
    return {entry.names[0]: plain(asdict(entry))}


def _entry(words: Mapping[str, Any]) -> Any:
    """Raises KeyError, TypeError or ValueError for no entry, and OutOfRange for one that is none."""
    ((name, values),) = words.items()
    entry: Entry = typed(entries(Entry)[name], values)
    entry.validate()
    return entry
