"""What the commands that run TFLite files share: how such a file is told from a run, and their options."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def is_model(path: Path) -> bool:
    """Whether a path means a TFLite file, there or not: by its name, or as it is a file, which a run is not."""
    return path.suffix.lower() == ".tflite" or path.is_file()


def delegate_options(command: F) -> F:
    """Give a command `--threads` and `--delegate`."""
    options = [
        click.option(
            "--threads",
            type=click.IntRange(min=1, max=1024),
            metavar="N",
            help="Threads of the CPU for a .tflite file.  [default: one a core]",
        ),
        click.option("--delegate", type=click.Choice(["edgetpu"]), help="Run what is compiled for an Edge TPU on one."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def labels_option(command: F) -> F:
    """Give a command `--labels`."""
    return click.option(
        "--labels",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The classes of a .tflite file, a label a line.  [default: those within it]",
    )(command)


def threads_of(threads: int | None) -> int:
    """The threads asked for, or one a core."""
    return threads or os.cpu_count() or 1


def refuse(what: str, given: Iterable[tuple[str, object]]) -> None:
    """Raises UsageError for the first option that is given and does not go with what the command is called on."""
    for option, value in given:
        if value:
            raise click.UsageError(f"`{option}` goes with {what}")


def say(notes: Iterable[str]) -> None:
    """Notes for the user, beside the output."""
    for note in notes:
        click.echo(note, err=True)
