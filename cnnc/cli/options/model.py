"""Options of the commands that run networks, and how a run, a spec and a TFLite file are told apart."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click

from cnnc import specs
from cnnc.cli.console.extras import extra
from cnnc.cli.console.terminal import echo
from cnnc.overrides import Overrides

if TYPE_CHECKING:
    from cnnc.evaluation.predictor import Predictor
    from cnnc.runs.events import Event
    from cnnc.runs.trained import Trained

_RANDOM_SEED: Final = 0

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


def open_network(
    kind: Literal["run", "spec", "model"],
    what: Path,
    overrides: Overrides,
    *,
    weights: Path | None = None,
    labels: Path | None = None,
    last: bool = False,
    random: bool | None = None,
) -> Trained:
    """A RUN, or a SPEC with its weights and labels.

    `random` is whether `--random-weights` was given; None where a command has no such option.

    Raises:
        CnnError: there are no weights, or they or the labels do not fit.
    """
    from cnnc.evaluation.class_labels import read_classes
    from cnnc.runs.trained import open_run, open_trained

    if kind == "run":
        return open_run(what, last=last)
    help = "give --weights FILE, or name a run's folder instead"
    if random is not None:
        help += "; --random-weights shows the structure alone"
    seed = _RANDOM_SEED if random else None
    trained = open_trained(what, overrides, weights=weights, random_seed=seed, help=help)
    if labels is None:
        return trained
    graph = trained.net.graph
    count = max(graph[graph.outputs[0][1]].shape[-1], 2)
    classes, notes = read_classes(labels, count, f"`{trained.net.name}`")
    say(notes)
    return replace(trained, classes=classes)


def open_predictor(
    kind: Literal["run", "spec", "model"],
    what: Path,
    overrides: Overrides,
    *,
    weights: Path | None,
    labels: Path | None,
    last: bool,
    threads: int | None,
    delegate: Literal["edgetpu"] | None,
) -> Predictor:
    """A RUN, a SPEC with weights or a TFLite file, to be shown data. What its user should know is said."""
    if kind == "model":
        with extra("tflite", "running a TFLite file"):
            from cnnc.evaluation.tflite import open_tflite
        file = open_tflite(what, labels=labels, threads=threads_of(threads), delegate=delegate)
        say(file.notes)
        return file
    with extra("train", "running a network"):
        from cnnc.evaluation.network import network_predictor
    trained = open_network(kind, what, overrides, weights=weights, labels=labels, last=last)
    say_unlike_pixels(trained)
    return network_predictor(trained)


def say_unlike_pixels(trained: Trained) -> None:
    """Tell of a run that was trained on arrays which were no pixels, before it is shown pictures."""
    from cnnc.runs.calibration import unlike_pixels

    say(unlike_pixels(trained.calibration, trained.net.graph))


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


def say_message(event: Event) -> None:
    """Report what an event tells, beside the output."""
    from cnnc.runs.events import Message

    if isinstance(event, Message):
        say([event.text])
