"""How far a training is, exactly: what goes into a checkpoint beside the arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

from cnnc.runs.events import Row


@dataclass(frozen=True)
class Means:
    """Means over the steps of an epoch so far; a step whose loss was no number counts in `left_out` alone."""

    loss: float = 0.0
    top1: float = 0.0
    steps: int = 0
    left_out: int = 0

    def add(self, loss: float, top1: float) -> Means:
        """The means with one step more."""
        count = self.steps + 1
        return replace(
            self,
            loss=self.loss + (loss - self.loss) / count,
            top1=self.top1 + (top1 - self.top1) / count,
            steps=count,
        )

    def skip(self) -> Means:
        """The means with one step more that does not count."""
        return replace(self, left_out=self.left_out + 1)

    @property
    def total_steps(self) -> int:
        """Steps that were taken, whether they count or not."""
        return self.steps + self.left_out


@dataclass(frozen=True)
class Position:
    """Where a training goes on: in `epoch`, counted from 1, after `means.total_steps` of its steps.

    `seconds` were spent on that epoch so far, and `rows` are the epochs before it.
    """

    epoch: int = 1
    means: Means = Means()
    seconds: float = 0.0
    rows: tuple[Row, ...] = ()

    @property
    def best(self) -> Row | None:
        """The best epoch so far, by `merit`; of equal ones the first."""
        return max(self.rows, key=merit, default=None)

    @property
    def is_between_epochs(self) -> bool:
        """Whether nothing of `epoch` is done yet."""
        return not self.means.total_steps

    def describe(self) -> str:
        """`epoch 3, step 12`, the last that is done; `epoch 2` where it is whole."""
        if self == Position():
            return "its start"
        if self.is_between_epochs:
            return f"epoch {self.epoch - 1}"
        return f"epoch {self.epoch}, step {self.means.total_steps}"

    def to_json(self) -> dict[str, Any]:
        """As JSON has it; floats come back bit for bit."""
        return asdict(self)

    @classmethod
    def from_json(cls, words: Mapping[str, Any]) -> Position:
        """Raises KeyError, TypeError or ValueError for anything else."""
        rows = tuple(
            Row(**{**row, "outputs": tuple((str(name), *figures) for name, *figures in row["outputs"])})
            for row in words["rows"]
        )
        position = cls(int(words["epoch"]), Means(**words["means"]), float(words["seconds"]), rows)
        if [row.epoch for row in rows] != list(range(1, position.epoch)) or not isfinite(position.seconds):
            raise ValueError(words)
        return position


def merit(row: Row) -> tuple[float, float]:
    """The rank of an epoch, the greater, the better: its top-1; of equal ones, or without classes, the lower loss."""
    return (row.val_top1 or 0.0, -row.val_loss)
