"""Shows how a training goes: a bar an epoch on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from cnnc.cli.console.terminal import echo
from cnnc.printable import printable
from cnnc.runs.events import EpochEnd, Event, Message, Report, Row, TrainingStart, ignore
from cnnc.runs.events import Progress as Step
from cnnc.training.time_left import TimeLeft, format_duration


@contextmanager
def watching(console: Console | None = None, group: Any = None) -> Iterator[Report]:
    """A report that shows events as they come, in the first process of a `group`."""
    if group is not None and group.index:
        yield ignore
        return
    console = console or Console(highlight=False)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.completed}/{task.total}  {task.fields[figures]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress)


class _Lines:
    """A line an epoch."""

    def __init__(self) -> None:
        self.epochs = 0
        self.remaining = TimeLeft()

    def __call__(self, event: Event) -> None:
        self.remaining(event)
        match event:
            case Message():
                echo(event.text)
            case TrainingStart():
                self.epochs = event.epochs
                echo(*describe_start(event))
            case EpochEnd():
                echo(describe_epoch(event, self.epochs, self.remaining.seconds))


class _Bars:
    """A bar for the epoch that runs, lines for those that are over."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.epochs = self.steps = 0
        self.task: TaskID | None = None
        self.remaining = TimeLeft()

    def __call__(self, event: Event) -> None:
        self.remaining(event)
        say = self.progress.console.print
        match event:
            case Message():
                say(printable(event.text), markup=False, soft_wrap=True)
            case TrainingStart():
                self.epochs, self.steps = event.epochs, event.steps
                say("\n".join(map(printable, describe_start(event))), markup=False, soft_wrap=True)
                self.task = self.progress.add_task("compiling", total=event.steps, figures="")
            case Step() if self.task is not None:
                figures = f"loss {event.loss:.4f}{_percent('  top-1', event.top1)}  {event.per_second:,.0f}/s"
                figures += _left(self.remaining.seconds)
                name = f"epoch {event.epoch}/{self.epochs}"
                self.progress.update(self.task, description=name, completed=event.step, figures=figures)
            case EpochEnd() if self.task is not None:
                say(describe_epoch(event, self.epochs, self.remaining.seconds), markup=False, soft_wrap=True)
                self.progress.reset(self.task, figures="")


def describe_start(event: TrainingStart) -> tuple[str, str]:
    """The network, its data and the folder of the run, in two lines."""
    return (
        f"{event.model}: {event.parameters:,} parameters, into {event.folder}",
        f"{event.train_count:,} examples to train on, {event.val_count:,} to validate;"
        f" {event.epochs} epochs of {event.steps} steps of {event.batch}",
    )


def describe_epoch(event: EpochEnd, epochs: int, remaining: float | None = None) -> str:
    """A row's figures in a line, and the seconds to the end in words; a star marks the best epoch so far."""
    row = event.row
    width = len(str(epochs))
    figures = [
        f"epoch {row.epoch:>{width}}/{epochs}",
        f"loss {row.train_loss:.4f}{_percent(' top-1', row.train_top1)}",
        f"val loss {row.val_loss:.4f}{_percent(' top-1', row.val_top1)}",
        f"{row.time:.1f} s",
    ]
    return "  ".join(figures) + _left(remaining if row.epoch < epochs else None) + ("  *" if event.best else "")


def describe_best(row: Row) -> str:
    """The best epoch in words."""
    score = f"loss {row.val_loss:.4f}" if row.val_top1 is None else f"{100 * row.val_top1:.2f} % top-1"
    return f"best: {score} on the validation set, after epoch {row.epoch}"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"  {format_duration(seconds)} left"


def _percent(label: str, share: float | None) -> str:
    return "" if share is None else f"{label} {100 * share:.2f} %"
