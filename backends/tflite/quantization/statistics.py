"""Statistics of a tensor in calibration: extremes, the mean and largest size of every channel, and a histogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cnnc.tflite_file.program import Array

BINS: Final = 1024
_MOST_VALUES: Final = 1 << 13
"""So many values of a tensor and a sample go into its histogram, taken evenly."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of all samples: the smallest and largest value, the histogram within `bounds`, each channel's mean and peak.

    `read` is what the program makes of the centre of each bin, where a function of one value is all that it reads.
    """

    low: float
    high: float
    bounds: tuple[float, float]
    counts: NDArray[np.int64]
    mean: NDArray[np.float64]
    peak: NDArray[np.float64]
    read: NDArray[np.float64] | None = None

    @property
    def centres(self) -> NDArray[np.float64]:
        """Of the histogram's bins."""
        edges = np.linspace(*self.bounds, BINS + 1)
        middles: NDArray[np.float64] = (edges[:-1] + edges[1:]) / 2
        return middles


class Gatherer:
    """Gathers the statistics of a tensor's values sample by sample."""

    def __init__(self) -> None:
        self.low = np.inf
        self.high = -np.inf
        self.samples: list[Array] = []
        self.sum: Array | None = None
        self.peak: Array | None = None
        self.count = 0

    def add(self, values: Array, *, channels: bool) -> None:
        """Add values `(1, ..., channels)`; `channels` asks for the figures of every channel."""
        if channels:
            rows = values.reshape(-1, values.shape[-1])
            low, high = rows.min(0), rows.max(0)
            mean, peak = rows.mean(0), np.maximum(high, -low)
            self.sum = mean if self.sum is None else self.sum + mean
            self.peak = peak if self.peak is None else np.maximum(self.peak, peak)
        else:
            low, high = values.min(), values.max()
        self.low = min(self.low, float(np.min(low)))
        self.high = max(self.high, float(np.max(high)))
        flat = values.reshape(-1)
        # An odd step meets every channel where a power of two would meet few.
        step = max(1, flat.size // _MOST_VALUES) | 1
        self.samples.append(flat[::step].copy())
        self.count += 1

    def statistics(self) -> Statistics:
        # Values that are all but equal leave no room for bins between them.
        room = 1e-3 * max(abs(self.low), abs(self.high), 1.0)
        bounds = (self.low, max(self.high, self.low + room))
        # As np.histogram counts, in a fraction of its time.
        places = (np.concatenate(self.samples) - np.float32(bounds[0])) * np.float32(BINS / (bounds[1] - bounds[0]))
        counts = np.bincount(np.clip(places, 0, BINS - 1).astype(np.int32), minlength=BINS)
        none = np.zeros(0)
        return Statistics(
            self.low,
            self.high,
            bounds,
            counts,
            none if self.sum is None else self.sum / self.count,
            none if self.peak is None else self.peak.astype(np.float64),
        )
