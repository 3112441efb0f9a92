"""Four ways to choose the range of a tensor's int8 codes from the statistics of its values.

`minmax` keeps every value. The others cut rare extremes, so that steps get finer: `percentile` a fixed share, `mse` so
that the mean squared error is least, `entropy` so that the codes' distribution tells most of that of the values.

Source: Migacz 2017, 8-bit Inference with TensorRT (entropy); Wu et al. 2020, Integer Quantization for Deep Learning
Inference: Principles and Empirical Evaluation (percentile); Banner et al. 2019 (mse).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.tflite.quantization.scales import Range
from cnnc.backends.tflite.quantization.statistics import BINS, Statistics

Method = Literal["minmax", "percentile", "mse", "entropy"]

PERCENTILE: Final = 99.99
"""Of the values, on either side of the median, that `percentile` keeps."""
_CUTS: Final = np.linspace(1.0, 0.25, 16)
_LEVELS: Final = 256
Array = NDArray[np.float64]


def minmax(statistics: Statistics) -> Range:
    """All of the values."""
    return statistics.low, statistics.high


def percentile(statistics: Statistics) -> Range:
    """The values but for the outermost hundredth of a per cent on each side."""
    centres, counts = _histogram(statistics)
    share: Array = np.cumsum(counts) / counts.sum()
    first, last = np.searchsorted(share, [1 - PERCENTILE / 100, PERCENTILE / 100])
    return float(centres[int(first)]), float(centres[min(int(last), BINS - 1)])


def mse(statistics: Statistics) -> Range:
    """The range whose codes come nearest to the values, or where a function alone reads these, to its results.

    The lower end of what swish reads is of no use to it, and the ends of what a sigmoid reads are of little.
    """
    read = statistics.centres if statistics.read is None else statistics.read
    slope = np.gradient(read, statistics.centres)

    def cost(centres: Array, counts: Array, low: float, high: float) -> float:
        step = (high - low) / (_LEVELS - 1)
        if step <= 0:
            return float("inf")
        # Within a code's reach the error is uniform, step^2 / 12; outside it is the distance to the end.
        outside = read - np.interp(np.clip(centres, low, high), centres, read)
        return float((counts * (outside**2 + (slope * step) ** 2 / 12)).sum())

    return _best(statistics, cost)


def entropy(statistics: Statistics) -> Range:
    """The range whose codes lose the least information: the smallest Kullback-Leibler divergence.

    Zero counts for nothing: every range holds it exactly, and the many zeros of a relu would ask for the finest steps.
    """
    if not statistics.low <= 0 <= statistics.high:
        return _best(statistics, _divergence, _CUTS[::2])
    counts = statistics.counts.copy()
    counts[np.abs(statistics.centres).argmin()] = 0
    return _best(replace(statistics, counts=counts), _divergence) if counts.any() else (statistics.low, statistics.high)


METHODS: Final[Mapping[Method, Callable[[Statistics], Range]]] = {
    "minmax": minmax,
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}


def _histogram(statistics: Statistics) -> tuple[Array, Array]:
    return statistics.centres, statistics.counts.astype(np.float64)


def _best(statistics: Statistics, cost: Callable[[Array, Array, float, float], float], cuts: Array = _CUTS) -> Range:
    """The upper end cut as is best, then the lower one."""
    if not statistics.high > statistics.low:
        return statistics.low, statistics.high
    centres, counts = _histogram(statistics)
    low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
    if high > 0:
        high = min((high * cut for cut in cuts), key=lambda end: cost(centres, counts, low, end))
    if low < 0:
        low = min((low * cut for cut in cuts), key=lambda end: cost(centres, counts, end, high))
    return float(low), float(high)


def _divergence(centres: Array, counts: Array, low: float, high: float) -> float:
    step = (high - low) / (_LEVELS - 1)
    if step <= 0:
        return float("inf")
    codes = np.clip(np.rint((centres - low) / step), 0, _LEVELS - 1).astype(int)
    # What is cut counts with the end's code; within a code the values are taken as spread evenly over its bins.
    clipped = np.clip(centres, low, high)
    inside = clipped == centres
    kept = np.where(inside, counts, 0.0)
    ends = np.flatnonzero(inside)
    if not len(ends):
        return float("inf")
    kept[ends[0]] += counts[: ends[0]].sum()
    kept[ends[-1]] += counts[ends[-1] + 1 :].sum()
    filled = inside & (counts > 0)
    total = np.bincount(codes[inside], counts[inside], _LEVELS)
    bins = np.bincount(codes[filled], minlength=_LEVELS)
    even = np.where(filled, total[codes] / np.maximum(bins[codes], 1), 0.0)
    p, q = kept / kept.sum(), even / max(even.sum(), 1e-12)
    both = (p > 0) & (q > 0)
    return float((p[both] * np.log(p[both] / q[both])).sum() + p[(p > 0) & (q == 0)].sum() * 10)
