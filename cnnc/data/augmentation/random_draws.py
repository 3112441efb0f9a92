"""Random numbers that depend on their place alone: on (seed, epoch, index, stream), never on an order of drawing.

So a picture is augmented alike whatever the batch, the thread or the order in which it comes up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniform(seed: int, epoch: int, indices: NDArray[np.integer], stream: int) -> NDArray[np.float64]:
    """One number from 0 up to 1 for every index; `stream` tells apart what is drawn for the same index."""
    with np.errstate(over="ignore"):
        state = _mix(np.asarray(indices).astype(np.uint64))
        for part in (seed, epoch, stream):
            state = _mix(state ^ _mix(np.array([part], np.int64).astype(np.uint64) + _GOLDEN))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order in which an epoch goes through `count` examples."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch)))).permutation(count)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014)."""
    state = state + _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
