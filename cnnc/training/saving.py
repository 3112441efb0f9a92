"""The files that a training writes as it goes, in an order that a kill at any moment leaves mendable.

The checkpoint comes first. All else, rows, curves and weights, follows from it: what a kill kept from being written is
written when the run goes on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from cnnc.backends.protocols import TrainingState
from cnnc.net import Net, Weights
from cnnc.runs.checkpoint import Checkpoint, Checkpoints
from cnnc.runs.events import Row
from cnnc.runs.folder import RunFolder, write_rows
from cnnc.runs.position import Position
from cnnc.runs.processes import Cluster
from cnnc.runs.run_record import graph_hash
from cnnc.training.plots import draw_curves
from cnnc.weights.weights_file import save_weights

REDRAW_SECONDS: Final = 30.0
"""The curves are drawn that often while a training runs, and at its end."""


@dataclass
class RunWriter:
    """Writes a run's files. All processes call it, and the leader writes what only one may."""

    folder: RunFolder
    net: Net
    cluster: Cluster
    draw_time: float = field(default_factory=time.monotonic)
    checkpoint_time: float = field(default_factory=time.monotonic)
    """When the last one was written."""

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder.checkpoints, self.cluster.is_leader, self.cluster.barrier)

    def begin(self, state: TrainingState, position: Position, checkpoint: Checkpoint | None) -> None:
        """Bring the folder to where the training is: a first checkpoint, or what was not written after the last."""
        if self.cluster.is_leader:
            self.checkpoints.clear()
        if checkpoint is None:
            self.save(state, position)
        elif position.rows and position.is_between_epochs:
            self._write_epoch(state, position)
        elif position.rows and self.cluster.is_leader:
            write_rows(self.folder, position.rows)

    def save(self, state: TrainingState, position: Position) -> None:
        """Write a checkpoint in the middle of an epoch, and the weights as they are."""
        self._write_checkpoint(state, position)
        weights = self.weights_of(state)
        if self.cluster.is_leader:
            self._write_weights(self.folder.last, weights, position.epoch - position.is_between_epochs)

    def end_epoch(self, state: TrainingState, position: Position) -> None:
        """Write a checkpoint, weights and rows after an epoch, and now and then the curves."""
        self._write_checkpoint(state, position)
        self._write_epoch(state, position)
        if time.monotonic() - self.draw_time > REDRAW_SECONDS:
            self.draw(position)

    def write_best(self, weights: Weights, row: Row) -> None:
        """Have these be the best weights, those of an epoch."""
        if self.cluster.is_leader:
            self._write_weights(self.folder.best, weights, row.epoch)

    def draw(self, position: Position) -> None:
        """Draw the curves."""
        if self.cluster.is_leader:
            draw_curves(self.folder.curves, self.net.name, position.rows)
        self.draw_time = time.monotonic()

    def weights_of(self, state: TrainingState) -> Weights:
        """The weights that are evaluated and kept, as this process can read them."""
        return self.cluster.devices.whole(state.evaluation_weights)

    @cached_property
    def _metadata(self) -> dict[str, str]:
        """Of every file of weights."""
        return {"model": self.net.name, "graph_sha256": graph_hash(self.net.graph)}

    def _write_checkpoint(self, state: TrainingState, position: Position) -> None:
        self.checkpoints.save(position, state.arrays())
        self.checkpoint_time = time.monotonic()

    def _write_epoch(self, state: TrainingState, position: Position) -> None:
        weights, row = self.weights_of(state), position.rows[-1]
        if self.cluster.is_leader:
            if position.best is row:
                self._write_weights(self.folder.best, weights, row.epoch)
            self._write_weights(self.folder.last, weights, row.epoch)
            write_rows(self.folder, position.rows)

    def _write_weights(self, path: Path, weights: Weights, epoch: int) -> None:
        save_weights(path, weights, {**self._metadata, "epoch": str(epoch)})
