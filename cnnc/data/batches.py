"""Feeds cut into batches of one size, so that a step is compiled once, and made ahead of their use by a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cnnc.data.draws import permutation
from cnnc.data.feed import WORKERS, Feed, Fetched, fetch
from cnnc.diagnostics import CnnError

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Batch:
    """Arrays `(batch, ...)` for every input and target. What counts is `valid`; the rest fills the batch up."""

    inputs: tuple[NDArray[Any], ...]
    targets: tuple[NDArray[Any], ...]
    indices: NDArray[np.int64]
    valid: NDArray[np.bool_]


def step_count(feed: Feed, batch: int) -> int:
    """Steps an epoch."""
    return ceil(len(feed) / batch)


def training_batches(feed: Feed, batch: int, epoch: int) -> Iterator[Batch]:
    """Every example once in the epoch's own order; the last batch is filled up from the start of that order."""
    order = np.resize(permutation(feed.seed, epoch, len(feed)), step_count(feed, batch) * batch)
    with ThreadPoolExecutor(WORKERS) as pool:
        for indices in order.reshape(-1, batch):
            fetched = fetch(feed, indices, epoch, pool)
            yield _batch(_replaced(fetched), indices, np.ones(batch, bool))


def evaluation_batches(feed: Feed, batch: int) -> Iterator[Batch]:
    """Every example once in order; the last batch is filled up with the first example, which does not count there."""
    indices = np.arange(step_count(feed, batch) * batch)
    real = indices < len(feed)
    with ThreadPoolExecutor(WORKERS) as pool:
        for row, counts in zip(np.where(real, indices, 0).reshape(-1, batch), real.reshape(-1, batch), strict=True):
            fetched = fetch(feed, row, 0, pool)
            yield _batch(fetched, row, counts & fetched.valid)


def prefetch(items: Iterable[T], depth: int = 3) -> Iterator[T]:
    """The items in order, up to `depth` of them made ahead by a thread of their own."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, iterator, None) for _ in range(depth))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, iterator, None))
            yield item


def _batch(fetched: Fetched, indices: NDArray[np.int64], valid: NDArray[np.bool_]) -> Batch:
    return Batch(fetched.inputs, fetched.targets, indices, valid)


def _replaced(fetched: Fetched) -> Fetched:
    """The batch with a good example in the place of each that cannot be decoded."""
    if fetched.valid.all():
        return fetched
    good = np.flatnonzero(fetched.valid)
    if not len(good):
        raise CnnError.of("data", f"none of the {len(fetched.valid)} pictures of a batch can be decoded")
    places = np.where(fetched.valid, np.arange(len(fetched.valid)), np.resize(good, len(fetched.valid)))
    return Fetched(
        tuple(array[places] for array in fetched.inputs),
        tuple(array[places] for array in fetched.targets),
        fetched.valid,
    )
