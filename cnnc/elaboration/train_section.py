"""The `train` section of a spec to a `Recipe`, each entry as the table of the settings says that it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from cnnc.diagnostics import CnnError, Diagnostic, Label, did_you_mean
from cnnc.elaboration import binding
from cnnc.elaboration.expressions import argument, evaluate
from cnnc.elaboration.values import Layer, Poisoned, Scope
from cnnc.language import syntax
from cnnc.ops.signature import Parameter, Type, signature_of
from cnnc.recipe import SETTINGS, Entry, Loss, OutOfRange, Recipe, Setting
from cnnc.recipe.entry import Range, entries
from cnnc.recipe.settings import MOST

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
            _require_new(entry.key, seen, "is given twice")
            setting = _setting(entry.key)
            fields[setting.field] = _value(setting, entry, scope, outputs)
        except CnnError as error:
            found.extend(error.diagnostics)
        except Poisoned:
            continue
    return Recipe(**fields), found


def _require_new(name: syntax.Name, seen: dict[str, syntax.Name], fault: str) -> None:
    """Add a name to those seen. Raises CnnError with the fault where it is there."""
    first = seen.setdefault(name.text, name)
    if first is not name:
        message = f"`{name.text}` {fault}"
        raise CnnError.of("duplicate", message, name.span, secondary=[Label(first.span, "first here")])


def _setting(key: syntax.Name) -> Setting:
    if key.text not in SETTINGS:
        help = did_you_mean(key.text, SETTINGS) or f"its entries are {', '.join(SETTINGS)}"
        raise CnnError.of("train", f"the train section has no entry `{key.text}`", key.span, help=help)
    return SETTINGS[key.text]


def _value(setting: Setting, entry: syntax.Entry, scope: Scope, outputs: Sequence[str]) -> Any:
    """The value of an entry of labels or of several values; else its one value."""
    match setting.kind:
        case "loss_by_output":
            return _losses(entry, scope, outputs)
        case "patterns":
            return tuple(_pattern(arm, scope) for arm in entry.arms)
        case "epoch_by_label":
            named = _by_label(entry, "features: 5")
            return tuple((_whole(value, scope, setting), label) for label, value in named)
        case "rate_by_label":
            named = _by_label(entry, "head: 0.01")
            return tuple((label, _number(value, scope, setting)) for label, value in named)
    if len(entry.arms) > 1 or entry.arms[0].label is not None:
        joined = "changes are joined by `|`: augment pad_crop(4) | flip" if setting.kind == "calls" else None
        raise CnnError.of("train", f"`{setting.name}` takes one value", entry.span, help=joined)
    return _single(setting, entry.arms[0].value, scope)


def _single(setting: Setting, value: syntax.Expression, scope: Scope) -> Any:
    says_none = isinstance(value, syntax.Name) and value.text == "none"
    match setting.kind:
        case "name" | "path":
            return _word(value, scope)
        case "call":
            return _choose(setting.of, value, scope)
        case "choice":
            return _choice(value, scope, setting.name, setting.choices)
        case "switch":
            return _choice(value, scope, setting.name, ("on", "off")) == "on"
        case _ if says_none and setting.default in (None, ()):
            return setting.default
        case "calls":
            items = value.items if isinstance(value, syntax.Pipeline) else (value,)
            return tuple(_choose(setting.of, item, scope) for item in items)
        case "number":
            return _number(value, scope, setting)
    assert setting.kind == "whole", setting
    return _whole(value, scope, setting)


def _choice(value: syntax.Expression, scope: Scope, name: str, choices: tuple[str, ...]) -> str:
    word = _word(value, scope) if isinstance(value, syntax.Name) else evaluate(value, scope)
    return str(binding.convert(word, Type("choice", choices), name, value.span))


def _whole(value: syntax.Expression, scope: Scope, setting: Setting) -> int:
    number = binding.check(evaluate(value, scope), Type("int"), setting.name, value.span)
    limits = Range(setting.range.low, MOST)
    if number not in limits:
        raise CnnError.of("value", f"`{setting.name}` is {number}, but must {limits}", value.span)
    return int(number)


def _number(value: syntax.Expression, scope: Scope, setting: Setting) -> float:
    number = float(binding.check(evaluate(value, scope), Type("float"), setting.name, value.span))
    if number not in setting.range:
        subject = "a rate" if setting.kind == "rate_by_label" else f"`{setting.name}`"
        raise CnnError.of("value", f"{subject} is {number:g}, but must {setting.range}", value.span)
    return number


def _pattern(arm: syntax.Arm, scope: Scope) -> str:
    """The layers that `freeze` names: a label, or a pattern in quotes."""
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
            raise CnnError.of("train", message, arm.span, help=f"write {entry.key.text} {example}")
        _require_new(arm.label, seen, "is given twice")
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
            _require_new(arm.label, seen, "has two losses")
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
