"""Feeds cut into batches of one size, so that a step is compiled once, and made ahead of their use by a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cnnc.data.augmentation.augment import Draw
from cnnc.data.augmentation.mix import mix, split_off
from cnnc.data.augmentation.random_draws import permutation
from cnnc.data.feeding.feed import Feed, Fetched, begin
from cnnc.data.pictures.decode import undecodable
from cnnc.data.sources.decoded_cache import settle

T = TypeVar("T")
_AHEAD = 2
"""Batches that are begun while the one before them is waited for."""


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


def training_batches(feed: Feed, batch: int, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
    """Every example once in the epoch's own order; the last batch is filled up from the start of that order.

    Args:
        feed: the examples. Of every batch its shard is given.
        batch: examples a step, of all shards together.
        epoch: decides on the order and the random changes, together with the feed's seed.
        start: the step to begin with; nothing is read of those before it.
    """
    order = np.resize(permutation(feed.seed, epoch, len(feed)), step_count(feed, batch) * batch)
    rows = [feed.shard.of(row) for row in order.reshape(-1, batch)[start:]]
    alone, mixes = split_off(feed.augment)
    for indices, fetched in zip(rows, _ahead(feed, rows, epoch), strict=True):
        whole = _replaced(fetched)
        inputs, targets = whole.inputs, whole.targets
        if mixes:
            draw = Draw(feed.seed, epoch, indices)
            mixed, targets = mix(inputs[0], targets, mixes, feed.widths, draw, first=len(alone))
            inputs = (mixed,)
        yield Batch(inputs, targets, indices, np.ones(len(indices), bool))


def evaluation_batches(feed: Feed, batch: int) -> Iterator[Batch]:
    """Every example once in order; the last batch is filled up with the first example, which does not count there."""
    indices = np.arange(step_count(feed, batch) * batch)
    rows = [feed.shard.of(row) for row in indices.reshape(-1, batch)]
    filled = [np.where(row < len(feed), row, 0) for row in rows]
    for row, indices, fetched in zip(rows, filled, _ahead(feed, filled, 0), strict=True):
        yield Batch(fetched.inputs, fetched.targets, indices, (row < len(feed)) & fetched.valid)


def prefetch(items: Iterable[T], depth: int = 3) -> Generator[T, None, None]:
    """The items in order, up to `depth` of them made ahead by a thread of their own."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, iterator, None) for _ in range(depth))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, iterator, None))
            yield item


def _ahead(feed: Feed, rows: Sequence[NDArray[np.int64]], epoch: int) -> Iterator[Fetched]:
    """The examples of each row, with the next rows begun before it is done."""
    pool = ThreadPoolExecutor(feed.workers)
    waiting: deque[Callable[[], Fetched]] = deque()
    try:
        for row in rows:
            waiting.append(begin(feed, row, epoch, pool))
            if len(waiting) > _AHEAD:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()
    finally:
        pool.shutdown(cancel_futures=True)
    if feed.decoded is not None:
        settle(feed.decoded)


def _replaced(fetched: Fetched) -> Fetched:
    """The batch with a good example in the place of each that cannot be decoded."""
    if fetched.valid.all():
        return fetched
    good = np.flatnonzero(fetched.valid)
    if not len(good):
        raise undecodable(len(fetched.valid), "of a batch ")
    places = np.where(fetched.valid, np.arange(len(fetched.valid)), np.resize(good, len(fetched.valid)))
    return Fetched(
        tuple(array[places] for array in fetched.inputs),
        tuple(array[places] for array in fetched.targets),
        fetched.valid,
    )
