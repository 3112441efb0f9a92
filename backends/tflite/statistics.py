"""What calibration sees of a tensor: its extremes, the mean and largest size of every channel, and a histogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BINS: Final = 1024
_MOST_VALUES: Final = 1 << 15
"""So many values of a tensor and a sample go into its histogram, taken evenly."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of all samples: the smallest and largest value, the histogram within `bounds`, each channel's mean and peak."""

    low: float
    high: float
    bounds: tuple[float, float]
    counts: NDArray[np.int64]
    mean: NDArray[np.float64]
    peak: NDArray[np.float64]


class Gatherer:
    """Sees a tensor's values sample by sample."""

    def __init__(self) -> None:
        self.low = np.inf
        self.high = -np.inf
        self.samples: list[Array] = []
        self.sum: Array | None = None
        self.peak: Array | None = None
        self.count = 0

    def see(self, values: Array, *, channels: bool) -> None:
        """Values `(1, ..., channels)`; `channels` asks for the figures of every channel."""
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        flat = values.reshape(-1)
        # An odd step meets every channel where a power of two would meet few.
        step = max(1, flat.size // _MOST_VALUES) | 1
        self.samples.append(flat[::step].copy())
        self.count += 1
        if channels:
            rows = values.reshape(-1, values.shape[-1])
            mean, peak = rows.mean(0, dtype=np.float64), np.abs(rows).max(0)
            self.sum = mean if self.sum is None else self.sum + mean
            self.peak = peak if self.peak is None else np.maximum(self.peak, peak)

    def statistics(self) -> Statistics:
        # Values that are all but equal leave no room for bins between them.
        room = 1e-3 * max(abs(self.low), abs(self.high), 1.0)
        bounds = (self.low, max(self.high, self.low + room))
        counts, _ = np.histogram(np.concatenate(self.samples), BINS, bounds)
        none = np.zeros(0)
        return Statistics(
            self.low,
            self.high,
            bounds,
            counts,
            none if self.sum is None else self.sum / self.count,
            none if self.peak is None else self.peak.astype(np.float64),
        )
