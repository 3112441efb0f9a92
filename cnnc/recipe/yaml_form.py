"""A recipe as `args.yaml` has it, with every setting written out, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from cnnc.diagnostics import CnnError
from cnnc.documents import BadDocument, typed
from cnnc.recipe.entry import Entry, OutOfRange, entries
from cnnc.recipe.settings import SETTINGS, Recipe, Setting

_EVERY: Final = "every output"
_WRITTEN: Final = tuple(setting for setting in SETTINGS.values() if setting.name != "data")
"""`data` is noted apart, with its classes."""


def recipe_in_words(recipe: Recipe) -> dict[str, Any]:
    """Every setting of a recipe, defaults written out; entries as `{name: {field: value}}`.

    What transfers from other weights is left out where nothing does.
    """
    words = {setting.name: _in_words(setting, getattr(recipe, setting.field)) for setting in _WRITTEN}
    return {name: value for name, value in words.items() if value not in (None, [], {}) or name == "augment"}


def recipe_from_words(words: Mapping[str, Any], data: str | None) -> Recipe:
    """The recipe that was written so; what an older version did not write is at its default.

    Raises:
        CnnError: `run`, for what `recipe_in_words` does not write.
    """
    known = {setting.name: setting for setting in _WRITTEN}
    if unknown := set(words) - set(known):
        raise CnnError.of("run", f"args.yaml has unknown settings: {', '.join(sorted(map(str, unknown)))}")
    try:
        values = {known[name].field: _from_words(known[name], value) for name, value in words.items()}
        return typed(Recipe, {"data": data, **values})
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


def _in_words(setting: Setting, value: Any) -> Any:
    match setting.kind:
        case "call":
            return _entry_in_words(value)
        case "calls":
            return [_entry_in_words(entry) for entry in value]
        case "loss_by_output":
            return {label or _EVERY: _entry_in_words(loss) for label, loss in value}
        case "epoch_by_label":
            return {pattern: epoch for epoch, pattern in value}
        case "rate_by_label":
            return dict(value)
    return plain(value)


def _from_words(setting: Setting, words: Any) -> Any:
    match setting.kind:
        case "call":
            return _entry(words)
        case "calls":
            return tuple(map(_entry, words))
        case "loss_by_output":
            return tuple((None if label == _EVERY else label, _entry(loss)) for label, loss in words.items())
        case "epoch_by_label":
            return tuple((epoch, pattern) for pattern, epoch in words.items())
        case "rate_by_label":
            return tuple(words.items())
    return words


def _entry_in_words(entry: Entry) -> dict[str, Any]:
    return {entry.names[0]: plain(asdict(entry))}


def _entry(words: Mapping[str, Any]) -> Entry:
    """Raises KeyError, TypeError or ValueError for no entry, and OutOfRange for one that is none."""
    ((name, values),) = words.items()
    entry = typed(entries(Entry)[name], values)
    entry.validate()
    return entry
