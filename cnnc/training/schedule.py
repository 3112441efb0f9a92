"""The learning rate over a training."""

from __future__ import annotations

from math import cos, pi

from cnnc.recipe import Constant, Cosine, Exponential, Linear, Schedule, Step


def learning_rate(schedule: Schedule, epoch: float, epochs: int) -> float:
    """The rate at a moment of a training.

    Args:
        schedule: as the train section states it.
        epoch: epochs gone by, with fractions: 0 at the first step, `epochs` after the last.
        epochs: how many there are in all.
    """
    if epoch < schedule.warmup:
        return schedule.peak * epoch / schedule.warmup
    gone, left = epoch - schedule.warmup, epochs - schedule.warmup
    share = min(gone / left, 1.0) if left > 0 else 1.0
    match schedule:
        case Constant():
            return schedule.peak
        case Step():
            return schedule.peak * schedule.factor ** sum(epoch >= at for at in schedule.at)
        case Cosine():
            return schedule.peak * (schedule.floor + (1 - schedule.floor) * (1 + cos(pi * share)) / 2)
        case Linear():
            return schedule.peak * (schedule.floor + (1 - schedule.floor) * (1 - share))
        case Exponential():
            return float(schedule.peak * schedule.factor ** (gone / schedule.every))
    raise AssertionError(schedule)
