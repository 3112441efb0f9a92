"""The time that a training still takes, on clocks that the tests turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnnc.runs.events import EpochEnd, Progress, Row, TrainingStart
from cnnc.training.time_left import TimeLeft, format_duration


def played(
    *,
    epochs: int = 10,
    steps: int = 100,
    step: Callable[[int], float] = lambda number: 0.1,
    evaluation: float = 2.0,
    compiling: float = 20.0,
    val_count: int = 1000,
    first_epoch: int = 1,
    ratio: float = 1 / 3,
) -> list[tuple[tuple[int, int], float | None, float]]:
    """A training's moments: epoch and step, the estimate then, and what was true. Step 0 is after the epoch's end.

    `ratio` is the evaluation's compilation beside that of the step.
    """
    now = 0.0
    remaining = TimeLeft(lambda: now)
    remaining(TrainingStart(Path(), "net", 1, steps * 64, val_count, 64, steps, epochs))
    moments: list[tuple[tuple[int, int], float | None, float]] = []
    number = 0
    for epoch in range(first_epoch, epochs + 1):
        for place in range(1, steps + 1):
            now += step(number) + (compiling if number == 0 else 0)
            number += 1
            remaining(Progress(epoch, place, 1.0, None, 1.0))
            moments.append(((epoch, place), remaining.seconds, now))
        now += evaluation + (compiling * ratio if epoch == first_epoch else 0)
        remaining(EpochEnd(Row(epoch, 1.0, 0.1, 1.0, None, 1.0, None, None), best=False))
        moments.append(((epoch, 0), remaining.seconds, now))
    return [(place, said, now - at) for place, said, at in moments]


def worst_after(moments: list[tuple[tuple[int, int], float | None, float]], epoch: int) -> float:
    """The largest error from the end of an epoch up to the last one, as a share of what was left."""
    later = [(said or 0.0, left) for (at, step), said, left in moments if at > epoch or (at == epoch and step == 0)]
    return max(abs(said - left) / left for said, left in later if left > later[0][1] / 20)


@pytest.mark.parametrize("evaluation", [0.0, 0.5, 10.0])
@pytest.mark.parametrize("seconds", [0.003, 0.1, 3.0])
def test_it_is_right_within_a_tenth_after_the_first_epoch(seconds: float, evaluation: float) -> None:
    jitter = np.random.default_rng(0).uniform(0.7, 1.3, 100_000)
    moments = played(step=lambda number: seconds * jitter[number], evaluation=evaluation, epochs=30)
    assert worst_after(moments, 1) < 0.1


@pytest.mark.parametrize("ratio", [0.1, 1 / 3, 0.6])
def test_compilation_is_no_part_of_the_pace(ratio: float) -> None:
    moments = played(compiling=300.0, epochs=40, ratio=ratio)
    assert worst_after(moments, 2) < 0.05


def test_it_says_nothing_before_it_knows_and_is_near_in_the_first_epoch() -> None:
    # An evaluation of a third of a step's cost a picture: 1000 / 64 * 0.1 / 3 = 0.52 s.
    moments = played(evaluation=0.52)
    first = [(said, left) for (epoch, step), said, left in moments if epoch == 1 and step]
    assert [said for said, _ in first[:15]] == [None] * 15
    assert all(said is not None for said, _ in first[25:])
    said, left = first[50]
    # The compilation of the evaluation is still to come, and unknown.
    assert said == pytest.approx(left - 20 / 3, rel=0.05)


def test_a_pause_is_not_taken_for_the_pace_and_regular_waits_are() -> None:
    slept = played(step=lambda number: 3600.0 if number == 250 else 0.1, epochs=20)
    after = [(said, left) for (epoch, step), said, left in slept if (epoch, step) == (3, 80)]
    assert after[0][0] == pytest.approx(after[0][1], rel=0.1)
    waits = played(step=lambda number: 0.5 if number % 10 == 9 else 0.1, epochs=20)
    assert worst_after(waits, 1) < 0.1


def test_it_follows_a_machine_that_becomes_slower() -> None:
    moments = played(step=lambda number: 0.1 if number < 500 else 0.3, epochs=20)
    (said, left) = next((said, left) for place, said, left in moments if place == (9, 0))
    assert said == pytest.approx(left, rel=0.1)


def test_epochs_of_one_step_are_told_by_whole_epochs() -> None:
    moments = played(steps=1, epochs=50, step=lambda number: 1.0, evaluation=0.5)
    assert moments[0][1] is None
    assert worst_after(moments, 2) < 0.1


def test_a_training_that_goes_on_counts_what_is_left_of_it() -> None:
    moments = played(first_epoch=8, epochs=20)
    assert worst_after(moments, 8) < 0.1


def test_at_the_end_nothing_is_left() -> None:
    assert played()[-1][1] == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0.2, "1 s"), (35.4, "35 s"), (99.4, "99 s"), (100, "2 min"), (250, "4 min"), (5900, "98 min")),
        *((6000, "1 h 40 min"), (7500, "2 h 5 min"), (86_340, "23 h 59 min"), (200_000, "56 h")),
    ],
)
def test_words(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words
