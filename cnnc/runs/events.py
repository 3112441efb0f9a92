"""The events of a training, for whoever watches it. It prints nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Message:
    """A line for the user."""

    text: str


@dataclass(frozen=True)
class TrainingStart:
    """The data is ready and the first step about to be compiled."""

    folder: Path
    model: str
    parameters: int
    train_count: int
    val_count: int
    batch: int
    steps: int
    epochs: int
    epoch: int = 1
    """The epoch that a resumed training goes on with, and below how many of its steps are done."""
    step: int = 0


@dataclass(frozen=True)
class Progress:
    """Steps done in an epoch, with the means so far; pictures a second over the epoch.

    Of the step that ended there are its own loss and the norm of its gradients, which may be no numbers.
    """

    epoch: int
    step: int
    loss: float
    top1: float | None
    per_second: float
    own_loss: float | None = None
    norm: float | None = None


@dataclass(frozen=True)
class Row:
    """An epoch, as a line of `results.csv`. Figures that a network has not are None."""

    epoch: int
    time: float
    lr: float
    train_loss: float
    train_top1: float | None
    val_loss: float
    val_top1: float | None
    val_top5: float | None
    outputs: tuple[tuple[str, float, float | None], ...] = ()
    """Validation loss and top-1 of every output by its name, where there are several."""


@dataclass(frozen=True)
class EpochEnd:
    """An epoch is trained, evaluated and saved; `best` says whether it is the best so far."""

    row: Row
    best: bool


Event = Message | TrainingStart | Progress | EpochEnd
Report = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Drop an event: the report of a training that nobody watches."""


def broadcast(*reports: Report) -> Report:
    """A report that passes every event on to several, in their order."""

    def pass_on(event: Event) -> None:
        for report in reports:
            report(event)

    return pass_on
