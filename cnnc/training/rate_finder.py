"""A learning rate found by trying: it rises from step to step, and the loss tells where it helps and where it hurts.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3: the range test; its reading, the
steepest fall over the logarithm of the rate, is fastai's.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from math import exp, isfinite, log
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc import backends
from cnnc.data.feeding.batches import Batch, prefetch, step_count, training_batches
from cnnc.data.feeding.feed import Feed
from cnnc.diagnostics import CnnError
from cnnc.evaluation.evaluator import named_inputs
from cnnc.evaluation.output_losses import classified
from cnnc.files import write_atomically
from cnnc.net import Net, Weights
from cnnc.recipe import Recipe
from cnnc.training.layer_groups import learning_groups
from cnnc.training.preparation import Prepared

LOWEST: Final = 1e-7
HIGHEST: Final = 10.0
STEPS: Final = 100
LEAST_STEPS: Final = 20
"""With fewer steps the rate rises by more than 2.6 times from one to the next, and the curve says nothing."""
_EPOCHS: Final = 2
"""Passes over the data at most: later ones would show what the network has learnt by heart."""
_MEMORY: Final = 0.8
"""How much of the mean so far goes into the next."""
_BLOWN_UP: Final = 4.0
"""The loss is that many times its lowest when the test ends (fastai)."""
_CLIPPED: Final = 1.5
"""Losses count as that many times the first at most when the curve is read: beyond, the network has come apart."""
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
        limit: a tenth of that at which it was back where it began, or blew up.
    """

    tried: tuple[Tried, ...]
    steepest: float | None
    lowest: float | None
    limit: float | None


def find_rate(
    net: Net,
    recipe: Recipe,
    ready: Prepared,
    weights: Weights,
    *,
    steps: int = STEPS,
    told: Callable[[int, int], None] = lambda step, steps: None,
) -> Found:
    """Train for a few steps at rates that rise from `LOWEST` to `HIGHEST`, and read the losses.

    A step is an update: of several batches, where the recipe gathers them.

    Args:
        net: the network.
        recipe: how it trains: optimizer, augmentation, precision, batch.
        ready: its losses and its data.
        weights: the first ones.
        steps: as many as are wanted; there are fewer where two epochs have fewer.
        told: is called after every step with its number and how many there are.

    Raises:
        CnnError: `value` when the data has too few batches, `diverged` when the loss is no number from the start.
    """
    count = _count(ready.train, recipe, steps)
    tried: list[Tried] = []
    mean, lowest = 0.0, float("inf")
    for step, (rate, loss) in enumerate(_losses(net, recipe, ready, weights, count), 1):
        mean = _MEMORY * mean + (1 - _MEMORY) * loss
        smooth = mean / (1 - _MEMORY**step)
        _require_start(step, count, rate, loss)
        tried.append(Tried(rate, loss, smooth))
        told(step, count)
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
    top = _CLIPPED * float(values[0])
    values = np.where(np.isfinite(values), np.minimum(values, top), top)
    smooth = _mean_so_far(_mean_so_far(values)[::-1])[::-1]
    points = tuple(
        Tried(rate, each.loss, float(value)) for rate, each, value in zip(rates.tolist(), tried, smooth, strict=True)
    )
    first = round(_FIRST * count)
    bottom = int(np.argmin(smooth))
    back = np.flatnonzero(smooth[bottom:] >= smooth[: first + 1].mean())
    limit = None
    if len(back) or len(points) < count or not isfinite(tried[-1].loss):
        limit = float(rates[bottom + int(back[0]) if len(back) else -1]) / 10
    if bottom - first < 2:
        return Found(points, None, None, limit)
    slopes = np.gradient(smooth, np.log(rates))[first:bottom]
    steepest = float(rates[first + int(np.argmin(slopes))])
    return Found(points, steepest, float(rates[bottom]) / 10, limit)


def write_points(path: Path, tried: Sequence[Tried]) -> None:
    """`lr.csv`: a line a step."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["lr", "loss", "smooth_loss"])
    writer.writerows([f"{each.rate:.6g}", f"{each.loss:.6g}", f"{each.smooth:.6g}"] for each in tried)
    write_atomically(path, text.getvalue())


def _count(feed: Feed, recipe: Recipe, wanted: int) -> int:
    """Steps to take. Raises CnnError when there are too few."""
    if wanted < LEAST_STEPS:
        raise CnnError.of("value", f"{wanted} steps show no curve: at least {LEAST_STEPS} are wanted")
    batch = min(recipe.batch, len(feed))
    count = min(wanted, _EPOCHS * step_count(feed, batch) // recipe.accumulate)
    if count < LEAST_STEPS:
        each = f"{batch}" if recipe.accumulate == 1 else f"{recipe.accumulate} times {batch}"
        fitting = _EPOCHS * len(feed) // LEAST_STEPS // recipe.accumulate
        raise CnnError.of(
            "value",
            f"{_EPOCHS} epochs of {len(feed):,} examples are {count} steps of {each}, and at least {LEAST_STEPS} are"
            " wanted",
            help=f"smaller batches: --batch {fitting}" if fitting else "more examples",
        )
    return count


def _losses(net: Net, recipe: Recipe, ready: Prepared, weights: Weights, count: int) -> Iterator[tuple[float, float]]:
    """Rate and loss of every step."""
    backend = backends.load("jax", "training.step")
    known = classified(net, ready.losses, ready.train)
    aims = tuple(backend.Aim(loss, is_known) for loss, is_known in zip(ready.losses, known, strict=True))
    learning = [group.factors for group in learning_groups(net.graph, recipe) if group.epoch <= 1]
    take_step = backend.training_step(net.graph, recipe, aims, learning)
    state: Any = backends.load("jax", "training.state").first_state(net.graph, recipe, weights, learning)
    batch, parts = min(recipe.batch, len(ready.train)), recipe.accumulate
    with closing(prefetch(islice(_batches(ready.train, batch), count * parts))) as batches:
        for step in range(count):
            rate = exp(log(LOWEST) + (log(HIGHEST) - log(LOWEST)) * step / (count - 1))
            total = 0.0
            for part in range(1, parts + 1):
                item = next(batches)
                inputs = named_inputs(net.graph, item)
                state, measured = take_step(state, inputs, item.targets, np.float32(rate), part == parts)
                total += float(measured.total)
            yield rate, total / parts


def _batches(feed: Feed, batch: int) -> Iterator[Batch]:
    for epoch in range(1, _EPOCHS + 1):
        yield from training_batches(feed, batch, epoch)


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
