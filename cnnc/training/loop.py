"""The training loop: batches to steps, epochs to rows, and a position that all of it can be gone on from."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, TypeVar

import numpy as np

from cnnc import backends
from cnnc.data.feeding.batches import Batch, prefetch, step_count, training_batches
from cnnc.data.feeding.feed import Feed
from cnnc.diagnostics import CnnError
from cnnc.evaluation.evaluator import Evaluate, evaluator, named_inputs
from cnnc.net import Net, Weights
from cnnc.recipe import Loss, Recipe
from cnnc.runs.checkpoint import Saved, locked
from cnnc.runs.events import EpochEnded, Progress, Report, Row, Said, Started
from cnnc.runs.folder import RunFolder
from cnnc.runs.interrupt import Interrupted, Stop, StopRequested, deferred_interrupt
from cnnc.runs.metrics import Scores
from cnnc.runs.position import Position
from cnnc.runs.processes import Team, Wishes
from cnnc.training.divergence import NO_CAUSE, diverged, find_cause, list_examples
from cnnc.training.layer_groups import Group, thaw_in_words
from cnnc.training.learning_rate import learning_rate
from cnnc.training.saving import Keeper
from cnnc.weights.weights_file import load_weights

Tree = TypeVar("Tree")
MOST_LEFT_OUT = 50
"""Steps in a row that may be left out because their loss is no number."""


@dataclass(frozen=True)
class Plan:
    """All that a training follows. `metadata` goes into every file of weights, `save_every` is in seconds."""

    net: Net
    recipe: Recipe
    losses: tuple[Loss, ...]
    classified: tuple[bool, ...]
    train: Feed
    val: Feed
    folder: RunFolder
    metadata: Mapping[str, str]
    groups: tuple[Group, ...]
    team: Team
    save_every: float = 600.0

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


def fit(plan: Plan, weights: Weights, report: Report, saved: Saved | None = None) -> Fitted:
    """Train from `weights` on, or from a checkpoint; rows, curves, weights and a checkpoint follow every epoch.

    Raises:
        CnnError: of code `diverged` when the loss stops being a number and the recipe does not leave such steps out;
            whatever goes wrong, the checkpoint before it stays, and the error says how to go on.
        Interrupted: after a Ctrl-C or SIGTERM, once all is saved.
    """
    with locked(plan.folder.path) if plan.team.leads else nullcontext(), deferred_interrupt() as stop:
        training = _Training(plan, weights, report, saved, stop)
        try:
            return training.run()
        except CnnError as error:
            saved_up_to = f"the run is saved up to {training.saved.in_words()}: cnnc train --resume {plan.folder.path}"
            raise CnnError([replace(d, notes=(*d.notes, saved_up_to)) for d in error.diagnostics]) from error
        except KeyboardInterrupt as error:
            # A second Ctrl-C: a step may be half done, and its state is not to be had. What is on the disk stays.
            if isinstance(error, Interrupted):
                raise
            raise Interrupted(plan.folder.path, training.saved.in_words()) from None


class _Training:
    """A training at a position. What it holds changes with every step; the checkpoints are of exactly that."""

    def __init__(self, plan: Plan, weights: Weights, report: Report, saved: Saved | None, stop: Stop) -> None:
        self.plan, self.report, self.stop = plan, report, stop
        self.graph, self.recipe = plan.net.graph, plan.recipe
        self.backend, self.states = backends.load("jax", "training.step"), backends.load("jax", "training.state")
        self.aims = tuple(
            self.backend.Aim(loss, known) for loss, known in zip(plan.losses, plan.classified, strict=True)
        )
        self.devices, self.wishes = plan.team.devices, Wishes(plan.team)
        self.keeper = Keeper(plan.folder, self.graph.name, plan.metadata, plan.team.leads, plan.team.wait)
        self.position = saved.position if saved else Position()
        self.best: Best | None = None
        self.left_out_in_a_row = 0
        begun = self.position.epoch - self.position.is_between_epochs
        self.learning = [group for group in plan.groups if group.epoch <= max(begun, 1)]
        self.take_step = self._compiled()
        self.state = self._placed(self.states.first_state(self.graph, self.recipe, weights, self._factors))
        if saved:
            leaves = backends.load("jax", "training.state_arrays")
            self.state = leaves.with_leaves(self.state, saved.arrays(leaves.leaves_of(self.state)))
        self.keeper.begin(self.state, self.weights, self.position, saved)
        self.saved = self.position
        """The position of the last checkpoint."""

    @property
    def weights(self) -> Weights:
        """What is evaluated and kept."""
        found: Weights = self.devices.whole(self.states.averaged_of(self.state))
        return found

    @property
    def _factors(self) -> list[Mapping[str, float]]:
        return [group.factors for group in self.learning]

    def run(self) -> Fitted:
        plan, graph = self.plan, self.graph
        self.report(
            Started(
                plan.folder.path,
                graph.name,
                graph.trainable_count,
                len(plan.train),
                len(plan.val),
                plan.batch,
                plan.steps,
                self.recipe.epochs,
                self.position.epoch,
                self.position.means.done,
            )
        )
        evaluate = evaluator(
            graph,
            self.recipe,
            plan.losses,
            plan.classified,
            plan.batch,
            # Several processes agree on when to stop at steps only.
            should_stop=lambda: self.stop() and plan.team.group is None,
            devices=self.devices,
        )
        while not is_over(self.recipe, self.position):
            self._thaw()
            self._take_steps()
            self._end_epoch(evaluate)
        if self.position.epoch <= self.recipe.epochs:
            self.report(Said(f"stopped early: no better epoch in {self.recipe.patience}"))
        self.keeper.draw(self.position)
        rows = self.position.rows
        return Fitted(rows, self.best or self._best_of_before(evaluate), on_host(self.weights))

    def _thaw(self) -> None:
        """Let those groups learn that begin with this epoch."""
        for group in self.plan.groups[len(self.learning) :]:
            if group.epoch == self.position.epoch:
                self.report(Said(thaw_in_words(self.graph, group)))
                self.learning.append(group)
                self.state = self._placed(self.states.thawed(self.state, self.graph, self.recipe, group.factors))
                self.take_step = self._compiled()

    def _compiled(self) -> Any:
        return self.backend.training_step(self.graph, self.recipe, self.aims, self._factors, devices=self.devices)

    def _placed(self, state: Any) -> Any:
        return self.devices.place_state(self.graph, state)

    def _wish(self) -> int:
        """What this process would do now: nothing, save, or stop by a signal, whose number it is."""
        if self.stop.by is not None:
            return self.stop.by
        return int(time.monotonic() - self.keeper.saved > self.plan.save_every)

    def _take_steps(self) -> None:
        """The rest of an epoch's steps."""
        plan, recipe, epoch = self.plan, self.recipe, self.position.epoch
        began, first = time.monotonic(), self.position
        waiting, ahead = deque[tuple[Batch, Any]](), backends.load("jax", "xla.compile").steps_ahead()

        def look() -> None:
            batch, measured = waiting.popleft()
            self._look(batch, measured)
            means = self.position.means
            elapsed = time.monotonic() - began
            self.position = replace(self.position, seconds=first.seconds + elapsed)
            speed = (means.done - first.means.done) * plan.batch / elapsed
            top1 = None if plan.headline is None else means.top1
            own_loss, norm = float(measured.total), float(measured.norm)
            self.report(Progress(epoch, means.done, means.loss, top1, speed, own_loss, norm))

        batches = prefetch(training_batches(plan.train, plan.batch, epoch, start=first.means.done))
        with closing(batches):
            for number, batch in enumerate(batches, first.means.done + 1):
                rate = learning_rate(recipe.schedule, epoch - 1 + (number - 1) / plan.steps, recipe.epochs)
                update = number % recipe.accumulate == 0 or number == plan.steps
                inputs, targets = self.devices.place_batch((named_inputs(self.graph, batch), batch.targets))
                self.state, measured = self.take_step(self.state, inputs, targets, np.float32(rate), update)
                waiting.append((batch, measured))
                if len(waiting) > ahead:
                    look()
                wish = self.wishes(self._wish())
                if wish:
                    while waiting:
                        look()
                    self._save()
                if wish > 1:
                    self._interrupt(signal.Signals(wish))
            while waiting:
                look()

    def _look(self, batch: Batch, measured: Any) -> None:
        """Count a step that is done."""
        means = self.position.means
        loss, top1 = float(measured.total), 0.0
        if self.plan.headline is not None:
            top1 = float(np.asarray(measured.top1)[self.plan.headline])
        if bool(measured.good):
            self.left_out_in_a_row = 0
            self.position = replace(self.position, means=means.after(loss, top1))
            return
        where = f"epoch {self.position.epoch}, step {means.done + 1} of {self.plan.steps}"
        fault = f"the loss became {loss} in {where}" if not isfinite(loss) else f"a gradient is no number in {where}"
        self.left_out_in_a_row += 1
        if self.recipe.on_nan == "stop" or self.left_out_in_a_row > MOST_LEFT_OUT:
            raise self._diverged(fault, batch)
        if not means.left_out:
            self.report(Said(f"{fault}: left out. {self._examples(batch)}"))
        self.position = replace(self.position, means=means.without())

    def _diverged(self, fault: str, batch: Batch) -> CnnError:
        """Save the last good state, and say what went wrong after it."""
        if self.recipe.on_nan == "skip":
            return diverged(
                f"{fault}, as in the {MOST_LEFT_OUT} steps before", self.recipe, self.plan.folder.path, notes=[]
            )
        done = (self.position.epoch - 1) * self.plan.steps + self.position.means.done
        self.state = self._placed(self.states.resumable(self.state, done))
        self._save()
        found = find_cause(
            self.graph,
            self.recipe,
            self.aims,
            self._factors,
            self.state if self.devices.mesh is None else on_host(self.devices.whole(self.state)),
            named_inputs(self.graph, batch),
            batch.targets,
        )
        notes = [
            next((cause for cause in self.plan.team.gather(found) if cause != NO_CAUSE), NO_CAUSE),
            self._examples(batch),
        ]
        return diverged(fault, self.recipe, self.plan.folder.path, notes=notes, can_skip=True)

    def _examples(self, batch: Batch) -> str:
        return list_examples(self.plan.folder.bad_batch, self.plan.train, batch, self.plan.team)

    def _save(self) -> None:
        self.keeper.save(self.state, self.weights, self.position)
        self.saved = self.position
        self.wishes.fulfilled()

    def _interrupt(self, by: signal.Signals) -> None:
        raise Interrupted(self.plan.folder.path, self.saved.in_words(), by)

    def _end_epoch(self, evaluate: Evaluate) -> None:
        """Measure the network, and keep what it came to."""
        began, before = time.monotonic(), self.position
        if not before.means.steps:
            raise diverged(
                f"no loss was a number in epoch {before.epoch}", self.recipe, self.plan.folder.path, notes=[]
            )
        try:
            scores = evaluate(self.weights, self.plan.val)
        except StopRequested:
            self._save()
            assert self.stop.by is not None
            self._interrupt(self.stop.by)
        row = _row(self.plan, before, before.seconds + time.monotonic() - began, scores)
        self._require_finite(row)
        if before.means.left_out:
            self.report(Said(f"epoch {row.epoch}: {before.means.left_out} of {self.plan.steps} steps left out"))
        self.position = Position(row.epoch + 1, rows=(*before.rows, row))
        if self.position.best is row:
            self.best = Best(row, scores, on_host(self.weights))
        self.keeper.end_epoch(self.state, self.weights, self.position)
        self.saved = self.position
        self.report(EpochEnded(row, self.position.best is row))

    def _require_finite(self, row: Row) -> None:
        fault = None if isfinite(row.val_loss) else f"the validation loss became {row.val_loss}"
        for node, arrays in self.weights.items():
            for short, array in arrays.items():
                if fault is None and not np.isfinite(np.asarray(array)).all():
                    fault = f"the weights `{node}.{short}` are no numbers"
        if fault is not None:
            raise diverged(f"{fault} after epoch {row.epoch}", self.recipe, self.plan.folder.path, notes=[])

    def _best_of_before(self, evaluate: Evaluate) -> Best:
        """The best epoch, where that was before the training was resumed: its weights are in their file.

        If that cannot be read any more, the last epoch stands in for it, in the file too.
        """
        row = self.position.best
        assert row is not None, self.recipe.epochs
        try:
            weights: Weights = load_weights(self.plan.folder.best, self.graph)[0]
        except CnnError as error:
            lost, row = row.epoch, self.position.rows[-1]
            why = f"the weights of epoch {lost}, the best, are lost: {error.diagnostics[0].message}"
            self.report(Said(f"{why}; epoch {row.epoch} stands in for it"))
            weights = on_host(self.weights)
            self.keeper.keep_as_best(weights, row)
        return Best(row, evaluate(weights, self.plan.val), weights)


def is_over(recipe: Recipe, position: Position) -> bool:
    """Whether a training has run all of its epochs, or as many without a better one as its patience allows."""
    best = position.best
    waited = (
        best is not None and recipe.patience is not None and position.rows[-1].epoch - best.epoch >= recipe.patience
    )
    return position.is_between_epochs and (position.epoch > recipe.epochs or waited)


def on_host(tree: Tree) -> Tree:
    """A copy that outlives the step that the device's arrays are given to."""
    copied: Tree = backends.load("jax", "training.state_arrays").on_host(tree)
    return copied


def _row(plan: Plan, position: Position, seconds: float, scores: Sequence[Scores]) -> Row:
    epoch, means = position.epoch, position.means
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
