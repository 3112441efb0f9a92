"""How long a training still takes: the steps that are left at the pace of the last ones, and an evaluation an epoch.

An epoch is a start (its first step, and whatever is compiled before it), the rest of its steps, and an end (evaluation,
and what is written down). Each is watched by itself, so that compilation is not taken for what every epoch costs.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Final

from cnnc.runs.events import EpochEnd, Event, Progress, TrainingStart

_BUNCHES: Final = 60
"""Bunches of steps that the pace is taken from: the last ones, so that it follows a machine that gets busy."""
_BUNCH_SECONDS: Final = 0.25
"""Steps are bunched until they took so long: the host sees several end at once."""
_ENOUGH_BUNCHES: Final = 3
_ENOUGH_SECONDS: Final = 2.0
"""As long as less was seen than both of these, nothing is said in the first epoch."""
_PAUSE: Final = 4.0
"""A bunch counts as so many times the median at most: a laptop that slept says nothing of the next hour."""
_FORWARD: Final = 1 / 3
"""An example's cost in evaluation beside that in training, which goes forward and, at twice the cost, backward. The
same is guessed of compilation."""


class TimeLeft:
    """A report that listens. `seconds` is its estimate as of the last event."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._run: TrainingStart | None = None
        self._place: tuple[int, int] | None = None
        """The epoch and the step that ended last; an epoch that is over is the next one's step 0."""
        self._at = 0.0
        self._compiling: float | None = None
        self._bunch = (0.0, 0)
        self._bunches: deque[tuple[float, int]] = deque(maxlen=_BUNCHES)
        self._watch_seconds = 0.0
        self._starts: deque[float] = deque(maxlen=5)
        self._ends: deque[float] = deque(maxlen=5)
        self._end_guess: float | None = None
        """Seconds that an epoch's end takes, as long as only the first was seen."""

    def __call__(self, event: Event) -> None:
        now = self._clock()
        match event:
            case TrainingStart():
                self._run, self._at = event, now
            case Progress():
                self._step(event, now)
            case EpochEnd():
                self._end(event.row.epoch, now)

    @property
    def seconds(self) -> float | None:
        """Until the last epoch is over; None as long as it cannot be told."""
        if self._run is None or self._place is None:
            return None
        epoch, step = self._place
        known = self._watch_seconds >= _ENOUGH_SECONDS and len(self._bunches) >= _ENOUGH_BUNCHES
        pace = self._pace()
        if pace is None or not (known or self._end_guess is not None):
            return None
        end = median(self._ends) if self._ends else self._end_guess
        if end is None:
            end = self._evaluation(pace)
        start = median(self._starts) if self._starts else pace
        whole = start + (self._run.steps - 1) * pace + end
        if step == 0:
            return (self._run.epochs - epoch + 1) * whole
        return (self._run.steps - step) * pace + end + (self._run.epochs - epoch) * whole

    def _pace(self) -> float | None:
        """Seconds a step."""
        if self._bunches:
            longest = _PAUSE * median(seconds / steps for seconds, steps in self._bunches)
            taken = sum(min(seconds, longest * steps) for seconds, steps in self._bunches)
            return taken / sum(steps for _, steps in self._bunches)
        seconds, steps = self._bunch
        if steps:
            return seconds / steps
        return median(self._starts) if self._starts else None

    def _step(self, event: Progress, now: float) -> None:
        took, self._at = now - self._at, now
        before, self._place = self._place, (event.epoch, event.step)
        if before is None:
            self._compiling = took
        elif before[0] != event.epoch or before[1] == 0:
            self._starts.append(took)
        else:
            self._watch_seconds += took
            seconds, steps = self._bunch[0] + took, self._bunch[1] + event.step - before[1]
            self._bunch = (seconds, steps)
            if seconds >= _BUNCH_SECONDS:
                self._bunches.append((seconds, steps))
                self._bunch = (0.0, 0)

    def _end(self, epoch: int, now: float) -> None:
        took, self._at = now - self._at, now
        self._place = (epoch + 1, 0)
        if self._end_guess is not None:
            self._ends.append(took)
            return
        # The first has a compilation in it, of which only that of the steps is known.
        least = self._evaluation(self._pace() or 0.0)
        self._end_guess = min(took, max(least, took - (self._compiling or 0.0) * _FORWARD))

    def _evaluation(self, pace: float) -> float:
        """Seconds that an evaluation takes at a guess, of the examples that there are to validate."""
        assert self._run is not None
        return pace * self._run.val_count / self._run.batch * _FORWARD


def format_duration(seconds: float) -> str:
    """`2 h 5 min`, `4 min`, `35 s`: as exact as an estimate is."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours = round(seconds / 3600) if minutes >= 24 * 60 else minutes // 60
    return f"{hours} h" if minutes >= 24 * 60 else f"{hours} h {minutes % 60} min"
