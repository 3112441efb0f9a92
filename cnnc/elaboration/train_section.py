"""The `train` section of a spec to a `Recipe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, TypeVar

from cnnc.diagnostics import CnnError, Diagnostic, Label, did_you_mean
from cnnc.elaboration import binding
from cnnc.elaboration.expressions import argument, evaluate
from cnnc.elaboration.values import Layer, Poisoned, Scope
from cnnc.language import syntax
from cnnc.ops.signature import Parameter, Type, signature_of
from cnnc.recipe import Augment, Entry, Loss, Optimizer, OutOfRange, Recipe, Schedule
from cnnc.recipe.entry import entries

KEYS = (
    *("data", "augment", "loss", "optimizer", "schedule", "batch", "epochs", "seed", "precision"),
    *("weights", "freeze", "unfreeze", "rates"),
    *("accumulate", "clip", "ema", "patience", "remat", "batch_norm", "on_nan"),
)
WORDS: Mapping[str, tuple[str, ...]] = {
    "precision": ("f32", "bf16"),
    "remat": ("on", "off"),
    "batch_norm": ("global", "local"),
    "on_nan": ("stop", "skip"),
}
"""What entries of one word may say."""
MOST = 2**31
E = TypeVar("E", bound=Entry)


def read(train: syntax.Train, scope: Scope, outputs: Sequence[str]) -> tuple[Recipe, list[Diagnostic]]:
    """The recipe and what is wrong with the section.

    Args:
        train: the section.
        scope: the model's parameters, which entries may use.
        outputs: the names of the model's outputs, for losses.
    """
    fields: dict[str, Any] = {}
    found: list[Diagnostic] = []
    seen: dict[str, syntax.Name] = {}
    for entry in train.entries:
        try:
            if entry.key.text in seen:
                first = Label(seen[entry.key.text].span, "first here")
                raise CnnError.of("duplicate", f"`{entry.key.text}` is given twice", entry.key.span, secondary=[first])
            seen[entry.key.text] = entry.key
            fields.update(_entry(entry, scope, outputs))
        except CnnError as error:
            found.extend(error.diagnostics)
        except Poisoned:
            continue
    return Recipe(**fields), found


def _entry(entry: syntax.Entry, scope: Scope, outputs: Sequence[str]) -> Mapping[str, Any]:
    key = entry.key.text
    if key not in KEYS:
        help = did_you_mean(key, KEYS) or f"its entries are {', '.join(KEYS)}"
        raise CnnError.of("train", f"the train section has no entry `{key}`", entry.key.span, help=help)
    if key == "loss":
        return {"losses": _losses(entry, scope, outputs)}
    if key == "freeze":
        return {"freeze": tuple(_pattern(arm, scope) for arm in entry.arms)}
    if key == "unfreeze":
        named = _by_label(entry, "unfreeze features: 5")
        return {"unfreeze": tuple((_whole(value, scope, key, 2), label) for label, value in named)}
    if key == "rates":
        named = _by_label(entry, "rates head: 0.01")
        return {"rates": tuple((label, _number(value, scope, key, inf)) for label, value in named)}
    if len(entry.arms) > 1 or entry.arms[0].label is not None:
        joined = "changes are joined by `|`: augment pad_crop(4) | flip" if key == "augment" else None
        raise CnnError.of("train", f"`{key}` takes one value", entry.span, help=joined)
    value = entry.arms[0].value
    match key:
        case "data" | "weights":
            return {key: _word(value, scope)}
        case "augment":
            items = value.items if isinstance(value, syntax.Pipeline) else (value,)
            if isinstance(value, syntax.Name) and value.text == "none":
                return {"augment": ()}
            return {"augment": tuple(_choose(Augment, item, scope) for item in items)}
        case "optimizer":
            return {"optimizer": _choose(Optimizer, value, scope)}
        case "schedule":
            return {"schedule": _choose(Schedule, value, scope)}
        case "precision" | "remat" | "batch_norm" | "on_nan":
            said = _word(value, scope) if isinstance(value, syntax.Name) else evaluate(value, scope)
            word = binding.convert(said, Type("choice", WORDS[key]), key, value.span)
            return {key: word == "on" if key == "remat" else word}
        case "clip" | "ema" | "patience" if isinstance(value, syntax.Name) and value.text == "none":
            return {key: None}
        case "clip":
            return {key: _number(value, scope, key, inf)}
        case "ema":
            return {key: _number(value, scope, key, 1)}
        case _:
            return {key: _whole(value, scope, key, 0 if key == "seed" else 1)}


def _whole(value: syntax.Expression, scope: Scope, key: str, least: int) -> int:
    number = binding.check(evaluate(value, scope), Type("int"), key, value.span)
    if not least <= number < MOST:
        message = f"`{key}` is {number}, but must be from {least} to {MOST - 1}"
        raise CnnError.of("value", message, value.span)
    return int(number)


def _number(value: syntax.Expression, scope: Scope, key: str, limit: float) -> float:
    number = float(binding.check(evaluate(value, scope), Type("float"), key, value.span))
    if not 0 < number < limit:
        what = "a rate" if key == "rates" else f"`{key}`"
        wanted = "above 0" if limit == inf else f"above 0 and below {limit:g}"
        raise CnnError.of("value", f"{what} is {number:g}, but must be {wanted}", value.span)
    return number


def _pattern(arm: syntax.Arm, scope: Scope) -> str:
    """What `freeze` names: a label, or a pattern in quotes."""
    if arm.label is not None:
        help = f"from an epoch on it learns with a line of its own: unfreeze {arm.label.text}: 5"
        raise CnnError.of("train", "`freeze` takes labels and patterns alone", arm.span, help=help)
    return _word(arm.value, scope)


def _by_label(entry: syntax.Entry, example: str) -> list[tuple[str, syntax.Expression]]:
    """The values of an entry that has one for each of several labels of layers."""
    seen: dict[str, syntax.Name] = {}
    found = []
    for arm in entry.arms:
        if arm.label is None:
            message = f"`{entry.key.text}` takes a label and a number for each"
            raise CnnError.of("train", message, arm.span, help=f"write {example}")
        first = seen.setdefault(arm.label.text, arm.label)
        if first is not arm.label:
            message = f"`{arm.label.text}` is given twice"
            raise CnnError.of("duplicate", message, arm.label.span, secondary=[Label(first.span, "first here")])
        found.append((arm.label.text, arm.value))
    return found


def _losses(entry: syntax.Entry, scope: Scope, outputs: Sequence[str]) -> tuple[tuple[str | None, Loss], ...]:
    """One loss for all outputs, or one for each that has a label."""
    seen: dict[str, syntax.Name] = {}
    for arm in entry.arms:
        if arm.label is None and len(entry.arms) > 1:
            help = f"say for which: {', '.join(f'{name}: ...' for name in outputs)}"
            raise CnnError.of("train", "one of several losses is for no output", arm.span, help=help)
        if arm.label is not None:
            first = seen.setdefault(arm.label.text, arm.label)
            if first is not arm.label:
                message = f"`{arm.label.text}` has two losses"
                raise CnnError.of("duplicate", message, arm.label.span, secondary=[Label(first.span, "first here")])
    losses = tuple(_loss(arm, scope, outputs) for arm in entry.arms)
    missing = [name for name in outputs if seen and name not in seen]
    if missing:
        help = f"give each its own: {' '.join(entry.span.text.split())}, {missing[0]}: mse"
        raise CnnError.of("train", f"the output `{missing[0]}` has no loss", entry.span, help=help)
    return losses


def _loss(arm: syntax.Arm, scope: Scope, outputs: Sequence[str]) -> tuple[str | None, Loss]:
    label = None if arm.label is None else arm.label.text
    if arm.label is not None and label not in outputs:
        help = did_you_mean(arm.label.text, outputs) or f"its outputs are {', '.join(outputs)}"
        raise CnnError.of("name", f"the model has no output `{label}`", arm.label.span, help=help)
    return label, _choose(Loss, arm.value, scope)


def _word(value: syntax.Expression, scope: Scope) -> str:
    if isinstance(value, syntax.Name) and not isinstance(scope.values.get(value.text), str):
        return value.text
    found = evaluate(value, scope)
    if not isinstance(found, str):
        raise CnnError.of("type", "a name or a path in quotes is wanted", value.span)
    return found


def _choose(kind: type[E], value: syntax.Expression, scope: Scope) -> E:
    """The entry of a kind (an optimizer, say) that a call describes."""
    choices = entries(kind)
    match value:
        case syntax.Name() as function:
            arguments: tuple[syntax.Argument, ...] = ()
        case syntax.Call(function=function, arguments=arguments):
            pass
        case _:
            help = f"there are {', '.join(sorted(choices))}"
            raise CnnError.of("type", f"the name of a kind of {kind.noun} is wanted", value.span, help=help)
    if function.text not in choices:
        help = did_you_mean(function.text, choices) or f"there are {', '.join(sorted(choices))}"
        raise CnnError.of("name", f"there is no {kind.noun} `{function.text}`", function.span, help=help)
    chosen = choices[function.text]
    found = binding.match(function.text, signature_of(chosen), arguments, value.span)
    values: dict[str, Any] = {}
    for parameter in signature_of(chosen):
        if parameter.name in found:
            values[parameter.name] = _argument(found[parameter.name], parameter, scope)
    entry = chosen(**values)
    try:
        entry.validate()
    except OutOfRange as error:
        at = found[error.attribute].span if error.attribute in found else value.span
        raise CnnError.of("value", error.message, at) from None
    return entry


def _argument(given: syntax.Argument, parameter: Parameter, scope: Scope) -> Any:
    value, at = argument(given.value, parameter, scope)
    if isinstance(value, Layer):
        raise binding.mismatch(value, parameter.type, parameter.name, at)
    return binding.convert(value, parameter.type, parameter.name, at)
