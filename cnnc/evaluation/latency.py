"""How long TFLite files take: runs that take turns, so that what slows the machine down slows all of them alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnc.backends.tflite.litert.interpreter import Delegate
from cnnc.backends.tflite.litert.runner import open_model

_WARMING = 3
"""Runs that do not count: the first ones touch memory that the later ones find ready."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds that a run of one example takes: the median, and what a tenth of the runs stay below and above.

    `ratio` is the median over the first file's.
    """

    model: Path
    median: float
    low: float
    high: float
    ratio: float


def bench(
    models: Sequence[Path], runs: int, *, threads: int | None = None, delegate: Delegate | None = None
) -> list[Latency]:
    """The latency of every file on random inputs, which are the same for all.

    Raises:
        CnnError: a file is damaged or cannot be run, or a library or device is missing.
    """
    runners = [open_model(model, threads=threads, delegate=delegate) for model in models]
    for runner in runners:
        runner.fill()
        for _ in range(_WARMING):
            runner.time()
    taken = np.empty((len(runners), runs))
    for turn in range(runs):
        for place, runner in enumerate(runners):
            taken[place, turn] = 1e3 * runner.time()
    lows, medians, highs = np.percentile(taken, (10, 50, 90), axis=1)
    return [
        Latency(model, float(median), float(low), float(high), float(median / medians[0]))
        for model, low, median, high in zip(models, lows, medians, highs, strict=True)
    ]
