"""What a training keeps on the disk as it goes, in an order that a kill at any moment leaves mendable.

The checkpoint comes first. All else, rows, curves and weights, follows from it: what a kill kept from being written is
written when the run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnc import backends
from cnnc.net import Weights
from cnnc.runs.checkpoint import Checkpoints, Saved
from cnnc.runs.events import Row
from cnnc.runs.folder import RunFolder, write_rows
from cnnc.runs.position import Position
from cnnc.training.plots import draw_curves
from cnnc.weights.weights_file import save_weights

REDRAW_SECONDS = 30.0
"""The curves are drawn that often while a training runs, and at its end."""


@dataclass
class Keeper:
    """Writes a run's files. `metadata` goes into every file of weights."""

    folder: RunFolder
    model: str
    metadata: Mapping[str, str]
    leads: bool = True
    """Whether this process writes what only one may write."""
    wait: Callable[[str], None] = lambda name: None
    """Holds all processes up for each other."""
    drawn: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)
    """When the last checkpoint was written."""

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder.checkpoints, self.leads)

    def begin(self, state: Any, weights: Weights, position: Position, saved: Saved | None) -> None:
        """Bring the folder to where the training is: a first checkpoint, or what was not written after the last."""
        if self.leads:
            self.checkpoints.clear()
        if saved is None:
            self.save(state, weights, position)
            return
        if self.leads and position.rows and position.is_between_epochs:
            self._write_epoch(weights, position)
        elif self.leads and position.rows:
            write_rows(self.folder, position.rows)

    def save(self, state: Any, weights: Weights, position: Position) -> None:
        """A checkpoint in the middle of an epoch, and the weights as they are."""
        self._checkpoint(state, position)
        if self.leads:
            self._write_weights(self.folder.last, weights, position.epoch - position.is_between_epochs)

    def end_epoch(self, state: Any, weights: Weights, position: Position) -> None:
        """A checkpoint, weights and rows after an epoch, and now and then the curves."""
        self._checkpoint(state, position)
        if self.leads:
            self._write_epoch(weights, position)
        if self.leads and time.monotonic() - self.drawn > REDRAW_SECONDS:
            self.draw(position)

    def keep_as_best(self, weights: Weights, row: Row) -> None:
        """Have these be the best weights, those of an epoch."""
        if self.leads:
            self._write_weights(self.folder.best, weights, row.epoch)

    def draw(self, position: Position) -> None:
        """Draw the curves."""
        if self.leads:
            draw_curves(self.folder.curves, self.model, position.rows)
        self.drawn = time.monotonic()

    def _checkpoint(self, state: Any, position: Position) -> None:
        self.checkpoints.save(position, backends.load("jax", "training.state_arrays").leaves_of(state), self.wait)
        self.saved = time.monotonic()

    def _write_epoch(self, weights: Weights, position: Position) -> None:
        epoch = position.rows[-1].epoch
        if position.best is position.rows[-1]:
            self._write_weights(self.folder.best, weights, epoch)
        self._write_weights(self.folder.last, weights, epoch)
        write_rows(self.folder, position.rows)

    def _write_weights(self, path: Path, weights: Weights, epoch: int) -> None:
        save_weights(path, weights, {**self.metadata, "epoch": str(epoch)})
