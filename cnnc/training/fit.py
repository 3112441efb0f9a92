"""The training loop: batches to steps, epochs to rows, weights and pictures to the run's folder."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np

from cnnc import backends
from cnnc.data.batches import prefetch, step_count, training_batches
from cnnc.data.feed import Feed
from cnnc.diagnostics import CnnError
from cnnc.net import Net
from cnnc.recipe import Loss, Recipe
from cnnc.training.evaluation import Weights, evaluator, named_inputs
from cnnc.training.events import EpochEnded, Progress, Report, Row, Said, Started
from cnnc.training.folder import RunFolder, write_rows
from cnnc.training.interrupt import Interrupted, StopRequested, deferred_interrupt
from cnnc.training.learning import Group, thaw_in_words
from cnnc.training.metrics import Scores
from cnnc.training.plots import draw_curves
from cnnc.training.schedule import learning_rate
from cnnc.weights.checkpoint import save_weights

LAG = 8
"""Steps that may run before the host looks at the loss of the first of them, so that it never waits for a step."""
REDRAW_SECONDS = 30.0
"""The curves are drawn that often while a training runs, and at its end."""


@dataclass(frozen=True)
class Plan:
    """All that a training follows. `metadata` goes into every file of weights."""

    net: Net
    recipe: Recipe
    losses: tuple[Loss, ...]
    classified: tuple[bool, ...]
    train: Feed
    val: Feed
    folder: RunFolder
    metadata: Mapping[str, str]
    groups: tuple[Group, ...]

    @property
    def batch(self) -> int:
        """The recipe's, or the whole set where that is smaller."""
        return min(self.recipe.batch, len(self.train))

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return step_count(self.train, self.batch)

    @property
    def headline(self) -> int | None:
        """The place of the output whose right answers are reported: the first that has any."""
        return next((i for i, known in enumerate(self.classified) if known), None)


@dataclass(frozen=True, eq=False)
class Best:
    """The epoch with the highest top-1, or without classes the lowest loss, and what the network was then."""

    row: Row
    scores: tuple[Scores, ...]
    weights: Weights


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a training came to: a row an epoch, the best epoch, and the weights at the end."""

    rows: tuple[Row, ...]
    best: Best
    weights: Weights


@dataclass(frozen=True)
class _Means:
    """Means over the steps of an epoch so far."""

    loss: float = 0.0
    top1: float = 0.0
    steps: int = 0

    def after(self, loss: float, top1: float) -> _Means:
        count = self.steps + 1
        return _Means(self.loss + (loss - self.loss) / count, self.top1 + (top1 - self.top1) / count, count)


def fit(plan: Plan, weights: Weights, report: Report) -> Fitted:
    """Train from `weights` on, and leave rows, curves and weights in the folder after every epoch.

    Raises:
        CnnError: of code `diverged` when the loss stops being a number; the weights of the last good epoch stay.
        Interrupted: after a Ctrl-C, once the weights are saved.
    """
    backend = backends.load("jax", "step")
    graph, recipe = plan.net.graph, plan.recipe
    report(
        Started(
            plan.folder.path,
            graph.name,
            graph.trainable_count,
            len(plan.train),
            len(plan.val),
            plan.batch,
            plan.steps,
            recipe.epochs,
        )
    )
    aims = tuple(backend.Aim(loss, known) for loss, known in zip(plan.losses, plan.classified, strict=True))
    learning = [group for group in plan.groups if group.epoch <= 1]
    take_step = backend.training_step(graph, recipe, aims, [group.factors for group in learning])
    state = backend.first_state(graph, recipe, weights, [group.factors for group in learning])
    _save(plan, "last", weights, 0)
    rows: list[Row] = []
    best: Best | None = None
    drawn = time.monotonic()
    with deferred_interrupt() as stopped:
        evaluate = evaluator(graph, recipe, plan.losses, plan.classified, plan.batch, should_stop=stopped)
        for epoch in range(1, recipe.epochs + 1):
            began = time.monotonic()
            for group in plan.groups[len(learning) :]:
                if group.epoch == epoch:
                    report(Said(thaw_in_words(graph, group)))
                    learning.append(group)
                    state = backend.thawed(state, graph, recipe, group.factors)
                    take_step = backend.training_step(graph, recipe, aims, [each.factors for each in learning])
            try:
                state, means = _epoch(plan, take_step, state, epoch, stopped, report)
                weights = backend.weights_of(state)
                if stopped():
                    raise StopRequested
                scores = evaluate(weights, plan.val)
            except StopRequested:
                _save(plan, "last", weights, epoch)
                raise Interrupted(plan.folder.last, epoch) from None
            except KeyboardInterrupt:
                # The second: a step may be half done, and its weights are not to be had. Those on disk stay.
                raise Interrupted(plan.folder.last, epoch) from None
            row = _row(plan, epoch, time.monotonic() - began, means, scores)
            _require_finite(plan, row, weights)
            rows.append(row)
            _save(plan, "last", weights, epoch)
            is_best = best is None or _merit(row) > _merit(best.row)
            if best is None or is_best:
                best = Best(row, scores, _on_host(weights))
                _save(plan, "best", weights, epoch)
            write_rows(plan.folder, rows)
            if time.monotonic() - drawn > REDRAW_SECONDS:
                draw_curves(plan.folder.curves, graph.name, rows)
                drawn = time.monotonic()
            report(EpochEnded(row, is_best))
    assert best is not None, recipe.epochs
    draw_curves(plan.folder.curves, graph.name, rows)
    return Fitted(tuple(rows), best, _on_host(weights))


def _epoch(
    plan: Plan, take_step: Any, state: Any, epoch: int, stopped: Callable[[], bool], report: Report
) -> tuple[Any, _Means]:
    """The state after an epoch's steps, or those until the user stops it, and the means over them."""
    means, waiting = _Means(), deque[Any]()
    began = time.monotonic()

    def look(means: _Means) -> _Means:
        measured = waiting.popleft()
        loss = float(measured.total)
        if not isfinite(loss):
            raise _diverged(
                plan, f"the loss became {loss} in epoch {epoch}, step {means.steps + 1} of {plan.steps}", epoch
            )
        top1 = None if plan.headline is None else float(np.asarray(measured.top1)[plan.headline])
        means = means.after(loss, top1 or 0.0)
        speed = means.steps * plan.batch / (time.monotonic() - began)
        report(Progress(epoch, means.steps, means.loss, None if top1 is None else means.top1, speed))
        return means

    for number, batch in enumerate(prefetch(training_batches(plan.train, plan.batch, epoch))):
        rate = learning_rate(plan.recipe.schedule, epoch - 1 + number / plan.steps, plan.recipe.epochs)
        state, measured = take_step(state, named_inputs(plan.net.graph, batch), batch.targets, np.float32(rate))
        waiting.append(measured)
        if len(waiting) > LAG:
            means = look(means)
        if stopped():
            break
    while waiting:
        means = look(means)
    return state, means


def _row(plan: Plan, epoch: int, seconds: float, means: _Means, scores: tuple[Scores, ...]) -> Row:
    total = sum(loss.weight * own.loss for loss, own in zip(plan.losses, scores, strict=True))
    row = Row(
        epoch,
        time=seconds,
        lr=learning_rate(plan.recipe.schedule, epoch - 1 / plan.steps, plan.recipe.epochs),
        train_loss=means.loss,
        train_top1=None,
        val_loss=total,
        val_top1=None,
        val_top5=None,
    )
    if len(scores) > 1:
        labels = [label for label, _ in plan.net.graph.outputs]
        row = replace(row, outputs=tuple((name, s.loss, s.top1) for name, s in zip(labels, scores, strict=True)))
    if plan.headline is None:
        return row
    head = scores[plan.headline]
    return replace(row, train_top1=means.top1, val_top1=head.top1, val_top5=head.top5)


def _merit(row: Row) -> tuple[float, float]:
    return (row.val_top1 or 0.0, -row.val_loss)


def _require_finite(plan: Plan, row: Row, weights: Weights) -> None:
    if not isfinite(row.val_loss):
        raise _diverged(plan, f"the validation loss became {row.val_loss} after epoch {row.epoch}", row.epoch)
    for node, arrays in weights.items():
        for short, array in arrays.items():
            if not np.isfinite(np.asarray(array)).all():
                raise _diverged(plan, f"the weights `{node}.{short}` are no numbers after epoch {row.epoch}", row.epoch)


def _diverged(plan: Plan, message: str, epoch: int) -> CnnError:
    peak = plan.recipe.schedule.peak
    kept = "the first weights" if epoch == 1 else f"the weights of epoch {epoch - 1}"
    return CnnError.of(
        "diverged",
        message,
        notes=[f"{kept} are in {plan.folder.last}"],
        help=f"lower the learning rate, which peaks at {peak:g}: --lr {peak / 10:g}",
    )


def _save(plan: Plan, which: str, weights: Weights, epoch: int) -> None:
    path = plan.folder.best if which == "best" else plan.folder.last
    save_weights(path, weights, {**plan.metadata, "epoch": str(epoch)})


def _on_host(weights: Weights) -> Weights:
    """A copy that outlives the step that the device's arrays are given to."""
    return {node: {short: np.array(array) for short, array in arrays.items()} for node, arrays in weights.items()}
