"""Losses, accuracies and confusions, exact over every example of a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Outcome:
    """Loss, rank of the true class, true and predicted class of every example at one output; else the loss alone."""

    losses: NDArray[np.float32]
    ranks: NDArray[np.int32] | None
    truth: NDArray[np.int32] | None
    predicted: NDArray[np.int32] | None


@dataclass(frozen=True, eq=False)
class Scores:
    """The figures of one output.

    `confusion[true, predicted]` counts examples. `top5` is None where fewer than six classes make it meaningless.
    """

    count: int
    loss: float
    top1: float | None = None
    top5: float | None = None
    confusion: NDArray[np.int64] | None = None

    @property
    def recall(self) -> NDArray[np.float64]:
        """For every class the share of its examples that were found; nan for a class without examples."""
        assert self.confusion is not None
        return _share(np.diag(self.confusion), self.confusion.sum(axis=1))

    @property
    def precision(self) -> NDArray[np.float64]:
        """For every class the share of what was taken for it that was it; nan if nothing was."""
        assert self.confusion is not None
        return _share(np.diag(self.confusion), self.confusion.sum(axis=0))


def score(outcome: Outcome, classes: int) -> Scores:
    """The figures of an outcome over all its examples and, in a map of classes, all its places."""
    loss = float(outcome.losses.mean(dtype=np.float64))
    count = len(outcome.losses)
    if outcome.ranks is None or outcome.truth is None or outcome.predicted is None:
        return Scores(count, loss)
    top5 = float((outcome.ranks < 5).mean()) if classes > 5 else None
    pairs = outcome.truth.reshape(-1).astype(np.int64) * classes + outcome.predicted.reshape(-1)
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return Scores(count, loss, float((outcome.ranks == 0).mean()), top5, confusion)


def gather(parts: Sequence[Outcome]) -> Outcome:
    """The outcome of all batches together."""
    assert parts

    def joined(field: str) -> NDArray[np.int32] | None:
        arrays = [getattr(part, field) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    return Outcome(np.concatenate([p.losses for p in parts]), joined("ranks"), joined("truth"), joined("predicted"))


def _share(hits: NDArray[np.int64], of: NDArray[np.int64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(hits / of, np.float64)
