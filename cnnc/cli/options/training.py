"""The options of `cnnc train`, and what they share with other commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cnnc.cli.options.common import finite
from cnnc.cli.options.model import say_message
from cnnc.diagnostics import CnnError
from cnnc.recipe import SETTINGS, Setting
from cnnc.recipe.entry import POSITIVE, Range
from cnnc.recipe.settings import MOST

if TYPE_CHECKING:
    from cnnc.data.sources.data_set import DataSet
    from cnnc.evaluation.predictor import Predictor
    from cnnc.evaluation.test_set import TestSet

F = TypeVar("F", bound=Callable[..., Any])


def number_in(range: Range) -> Callable[[str], float]:
    """A reader of the numbers of a range."""

    def read(text: str) -> float:
        number = finite(text)
        if number not in range:
            raise click.BadParameter(f"`{text}` is not {range.bounds}")
        return number

    return read


positive = number_in(POSITIVE)


def rate(text: str) -> tuple[str | None, float]:
    """`0.01`, or `head=0.01` for the layers that a pattern names."""
    pattern, equals, number = text.rpartition("=")
    if equals and not pattern.strip():
        raise click.BadParameter(f"`{text}` lacks a pattern: write head=0.01, or just a number")
    return pattern.strip() or None, positive(number)


def thaw(text: str) -> tuple[int, str]:
    """`5:features`."""
    epoch, _, pattern = text.partition(":")
    if not (epoch.isascii() and epoch.isdigit() and len(epoch) < 10 and pattern.strip()):
        raise click.BadParameter(f"`{text}` is not EPOCH:PATTERN: write 5:features")
    return int(epoch), pattern.strip()


@dataclass(frozen=True)
class DataOptions:
    """The options on a data set: its name, where its files lie, the share to hold out, and `--skip-corrupt`."""

    name: str | None
    folder: Path | None
    held_out: float | None
    skip_corrupt: bool

    def load(self, name: str, seed: int, report: Callable[[str], None]) -> DataSet:
        """The data set `name` to train on, its parts split by `seed`."""
        from cnnc.data.sources.by_name import load_data
        from cnnc.data.sources.folder import Options
        from cnnc.data.sources.parts import HELD_OUT

        options = Options(self.held_out or HELD_OUT, seed, self.skip_corrupt)
        return load_data(name, folder=self.folder, options=options, report=report)

    def test_loader(self, **options: Any) -> Callable[[Predictor], TestSet]:
        """A function that loads the test set for a predictor; `options` are further ones of `load_test_set`."""
        from cnnc.evaluation.test_set import load_test_set

        return partial(
            load_test_set,
            data=self.name,
            folder=self.folder,
            held_out=self.held_out,
            skip_corrupt=self.skip_corrupt,
            report=say_message,
            **options,
        )


def data_options(command: F) -> F:
    """Give a command `--data`, `--data-dir`, `--split` and `--skip-corrupt`, which it receives as `data`."""
    options = [
        click.option(
            "--data",
            metavar="D",
            help="digits, mnist, fashion_mnist, cifar10, a folder {train,val}/<class>/*.jpg, or one of record files.",
        ),
        click.option(
            "--data-dir",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Where the files of a data set by name lie; without it they are downloaded once.",
        ),
        click.option(
            "--split",
            "held_out",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            metavar="X",
            help="Share of every class to hold out of a folder without val and test.  [default: 0.2]",
        ),
        click.option("--skip-corrupt", is_flag=True, help="Leave out and count pictures that cannot be decoded."),
    ]

    @wraps(command)
    def collected(
        *args: Any, data: str | None, data_dir: Path | None, held_out: float | None, skip_corrupt: bool, **rest: Any
    ) -> Any:
        return command(*args, data=DataOptions(data, data_dir, held_out, skip_corrupt), **rest)

    for option in reversed(options):
        collected = option(collected)
    return collected  # type: ignore[return-value]  # click calls it by keywords, of which it takes more than `command`


def data_named(given: str | None, by_spec: str | None, command: str) -> str:
    """The data set that is meant. Raises CnnError where neither the flag nor the spec's train section names one."""
    name = given or by_spec
    if name is None:
        raise CnnError.of(
            "data",
            "it is not said what to train on",
            help=f"{command} --data digits, or another set or folder; or a line `data` in the train section",
        )
    return name


workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1, max=1024),
    metavar="N",
    help="Threads that read pictures; what comes out is the same.  [default: one a core]",
)


def epochs(text: str) -> int | str:
    """`30`, or `+50` for so many more than a run has."""
    more = text.removeprefix("+")
    if not (more.isascii() and more.isdigit() and 0 < int(more) <= MOST):
        raise click.BadParameter(f"`{text}` is no number of epochs: write 30, or +50 for so many more with --resume")
    return text if text.startswith("+") else int(more)


def setting_option(name: str, **more: Any) -> Callable[[F], F]:
    """The option that overrides a setting of the train section, as the table has it but for what is said here."""
    setting = SETTINGS[name]
    flag = f"--{name.replace('_', '-')}"
    flags = f"{flag}/--no-{flag[2:]}" if setting.kind == "switch" else flag
    purpose = setting.purpose.partition(";")[0]
    help = setting.help or f"{purpose[0].upper()}{purpose[1:]}."
    return click.option(flags, **{"help": help, **_taken(setting), **more})


def _taken(setting: Setting) -> dict[str, Any]:
    """The type of a setting's option."""
    match setting.kind:
        case "whole":
            low, high = setting.range.low, setting.range.high
            return {"type": click.IntRange(int(low), None if high == inf else int(high)), "metavar": "N"}
        case "number":
            return {"type": number_in(setting.range), "metavar": "X"}
        case "choice":
            return {"type": click.Choice(setting.choices)}
        case "switch":
            return {"default": None}
        case "path":
            return {"type": click.Path(), "metavar": "FILE|RUN"}
        case "patterns":
            return {"multiple": True, "metavar": "PATTERN"}
        case "epoch_by_label":
            return {"type": thaw, "multiple": True, "metavar": "EPOCH:PATTERN"}
    raise AssertionError(setting)


def recipe_options(command: F) -> F:
    """Give a command the options that override numbers and words of the train section, but for its epochs.

    It receives those that are given as `settings`, by the names of the recipe.
    """
    kinds = ("whole", "number", "choice", "switch")
    names = [each.name for each in SETTINGS.values() if each.kind in kinds and each.name != "epochs"]

    @wraps(command)
    def collected(*args: Any, **given: Any) -> Any:
        settings = {name: value for name in names if (value := given.pop(name)) is not None}
        return command(*args, settings=settings, **given)

    found: Any = collected  # click calls it by keywords, of which it takes more than `command`
    for name in reversed(names):
        found = setting_option(name)(found)
    return found  # type: ignore[no-any-return]
