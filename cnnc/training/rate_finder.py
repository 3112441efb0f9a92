"""A learning rate found by trying: it rises from step to step, and the loss tells where it helps and where it hurts.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3: the range test; its reading, the
steepest fall over the logarithm of the rate, is fastai's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from math import exp, isfinite, log
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cnnc.data.feeding.batches import Batch, prefetch, training_batches
from cnnc.diagnostics import CnnError
from cnnc.net import Weights
from cnnc.runs.folder import write_table
from cnnc.training.session import Session

LOWEST: Final = 1e-7
HIGHEST: Final = 10.0
STEPS: Final = 100
LEAST_STEPS: Final = 20
"""With fewer steps the rate rises by more than 2.6 times from one to the next, and the curve says nothing."""
_EPOCHS: Final = 2
"""Passes over the data at most: later ones would show what the network has learnt by heart."""
_MEMORY: Final = 0.8
"""How much of the mean so far goes into the next."""
_BLOW_UP_RATIO: Final = 4.0
"""The loss is that many times its lowest when the test ends (fastai)."""
_CLIP_RATIO: Final = 1.5
"""Losses count as that many times the first at most when the curve is read: beyond, the network has come apart."""
_UNREAD_SHARE: Final = 0.1
"""The share of the steps at the start where the mean has too little to go by, and which are not read."""


@dataclass(frozen=True)
class Trial:
    """A step at a learning rate: its loss, and the losses' mean there."""

    rate: float
    loss: float
    smooth: float


@dataclass(frozen=True)
class RangeTest:
    """A test of learning rates and what it comes to: None where it says nothing of a rate.

    Attributes:
        trials: the steps, in the order of their rates.
        steepest: the rate at which the loss fell the fastest.
        lowest: a tenth of that at which it was the lowest.
        limit: a tenth of that at which it was back where it began, or blew up.
    """

    trials: tuple[Trial, ...]
    steepest: float | None
    lowest: float | None
    limit: float | None


def find_rate(
    session: Session,
    weights: Weights,
    *,
    steps: int = STEPS,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> RangeTest:
    """Train for a few steps at rates that rise from `LOWEST` to `HIGHEST`, and read the losses.

    A step is an update: of several batches, where the recipe gathers them.

    Args:
        session: a network, how it trains, and its data.
        weights: the first ones.
        steps: as many as are wanted; there are fewer where two epochs have fewer.
        progress: is called after every step with its number and how many there are.

    Raises:
        CnnError: `value` when the data has too few batches, `diverged` when the loss is no number from the start.
    """
    count = _count(session, steps)
    trials: list[Trial] = []
    mean, lowest = 0.0, float("inf")
    for step, (rate, loss) in enumerate(_losses(session, weights, count), 1):
        mean = _MEMORY * mean + (1 - _MEMORY) * loss
        smooth = mean / (1 - _MEMORY**step)
        _require_start(step, count, rate, loss)
        trials.append(Trial(rate, loss, smooth))
        progress(step, count)
        lowest = min(lowest, smooth) if step > 1 else smooth
        if not isfinite(loss) or smooth > _BLOW_UP_RATIO * lowest:
            break
    return read_trials(trials, count)


def read_trials(trials: Sequence[Trial], count: int) -> RangeTest:
    """Read good rates off the losses.

    A mean of what is past lags behind, and would find every rate too high; so the losses' means of the past and of the
    future are taken in turn, each of the other.

    Args:
        trials: the steps; the test ended early where there are fewer than `count`.
        count: the steps up to the highest rate.
    """
    rates = np.array([trial.rate for trial in trials])
    values = np.array([trial.loss for trial in trials])
    top = _CLIP_RATIO * float(values[0])
    values = np.where(np.isfinite(values), np.minimum(values, top), top)
    smooth = _mean_so_far(_mean_so_far(values)[::-1])[::-1]
    points = tuple(
        Trial(rate, trial.loss, float(value)) for rate, trial, value in zip(rates.tolist(), trials, smooth, strict=True)
    )
    first = round(_UNREAD_SHARE * count)
    bottom = int(np.argmin(smooth))
    back = np.flatnonzero(smooth[bottom:] >= smooth[: first + 1].mean())
    limit = None
    if len(back) or len(points) < count or not isfinite(trials[-1].loss):
        limit = float(rates[bottom + int(back[0]) if len(back) else -1]) / 10
    if bottom - first < 2:
        return RangeTest(points, None, None, limit)
    slopes = np.gradient(smooth, np.log(rates))[first:bottom]
    steepest = float(rates[first + int(np.argmin(slopes))])
    return RangeTest(points, steepest, float(rates[bottom]) / 10, limit)


def write_trials(path: Path, trials: Sequence[Trial]) -> None:
    """`lr.csv`: a line a step."""
    lines = [[f"{trial.rate:.6g}", f"{trial.loss:.6g}", f"{trial.smooth:.6g}"] for trial in trials]
    write_table(path, [["lr", "loss", "smooth_loss"], *lines])


def _count(session: Session, wanted: int) -> int:
    """Steps to take. Raises CnnError when there are too few."""
    if wanted < LEAST_STEPS:
        raise CnnError.of("value", f"{wanted} steps show no curve: at least {LEAST_STEPS} are wanted")
    examples, batch, accumulate = len(session.train), session.batch, session.net.recipe.accumulate
    count = min(wanted, _EPOCHS * session.steps // accumulate)
    if count < LEAST_STEPS:
        each = f"{batch}" if accumulate == 1 else f"{accumulate} times {batch}"
        fitting = _EPOCHS * examples // LEAST_STEPS // accumulate
        raise CnnError.of(
            "value",
            f"{_EPOCHS} epochs of {examples:,} examples are {count} steps of {each}, and at least {LEAST_STEPS} are"
            " wanted",
            help=f"smaller batches: --batch {fitting}" if fitting else "more examples",
        )
    return count


def _losses(session: Session, weights: Weights, count: int) -> Iterator[tuple[float, float]]:
    """Rate and loss of every step."""
    groups, parts = session.groups_of(1), session.net.recipe.accumulate
    take_step, state = session.compile_step(groups), session.first_state(weights, groups)
    with closing(prefetch(islice(_batches(session), count * parts))) as batches:
        for step in range(count):
            rate = exp(log(LOWEST) + (log(HIGHEST) - log(LOWEST)) * step / (count - 1))
            total = 0.0
            for part in range(1, parts + 1):
                inputs, targets = session.place(next(batches))
                state, measurement = take_step(state, inputs, targets, np.float32(rate), part == parts)
                total += float(measurement.total)
            yield rate, total / parts


def _batches(session: Session) -> Iterator[Batch]:
    for epoch in range(1, _EPOCHS + 1):
        yield from training_batches(session.train, session.batch, epoch)


def _require_start(step: int, count: int, rate: float, loss: float) -> None:
    """Raises CnnError when the loss is no number before any rate can have done that."""
    if isfinite(loss) or step > _UNREAD_SHARE * count:
        return
    raise CnnError.of(
        "diverged",
        f"the loss is {loss} in step {step} already, at a learning rate of {rate:.1g}",
        notes=["no rate does that: it is the data, the first weights or the precision"],
        help="look at the data with `cnnc data stats`, or compute with `--precision f32`",
    )


def _mean_so_far(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The exponential mean up to every value, corrected for starting at 0 (Kingma & Ba 2015, section 3)."""
    means = np.empty(len(values))
    mean = 0.0
    for i, value in enumerate(values):
        mean = _MEMORY * mean + (1 - _MEMORY) * float(value)
        means[i] = mean / (1 - _MEMORY ** (i + 1))
    return means
