"""The learning rate over a training."""

from __future__ import annotations

from math import cos, pi

from cnnc.recipe import Constant, Cosine, Exponential, Linear, OneCycle, Schedule, Step, Warmed


def learning_rate(schedule: Schedule, epoch: float, epochs: int) -> float:
    """The rate at a moment of a training.

    Args:
        schedule: as the train section states it.
        epoch: epochs gone by, with fractions: 0 at the first step, `epochs` after the last.
        epochs: how many there are in all.
    """
    if isinstance(schedule, OneCycle):
        return _one_cycle(schedule, min(epoch / epochs, 1.0))
    assert isinstance(schedule, Warmed), schedule
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
            return schedule.peak * _half_cosine(1.0, schedule.floor, share)
        case Linear():
            return schedule.peak * (schedule.floor + (1 - schedule.floor) * (1 - share))
        case Exponential():
            return float(schedule.peak * schedule.factor ** (gone / schedule.every))
    raise AssertionError(schedule)


def _one_cycle(schedule: OneCycle, gone: float) -> float:
    """The rate after a share of the training."""
    if gone < schedule.rise:
        share = _half_cosine(schedule.start, 1.0, gone / schedule.rise)
    else:
        share = _half_cosine(1.0, schedule.end, (gone - schedule.rise) / (1 - schedule.rise))
    return schedule.peak * share


def _half_cosine(start: float, end: float, share: float) -> float:
    """From `start` to `end` along half a cosine."""
    return end + (start - end) * (1 + cos(pi * share)) / 2
