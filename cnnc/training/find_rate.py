"""A learning rate found by trying: it rises from step to step, and the loss tells where it helps and where it hurts.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3: the range test; its reading, the
steepest fall over the logarithm of the rate, is fastai's.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc import backends
from cnnc.data.batches import Batch, prefetch, step_count, training_batches
from cnnc.data.feed import Feed
from cnnc.diagnostics import CnnError
from cnnc.files import write_atomically
from cnnc.net import Net
from cnnc.recipe import Loss, Recipe
from cnnc.training.evaluation import Weights, named_inputs
from cnnc.training.learning import Group

LOWEST: Final = 1e-7
HIGHEST: Final = 10.0
STEPS: Final = 100
LEAST_STEPS: Final = 20
"""With fewer steps the rate rises by more than 2.6 times from one to the next, and the curve says nothing."""
_EPOCHS: Final = 2
"""Passes over the data at most: later ones would show what the network has learnt by heart."""
_MEMORY: Final = 0.9
"""How much of the mean so far goes into the next."""
_BLOWN_UP: Final = 4.0
"""The loss is that many times its lowest when the test ends (fastai)."""
_FIRST: Final = 0.1
"""The share of the steps at the start where the mean has too little to go by, and which are not read."""


@dataclass(frozen=True)
class Tried:
    """A step: its rate, its loss, and the losses' mean there."""

    rate: float
    loss: float
    smooth: float


@dataclass(frozen=True)
class Found:
    """What the test tells. All but the points are None where it does not.

    Attributes:
        tried: the steps, in the order of their rates.
        steepest: the rate at which the loss fell the fastest.
        lowest: a tenth of that at which it was the lowest.
        safe: a tenth of that at which it blew up.
    """

    tried: tuple[Tried, ...]
    steepest: float | None
    lowest: float | None
    safe: float | None


def find_rate(
    net: Net,
    recipe: Recipe,
    losses: Sequence[Loss],
    classified: Sequence[bool],
    feed: Feed,
    weights: Weights,
    groups: Sequence[Group],
    *,
    steps: int = STEPS,
    told: Callable[[int, int, Tried], None] = lambda step, steps, tried: None,
) -> Found:
    """Train for a few steps at rates that rise from `LOWEST` to `HIGHEST`, and read the losses.

    Args:
        net: the network.
        recipe: how it trains: optimizer, augmentation, precision, batch.
        losses: of its outputs, in order.
        classified: which of them have right and wrong answers.
        feed: the examples to train on.
        weights: the first ones.
        groups: what learns, as at a training's first epoch.
        steps: as many as are wanted; there are fewer where two epochs have fewer.
        told: is called after every step with its number, how many there are, and the step.

    Raises:
        CnnError: `value` when the data has too few batches, `diverged` when the loss is no number from the start.
    """
    batch = min(recipe.batch, len(feed))
    count = min(steps, _EPOCHS * step_count(feed, batch))
    if count < LEAST_STEPS:
        most = _EPOCHS * len(feed) // LEAST_STEPS
        raise CnnError.of(
            "value",
            f"{_EPOCHS} epochs of {len(feed):,} examples are {count} steps of {batch}, and the test wants {LEAST_STEPS}"
            if steps >= LEAST_STEPS
            else f"{steps} steps are too few to see a curve: {LEAST_STEPS} are wanted",
            help=(f"--batch {most}" if most >= 1 else "more examples") if steps >= LEAST_STEPS else None,
        )
    tried: list[Tried] = []
    mean, lowest = 0.0, float("inf")
    for step, (rate, loss) in enumerate(_losses(net, recipe, losses, classified, feed, weights, groups, count), 1):
        mean = _MEMORY * mean + (1 - _MEMORY) * loss
        smooth = mean / (1 - _MEMORY**step)
        _require_start(step, count, rate, loss)
        tried.append(Tried(rate, loss, smooth))
        told(step, count, tried[-1])
        lowest = min(lowest, smooth) if step > 1 else smooth
        if not isfinite(loss) or smooth > _BLOWN_UP * lowest:
            break
    return read(tried, count)


def read(tried: Sequence[Tried], count: int) -> Found:
    """What the losses tell.

    A mean of what is past lags behind, and would find every rate too high; so the losses' means of the past and of the
    future are taken in turn, each of the other.

    Args:
        tried: the steps; the test ended early where there are fewer than `count`.
        count: the steps up to the highest rate.
    """
    rates = np.array([each.rate for each in tried])
    values = np.array([each.loss for each in tried])
    top = _BLOWN_UP * float(values[0])
    # One loss of a million would be all that the means before it show.
    values = np.where(np.isfinite(values), np.minimum(values, top), top)
    smooth = _mean_so_far(_mean_so_far(values)[::-1])[::-1]
    points = tuple(
        Tried(rate, each.loss, float(value)) for rate, each, value in zip(rates.tolist(), tried, smooth, strict=True)
    )
    first = round(_FIRST * count)
    bottom = int(np.argmin(smooth))
    safe = points[-1].rate / 10 if len(points) < count or not isfinite(tried[-1].loss) else None
    if bottom - first < 2:
        return Found(points, None, None, safe)
    slopes = np.gradient(smooth, np.log(rates))[first:bottom]
    steepest = float(rates[first + int(np.argmin(slopes))])
    return Found(points, steepest, float(rates[bottom]) / 10, safe)


def write_points(path: Path, tried: Sequence[Tried]) -> None:
    """`lr.csv`: a line a step."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["lr", "loss", "smooth_loss"])
    writer.writerows([f"{each.rate:.6g}", f"{each.loss:.6g}", f"{each.smooth:.6g}"] for each in tried)
    write_atomically(path, text.getvalue())


def _losses(
    net: Net,
    recipe: Recipe,
    losses: Sequence[Loss],
    classified: Sequence[bool],
    feed: Feed,
    weights: Weights,
    groups: Sequence[Group],
    count: int,
) -> Iterator[tuple[float, float]]:
    """Rate and loss of every step."""
    backend = backends.load("jax", "step")
    aims = tuple(backend.Aim(loss, known) for loss, known in zip(losses, classified, strict=True))
    learning = [group.factors for group in groups if group.epoch <= 1]
    take_step = backend.training_step(net.graph, recipe, aims, learning)
    state: Any = backend.first_state(net.graph, recipe, weights, learning)
    batches = prefetch(_batches(feed, min(recipe.batch, len(feed)), count))
    for step, batch in enumerate(batches):
        rate = exp(log(LOWEST) + (log(HIGHEST) - log(LOWEST)) * step / (count - 1))
        state, measured = take_step(state, named_inputs(net.graph, batch), batch.targets, np.float32(rate))
        yield rate, float(measured.total)


def _batches(feed: Feed, batch: int, count: int) -> Iterator[Batch]:
    for epoch in range(1, _EPOCHS + 1):
        for item in training_batches(feed, batch, epoch):
            if count == 0:
                return
            count -= 1
            yield item


def _require_start(step: int, count: int, rate: float, loss: float) -> None:
    """Raises CnnError when the loss is no number before any rate can have done that."""
    if isfinite(loss) or step > _FIRST * count:
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
    for place, value in enumerate(values):
        mean = _MEMORY * mean + (1 - _MEMORY) * float(value)
        means[place] = mean / (1 - _MEMORY ** (place + 1))
    return means
