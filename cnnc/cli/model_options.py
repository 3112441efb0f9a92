"""What the commands that run networks share: how a run, a spec and a TFLite file are told apart, their options."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from cnnc import specs
from cnnc.cli.terminal import echo
from cnnc.diagnostics import CnnError
from cnnc.overrides import Overrides

if TYPE_CHECKING:
    from cnnc.runs.run_record import Asked, Run

F = TypeVar("F", bound=Callable[..., Any])


def kind_of(path: Path, weights: Path | None) -> Literal["run", "spec", "model"]:
    """Whether a path means a TFLite file, there or not, a spec by its path or bundled name, or else a run's folder."""
    if path.suffix.lower() == ".tflite" or (path.is_file() and path.suffix != ".cnn"):
        return "model"
    if path.is_dir():
        return "run"
    is_name = path.parent == Path() and any(str(path).startswith(name) for name in specs.names())
    return "spec" if path.suffix == ".cnn" or is_name or weights is not None else "run"


def weights_option(command: F) -> F:
    """Give a command `--weights`."""
    return click.option(
        "--weights", type=click.Path(path_type=Path), metavar="FILE", help="Weights for a SPEC: safetensors."
    )(command)


def crop_option(command: F) -> F:
    """Give a command `--crop`."""
    return click.option(
        "--crop",
        type=click.FloatRange(0, 1, min_open=True),
        default=1.0,
        show_default=True,
        metavar="SHARE",
        help="Share of a picture's shorter side that the network looks at; 0.875 is 224 of 256.",
    )(command)


def spec_given(overrides: Overrides, weights: Path | None) -> list[tuple[str, object]]:
    """The options that go with a SPEC, as they are written, and what is given for them."""
    changes = [(f"--{f.name.replace('settings', 'set')}", getattr(overrides, f.name)) for f in fields(overrides)]
    return [*changes, ("--weights", weights)]


def open_spec(spec: Path, overrides: Overrides, weights: Path | None, labels: Path | None) -> Asked:
    """A SPEC with its weights and labels, made ready to be asked.

    Raises:
        CnnError: there are no weights, or they or the labels do not fit.
    """
    from cnnc.evaluation.class_labels import labels_of, require_labels, without_background
    from cnnc.loading import find, load_spec
    from cnnc.runs.run_record import open_weights

    net = load_spec(find(spec), overrides)
    if weights is None:
        raise CnnError.of(
            "weights",
            f"`{spec}` is a spec, and it is not said which weights it has",
            help="give --weights FILE, or name a run's folder instead",
        )
    names: tuple[str, ...] = ()
    if labels is not None:
        count = max(net.graph[net.graph.outputs[0][1]].shape[-1], 2)
        names, notes = without_background(labels_of(labels), count, str(labels))
        say(notes)
        require_labels(names, count, f"`{net.name}`")
    return open_weights(net, weights, names)


def opened_run(path: Path, *, last: bool) -> Run:
    """A RUN with its best or last weights, to be shown pictures; one that was trained on none is told."""
    from cnnc.runs.calibration import unlike_pixels
    from cnnc.runs.run_record import open_run

    run = open_run(path, "last" if last else "best")
    say(unlike_pixels(run.folder.calibration, run.net.graph))
    return run


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
        help="The classes of a SPEC or a .tflite file, a label a line.  [default: those within the file]",
    )(command)


def threads_of(threads: int | None) -> int:
    """The threads asked for, or one a core."""
    return threads or os.cpu_count() or 1


def refuse(what: str, given: Iterable[tuple[str, object]]) -> None:
    """Raises UsageError for the first option that is given and does not go with what the command is called on."""
    for option, value in given:
        if value:
            raise click.UsageError(f"`{option}` goes with {what}")


def require_fitting(
    kind: Literal["run", "spec", "model"],
    *,
    last: bool,
    labels: Path | None,
    threads: int | None,
    delegate: str | None,
    spec: tuple[Overrides, Path | None],
) -> None:
    """Raises UsageError for an option that does not go with what the command is called on."""
    if kind != "run":
        refuse("a run", [("--last", last)])
    if kind == "run":
        refuse("a SPEC or a .tflite file", [("--labels", labels)])
    if kind != "model":
        refuse("a .tflite file", [("--threads", threads), ("--delegate", delegate)])
    if kind != "spec":
        refuse("a SPEC", spec_given(*spec))


def say(notes: Iterable[str]) -> None:
    """Notes for the user, beside the output."""
    for note in notes:
        echo(note, err=True)
