"""Every setting of the table, one that is yet to come too: its ways in and out."""

from __future__ import annotations

import inspect
import typing
from dataclasses import replace
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

import cnnc
from cnnc import load_text, recipe
from cnnc.cli.options.training import recipe_options
from cnnc.recipe import SETTINGS, Recipe, Setting
from cnnc.recipe.changes import Changes, ResumeChanges, apply_changes
from cnnc.recipe.yaml_form import recipe_from_words, recipe_in_words
from cnnc.rendering.spec_text import print_spec
from tests.support.calling import call, error_of

EACH = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
ONE_VALUE = ("whole", "number", "choice", "switch")
NET = load_text("input 4\na: dense(2)\nb: dense(2)\n")
OTHERS: dict[str, Any] = {
    "data": "digits",
    "augment": (recipe.Flip(), recipe.Mixup(0.5)),
    "loss": ((None, recipe.MeanSquaredError()),),
    "optimizer": recipe.Lion(),
    "schedule": recipe.OneCycle(0.2),
}


def other(setting: Setting) -> Any:
    """A value that is not the default."""
    match setting.kind:
        case "name" | "call" | "calls" | "loss_by_output":
            return OTHERS[setting.name]
        case "path":
            return "some/w.safetensors"
        case "whole":
            return (setting.default or setting.range.low) + 1
        case "number":
            return 0.5
        case "choice":
            return next(choice for choice in setting.choices if choice != setting.default)
        case "switch":
            return not setting.default
        case "patterns":
            return ("a", "*.bn1")
        case "epoch_by_label":
            return ((setting.range.low, "a"), (7, "b"))
        case "rate_by_label":
            return (("a", 0.25), ("b", 1e-3))


def changed(setting: Setting) -> Recipe:
    return replace(Recipe(), **{setting.field: other(setting)})


@EACH
def test_a_setting_that_is_printed_reads_back(setting: Setting) -> None:
    assert changed(setting) != Recipe()
    assert load_text(print_spec(NET.graph, changed(setting))).recipe == changed(setting)


@EACH
def test_a_setting_that_a_run_keeps_comes_back(setting: Setting) -> None:
    words = yaml.safe_load(yaml.safe_dump(recipe_in_words(changed(setting))))
    assert recipe_from_words(words, changed(setting).data) == changed(setting)
    assert (setting.name in words) == (setting.name != "data")


@pytest.mark.parametrize("name", [*Changes.__annotations__, "weights"])
def test_a_setting_changes_by_its_keyword(name: str) -> None:
    value = other(SETTINGS[name])
    given = dict(value) if SETTINGS[name].kind == "rate_by_label" else value
    changes: Any = {name: given}
    assert apply_changes(Recipe(), **changes) == changed(SETTINGS[name])
    assert apply_changes(changed(SETTINGS[name]), **dict.fromkeys(changes)) == changed(SETTINGS[name])


@pytest.mark.parametrize("name", [n for n, s in SETTINGS.items() if n != "epochs" and s.kind in ONE_VALUE])
def test_a_setting_of_one_value_has_an_option(name: str) -> None:
    taken: dict[str, Any] = {}
    command = click.command()(recipe_options(lambda settings: taken.update(settings)))
    value, flag = other(SETTINGS[name]), f"--{name.replace('_', '-')}"
    result = CliRunner().invoke(command, [flag] if value is True else [flag, str(value)])
    assert taken == {name: value}, result.output


def test_the_flags_of_the_table_are_those_of_train() -> None:
    shown = call("train", "-h").stdout
    for setting in SETTINGS.values():
        if setting.flag or setting.kind not in ("call", "calls", "loss_by_output"):
            flag = setting.flag or f"--{setting.name.replace('_', '-')}"
            assert f"  {flag.split()[0]} " in shown, flag


def test_the_keywords_of_python_are_the_tables() -> None:
    spec_alone = {"data", "augment", "loss", "optimizer", "schedule"}
    assert set(Changes.__annotations__) == set(SETTINGS) - spec_alone - {"weights"}
    assert {*ResumeChanges.__annotations__, "epochs"} == {name for name, each in SETTINGS.items() if each.resumable}
    fields, keywords = typing.get_type_hints(Recipe), typing.get_type_hints(Changes)
    for name in set(keywords) - {"freeze", "unfreeze", "rates"}:
        assert keywords[name] == typing.Optional[fields[name]], name  # noqa: UP045  # `|` takes no Literal's text


@pytest.mark.parametrize(("function", "changes"), [(cnnc.train, Changes), (cnnc.resume, ResumeChanges)])
def test_help_tells_of_every_keyword(function: Any, changes: type) -> None:
    text = inspect.getdoc(function) or ""
    for name in changes.__annotations__:
        assert f"    {name}: {SETTINGS[name].purpose}.\n" in text
        assert inspect.signature(function).parameters[name].default is None
    with pytest.raises(TypeError, match=rf"{function.__name__}\(\) got an unexpected keyword argument 'batchh'"):
        function(None, None, batchh=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "`batch` must be at least 1, found 0"),
        ({"seed": -1}, "`seed` must be at least 0, found -1"),
        ({"patience": -2}, "`patience` must be at least 1, found -2"),
        ({"lr": float("inf")}, "`lr` must be above 0, found inf"),
        ({"clip": 0.0}, "`clip` must be above 0, found 0.0"),
        ({"ema": 1}, "`ema` must be between 0 and 1, found 1"),
        ({"precision": "f16"}, "`precision` must be `f32` or `bf16`, found f16"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    assert message in error_of(lambda: apply_changes(Recipe(), **changes))
