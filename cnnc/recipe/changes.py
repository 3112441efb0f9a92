"""Changes that `cnnc.train` and the command line make to a recipe, by keywords; None leaves a setting as it is."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, TypedDict, TypeVar, Unpack, cast, get_type_hints

from cnnc.diagnostics import CnnError
from cnnc.recipe.entry import POSITIVE
from cnnc.recipe.settings import SETTINGS, BatchNormStatistics, OnNan, Precision, Recipe, Setting

F = TypeVar("F", bound=Callable[..., Any])
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


class ResumeChanges(TypedDict, total=False):
    """Settings that may change when a run goes on, besides its epochs and its schedule's peak."""

    patience: int | None
    on_nan: OnNan | None


class Changes(ResumeChanges, total=False):
    """The settings that have a keyword, with its type; a test holds them to the table."""

    batch: int | None
    epochs: int | None
    seed: int | None
    precision: Precision | None
    freeze: str | Sequence[str] | None
    unfreeze: Sequence[tuple[int, str]] | None
    rates: Mapping[str, float] | None
    accumulate: int | None
    clip: float | None
    ema: float | None
    remat: bool | None
    batch_norm: BatchNormStatistics | None


def apply_changes(
    recipe: Recipe, *, lr: float | None = None, weights: object = None, **changes: Unpack[Changes]
) -> Recipe:
    """The recipe with what is not None in place of its own.

    Args:
        recipe: as the spec has it.
        lr: the schedule's peak.
        weights: the path of the first weights; arrays are noted by that word.
        **changes: settings by name.

    Raises:
        CnnError: `value`, for one outside its range.
    """
    given = {"weights": weights, **changes}
    values = {name: _value(SETTINGS[name], value) for name, value in given.items() if value is not None}
    if lr is not None:
        _require(lr in POSITIVE, "lr", POSITIVE.bounds, lr)
        values["schedule"] = replace(recipe.schedule, peak=lr)
    return replace(recipe, **values)


def accept_keywords(changes: type) -> Callable[[F], F]:
    """Let a function of `**changes` take these keywords alone, and name them in its signature and its docstring.

    The docstring has `{settings}` where they belong, a line each.
    """
    hints = get_type_hints(changes)
    own = {name: setting for name, setting in SETTINGS.items() if name in hints}

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        parameters = {name: each for name, each in signature.parameters.items() if each.kind != each.VAR_KEYWORD}
        for name in own:
            parameters[name] = inspect.Parameter(name, _KEYWORD, default=None, annotation=hints[name])

        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            if unknown := [name for name in kwargs if name not in parameters]:
                raise TypeError(f"{function.__name__}() got an unexpected keyword argument '{unknown[0]}'")
            return function(*args, **kwargs)

        purposes = [f"{name}: {setting.purpose}." for name, setting in own.items()]
        checked.__doc__ = (function.__doc__ or "").replace("{settings}", "\n        ".join(purposes))
        vars(checked)["__signature__"] = signature.replace(parameters=list(parameters.values()))
        return cast(F, checked)

    return decorate


def _value(setting: Setting, value: Any) -> Any:
    """A keyword's value as the recipe has it."""
    match setting.kind:
        case "path":
            return os.fspath(value) if isinstance(value, str | os.PathLike) else "arrays"
        case "patterns":
            return (value,) if isinstance(value, str) else tuple(value)
        case "epoch_by_label":
            return tuple(value)
        case "rate_by_label":
            return tuple(value.items())
        case "whole":
            _require(value >= setting.range.low, setting.name, f"at least {setting.range.low}", value)
        case "number":
            _require(value in setting.range, setting.name, setting.range.bounds, value)
        case "choice":
            wanted = " or ".join(f"`{choice}`" for choice in setting.choices)
            _require(value in setting.choices, setting.name, wanted, value)
    return value


def _require(holds: bool, name: str, wanted: str, value: object) -> None:
    if not holds:
        raise CnnError.of("value", f"`{name}` must be {wanted}, found {value}")
