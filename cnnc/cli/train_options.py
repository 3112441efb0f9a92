"""The options of `cnnc train`, and what they share with other commands."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from cnnc.cli.options import finite
from cnnc.diagnostics import CnnError

F = TypeVar("F", bound=Callable[..., Any])
_MOST: Final = 2**31 - 1


def positive(text: str) -> float:
    """A finite number above 0."""
    number = finite(text)
    if number <= 0:
        raise click.BadParameter(f"`{text}` is not above 0")
    return number


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


def data_options(command: F) -> F:
    """Give a command `--data`, `--data-dir`, `--split` and `--skip-corrupt`."""
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
    for option in reversed(options):
        command = option(command)
    return command


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
    if not (more.isascii() and more.isdigit() and 0 < int(more) <= _MOST):
        raise click.BadParameter(f"`{text}` is no number of epochs: write 30, or +50 for so many more with --resume")
    return text if text.startswith("+") else int(more)


def share(text: str) -> float:
    """A number between 0 and 1, both excluded."""
    number = finite(text)
    if not 0 < number < 1:
        raise click.BadParameter(f"`{text}` is not between 0 and 1")
    return number


def recipe_options(command: F) -> F:
    """Give a command the options that override numbers and words of the train section.

    It receives those that are given as `settings`, by the names of the recipe.
    """
    options: dict[str, Callable[[Any], Any]] = {
        "batch": click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Pictures a step."),
        "seed": click.option("--seed", type=click.IntRange(0, _MOST), metavar="N", help="Of all that is random."),
        "precision": click.option("--precision", type=click.Choice(["f32", "bf16"]), help="What to compute in."),
        "accumulate": click.option(
            "--accumulate", type=click.IntRange(min=1), metavar="N", help="Steps whose gradients give one update."
        ),
        "clip": click.option("--clip", type=positive, metavar="X", help="Most that the norm of all gradients may be."),
        "ema": click.option("--ema", type=share, metavar="X", help="Decay of an average of the weights: 0.999."),
        "patience": click.option(
            "--patience", type=click.IntRange(min=1), metavar="N", help="Stop after N epochs without a better one."
        ),
        "remat": click.option(
            "--remat/--no-remat", default=None, help="Compute activations again in the backward pass, for memory."
        ),
        "batch_norm": click.option(
            "--batch-norm", type=click.Choice(["global", "local"]), help="Statistics of the batch, or a device's part."
        ),
        "on_nan": click.option("--on-nan", type=click.Choice(["stop", "skip"]), help="When a loss is no number."),
    }

    @wraps(command)
    def collected(*args: Any, **given: Any) -> Any:
        settings = {name: value for name in options if (value := given.pop(name)) is not None}
        return command(*args, settings=settings, **given)

    found: Any = collected  # click calls it by keywords, of which it takes more than `command`
    for option in reversed(options.values()):
        found = option(found)
    return found  # type: ignore[no-any-return]
