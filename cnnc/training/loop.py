"""The training loop: batches to steps, epochs to rows, and a position that all of it can be gone on from."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import numpy as np

from cnnc.backends.protocols import Array, Measurement, load_training
from cnnc.data.feeding.batches import Batch, prefetch, training_batches
from cnnc.diagnostics import CnnError
from cnnc.net import Weights
from cnnc.recipe import Recipe
from cnnc.runs.checkpoint import Checkpoint, lock
from cnnc.runs.events import EpochEnd, Message, Progress, Report, Row, TrainingStart
from cnnc.runs.folder import RunFolder
from cnnc.runs.interrupt import Stop, StopRequest, TrainingInterrupt, deferred_interrupt
from cnnc.runs.metrics import Scores
from cnnc.runs.position import Position
from cnnc.runs.processes import Vote
from cnnc.training.divergence import divergence_error, find_cause, list_examples
from cnnc.training.layer_groups import describe_unfreezing
from cnnc.training.learning_rate import learning_rate
from cnnc.training.saving import RunWriter
from cnnc.training.session import Session
from cnnc.weights.weights_file import load_weights

MOST_LEFT_OUT: Final = 50
"""Steps in a row that may be left out because their loss is no number."""


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A training's outcome. `weights` are those of the best epoch, `scores` its validation scores for every output."""

    folder: Path
    rows: tuple[Row, ...]
    best: Row
    scores: tuple[Scores, ...]
    weights: Weights


class _BestEpoch(NamedTuple):
    """The best epoch, by `cnnc.runs.position.merit`, and what the network was then."""

    row: Row
    scores: tuple[Scores, ...]
    weights: Weights


def fit(
    session: Session,
    folder: RunFolder,
    weights: Weights,
    report: Report,
    *,
    checkpoint: Checkpoint | None = None,
    save_seconds: float = 600.0,
) -> TrainingResult:
    """Train from `weights` on, or from a checkpoint; rows, curves, weights and a checkpoint follow every epoch.

    Raises:
        CnnError: of code `diverged` when the loss stops being a number and the recipe does not leave such steps out;
            whatever goes wrong, the checkpoint before it stays, and the error says how to go on.
        TrainingInterrupt: after a Ctrl-C or SIGTERM, once all is saved.
    """
    with lock(folder.path) if session.cluster.is_leader else nullcontext(), deferred_interrupt() as stop:
        training = _Training(session, folder, weights, checkpoint, save_seconds, report, stop)
        try:
            return training.run()
        except CnnError as error:
            note = f"the run is saved up to {training.last_saved.describe()}: cnnc train --resume {folder.path}"
            raise CnnError([replace(d, notes=(*d.notes, note)) for d in error.diagnostics]) from error
        except KeyboardInterrupt as error:
            # A second Ctrl-C: a step may be half done, and its state is not to be had. What is on the disk stays.
            if isinstance(error, TrainingInterrupt):
                raise
            raise TrainingInterrupt(folder.path, training.last_saved.describe()) from None


class _Training:
    """A training at a position. What it holds changes with every step; the checkpoints are of exactly that."""

    def __init__(
        self,
        session: Session,
        folder: RunFolder,
        weights: Weights,
        checkpoint: Checkpoint | None,
        save_seconds: float,
        report: Report,
        stop: Stop,
    ) -> None:
        self.session, self.folder, self.report, self.stop = session, folder, report, stop
        self.graph, self.recipe, self.save_seconds = session.net.graph, session.net.recipe, save_seconds
        self.devices, self.vote = session.cluster.devices, Vote(session.cluster)
        self.writer = RunWriter(folder, session.net, session.cluster)
        self.position = checkpoint.position if checkpoint else Position()
        self.best: _BestEpoch | None = None
        self.left_out_in_a_row = 0
        self.groups = session.groups_of(max(self.position.epoch - self.position.is_between_epochs, 1))
        self.take_step = session.compile_step(self.groups)
        # Several processes agree on when to stop at steps only.
        self.evaluate = session.evaluator(lambda: stop() and session.cluster.group is None)
        self.state = session.first_state(weights, self.groups)
        if checkpoint:
            self.state = self.state.replace_arrays(checkpoint.arrays(self.state.arrays()))
        self.writer.begin(self.state, self.position, checkpoint)
        self.last_saved = self.position

    @property
    def weights(self) -> Weights:
        """The weights that are evaluated and kept."""
        return self.writer.weights_of(self.state)

    def run(self) -> TrainingResult:
        session, position = self.session, self.position
        self.report(
            TrainingStart(
                self.folder.path,
                self.graph.name,
                self.graph.trainable_count,
                len(session.train),
                len(session.val),
                session.batch,
                session.steps,
                self.recipe.epochs,
                position.epoch,
                position.means.total_steps,
            )
        )
        while not is_over(self.recipe, self.position):
            self._unfreeze()
            self._take_steps()
            self._end_epoch()
        if self.position.epoch <= self.recipe.epochs:
            self.report(Message(f"stopped early: no better epoch in {self.recipe.patience}"))
        self.writer.draw(self.position)
        return TrainingResult(self.folder.path, self.position.rows, *(self.best or self._reload_best()))

    def _unfreeze(self) -> None:
        """Let those groups learn that begin with this epoch."""
        for group in self.session.groups[len(self.groups) :]:
            if group.epoch == self.position.epoch:
                self.report(Message(describe_unfreezing(self.graph, group)))
                self.groups.append(group)
                state = self.state.unfreeze(self.graph, self.recipe, group.factors)
                self.state = self.devices.place_state(self.graph, state)
                self.take_step = self.session.compile_step(self.groups)

    def _choose(self) -> int:
        """The vote of this process: 0 to go on, 1 to save, or the number of a signal to stop by."""
        if self.stop.by is not None:
            return self.stop.by
        return int(time.monotonic() - self.writer.checkpoint_time > self.save_seconds)

    def _take_steps(self) -> None:
        """Take the rest of an epoch's steps, some of which begin before the host looks at the first of them."""
        session, recipe, first, began = self.session, self.recipe, self.position, time.monotonic()
        ahead, waiting = load_training().steps_ahead(), deque[tuple[Batch, Measurement[Array]]]()

        def observe(most: int) -> None:
            while len(waiting) > most:
                batch, measurement = waiting.popleft()
                self._count(batch, measurement)
                self._report_progress(measurement, first, time.monotonic() - began)

        batches = training_batches(session.train, session.batch, first.epoch, start=first.means.total_steps)
        with closing(prefetch(batches)) as batches:
            for number, batch in enumerate(batches, first.means.total_steps + 1):
                rate = learning_rate(recipe.schedule, first.epoch - 1 + (number - 1) / session.steps, recipe.epochs)
                update = number % recipe.accumulate == 0 or number == session.steps
                inputs, targets = session.place(batch)
                self.state, measurement = self.take_step(self.state, inputs, targets, np.float32(rate), update)
                waiting.append((batch, measurement))
                observe(ahead)
                choice = self.vote.cast(self._choose())
                if choice:
                    observe(0)
                    self._save()
                if choice > 1:
                    self._interrupt(signal.Signals(choice))
            observe(0)

    def _report_progress(self, measurement: Measurement[Array], first: Position, seconds: float) -> None:
        """Say how far the epoch is, so many seconds after it went on from `first`."""
        self.position = replace(self.position, seconds=first.seconds + seconds)
        means, session = self.position.means, self.session
        speed = (means.total_steps - first.means.total_steps) * session.batch / seconds
        top1 = None if session.headline is None else means.top1
        loss, norm = float(measurement.total), float(measurement.norm)
        self.report(Progress(self.position.epoch, means.total_steps, means.loss, top1, speed, loss, norm))

    def _count(self, batch: Batch, measurement: Measurement[Array]) -> None:
        """Count a step that is done."""
        means, session = self.position.means, self.session
        loss, top1 = float(measurement.total), 0.0
        if session.headline is not None:
            top1 = float(np.asarray(measurement.top1)[session.headline])
        if bool(measurement.good):
            self.left_out_in_a_row = 0
            self.position = replace(self.position, means=means.add(loss, top1))
            return
        fault = f"{_fault(measurement)} in epoch {self.position.epoch}, step {means.total_steps + 1} of {session.steps}"
        self.left_out_in_a_row += 1
        if self.recipe.on_nan == "stop":
            raise self._halt(fault, batch)
        if self.left_out_in_a_row > MOST_LEFT_OUT:
            raise self._error(f"{fault}, as in the {MOST_LEFT_OUT} steps before")
        if not means.left_out:
            self.report(Message(f"{fault}: left out. {list_examples(self.folder.bad_batch, session, batch)}"))
        self.position = replace(self.position, means=means.skip())

    def _halt(self, fault: str, batch: Batch) -> CnnError:
        """Save the last good state, and say what went wrong after it."""
        self.state = self.state.rewind((self.position.epoch - 1) * self.session.steps + self.position.means.total_steps)
        self.state = self.devices.place_state(self.graph, self.state)
        self._save()
        cause = find_cause(self.session, self.groups, self.state, batch)
        examples = list_examples(self.folder.bad_batch, self.session, batch)
        return self._error(fault, notes=[cause, examples], can_skip=True)

    def _error(self, message: str, *, notes: Sequence[str] = (), can_skip: bool = False) -> CnnError:
        return divergence_error(message, self.recipe, self.folder.path, notes=notes, can_skip=can_skip)

    def _save(self) -> None:
        self.writer.save(self.state, self.position)
        self.last_saved = self.position
        self.vote.clear()

    def _interrupt(self, by: signal.Signals) -> NoReturn:
        raise TrainingInterrupt(self.folder.path, self.last_saved.describe(), by)

    def _end_epoch(self) -> None:
        """Measure the network, and keep what it came to."""
        began, before = time.monotonic(), self.position
        if not before.means.steps:
            raise self._error(f"no loss was a number in epoch {before.epoch}")
        try:
            scores = self.evaluate(self.weights, self.session.val)
        except StopRequest:
            self._save()
            assert self.stop.by is not None
            self._interrupt(self.stop.by)
        row = _row(self.session, before, before.seconds + time.monotonic() - began, scores)
        self._require_finite(row)
        if before.means.left_out:
            self.report(Message(f"epoch {row.epoch}: {before.means.left_out} of {self.session.steps} steps left out"))
        self.position = Position(row.epoch + 1, rows=(*before.rows, row))
        if self.position.best is row:
            self.best = _BestEpoch(row, scores, self.devices.fetch(self.state.evaluation_weights))
        self.writer.end_epoch(self.state, self.position)
        self.last_saved = self.position
        self.report(EpochEnd(row, self.position.best is row))

    def _require_finite(self, row: Row) -> None:
        fault = None if isfinite(row.val_loss) else f"the validation loss became {row.val_loss}"
        for node, arrays in self.weights.items():
            for short, array in arrays.items():
                if fault is None and not np.isfinite(np.asarray(array)).all():
                    fault = f"the weights `{node}.{short}` are no numbers"
        if fault is not None:
            raise self._error(f"{fault} after epoch {row.epoch}")

    def _reload_best(self) -> _BestEpoch:
        """The best epoch, where that was before the training was resumed: its weights are in their file.

        If that cannot be read any more, the last epoch stands in for it, in the file too.
        """
        row = self.position.best
        assert row is not None, self.recipe.epochs
        try:
            weights: Weights = load_weights(self.folder.best, self.graph)[0]
        except CnnError as error:
            lost, row = row.epoch, self.position.rows[-1]
            why = f"the weights of epoch {lost}, the best, are lost: {error.diagnostics[0].message}"
            self.report(Message(f"{why}; epoch {row.epoch} stands in for it"))
            weights = self.devices.fetch(self.state.evaluation_weights)
            self.writer.write_best(weights, row)
        return _BestEpoch(row, self.evaluate(weights, self.session.val), weights)


def _fault(measurement: Measurement[Array]) -> str:
    """The first of loss, gradients and statistics that is no number, in words."""
    if not isfinite(float(measurement.total)):
        return f"the loss became {float(measurement.total)}"
    if not isfinite(float(measurement.norm)):
        return "a gradient is no number"
    return "the statistics of a batch norm are no numbers"


def is_over(recipe: Recipe, position: Position) -> bool:
    """Whether a training has run all of its epochs, or as many without a better one as its patience allows."""
    best = position.best
    waited = (
        best is not None and recipe.patience is not None and position.rows[-1].epoch - best.epoch >= recipe.patience
    )
    return position.is_between_epochs and (position.epoch > recipe.epochs or waited)


def _row(session: Session, position: Position, seconds: float, scores: Sequence[Scores]) -> Row:
    recipe, epoch, means = session.net.recipe, position.epoch, position.means
    losses = [criterion.loss.weight * own.loss for criterion, own in zip(session.criteria, scores, strict=True)]
    row = Row(
        epoch,
        time=seconds,
        lr=learning_rate(recipe.schedule, epoch - 1 / session.steps, recipe.epochs),
        train_loss=means.loss,
        train_top1=None,
        val_loss=sum(losses),
        val_top1=None,
        val_top5=None,
    )
    if len(scores) > 1:
        labels = [label for label, _ in session.net.graph.outputs]
        row = replace(row, outputs=tuple((name, s.loss, s.top1) for name, s in zip(labels, scores, strict=True)))
    if session.headline is None:
        return row
    head = scores[session.headline]
    return replace(row, train_top1=means.top1, val_top1=head.top1, val_top5=head.top5)
