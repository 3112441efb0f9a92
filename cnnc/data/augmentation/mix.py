"""Pictures mixed in pairs, and their labels alike: mixup and CutMix.

A batch's pairs are neighbours: the first with the second, the third with the fourth. Both of a pair keep the same share
of themselves, so that no picture is lost where the share is near 0, as it often is. As the order of an epoch is random,
so are the pairs; and as a shard holds neighbours, a batch comes out the same however many processes make it, wherever
each has an even number of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.data.augmentation.augment import Draw, Pictures, stream
from cnnc.recipe import Augment, Cutmix, Mix, Mixup

Targets = tuple[NDArray[Any], ...]


def split_off(entries: Sequence[Augment]) -> tuple[tuple[Augment, ...], tuple[Mix, ...]]:
    """The entries that change one picture, and those that mix two, which come last."""
    alone = tuple(entry for entry in entries if not isinstance(entry, Mix))
    return alone, tuple(entry for entry in entries if isinstance(entry, Mix))


def mix(
    pictures: Pictures, targets: Targets, entries: Sequence[Mix], widths: Sequence[int], draw: Draw, *, first: int
) -> tuple[Pictures, Targets]:
    """A batch and its targets after all `entries`.

    Args:
        pictures: `(batch, height, width, channels)`.
        targets: classes `(batch,)`, or values `(batch, ...)`.
        entries: what mixes.
        widths: for every target the channels of its output; classes become shares of so many, `(batch, width)`.
        draw: the random numbers of the batch.
        first: the place of the first entry in the spec's line.
    """
    soft: Targets = tuple(shares(target, width) for target, width in zip(targets, widths, strict=True))
    partner = partners(len(pictures))
    leader = np.minimum(np.arange(len(pictures)), partner)
    for place, entry in enumerate(entries, start=first):
        own = _beta(entry.alpha, draw.uniform(stream(place, 0)))[leader]
        match entry:
            case Mixup():
                pictures = _blended(pictures, pictures[partner], own)
            case Cutmix():
                centres = np.stack([draw.uniform(stream(place, 1)), draw.uniform(stream(place, 2))], axis=-1)[leader]
                pictures, own = _pasted(pictures, pictures[partner], own, centres)
            case _:
                raise AssertionError(entry)
        soft = tuple(_weighted(target, target[partner], own).astype(np.float32) for target in soft)
    return pictures, soft


def partners(count: int) -> NDArray[np.int64]:
    """Whom each of a batch is mixed with; the last of an odd number takes the one before it."""
    out = np.arange(count) ^ 1
    if count % 2:
        out[-1] = max(count - 2, 0)
    return out


def shares(target: NDArray[Any], width: int) -> NDArray[np.float32]:
    """Classes `(batch,)` as `(batch, width)`, one-hot, or 0 and 1 where the width is one; values as they are."""
    if target.dtype.kind not in "iub" or target.ndim > 1:
        return target.astype(np.float32)
    if width == 1:
        return target[:, None].astype(np.float32)
    out = np.zeros((len(target), width), np.float32)
    out[np.arange(len(target)), target] = 1
    return out


def _beta(alpha: float, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Samples of Beta(alpha, alpha) out of uniform ones."""
    from scipy.special import betaincinv  # type: ignore[import-untyped]  # scipy comes with jax, and ships no types

    out: NDArray[np.float64] = betaincinv(alpha, alpha, numbers)
    return out


def _weighted(own: NDArray[Any], other: NDArray[Any], share: NDArray[np.float64]) -> NDArray[Any]:
    weight = share.reshape(-1, *[1] * (own.ndim - 1)).astype(np.float32)
    return own * weight + other * (1 - weight)


def _blended(own: Pictures, other: Pictures, share: NDArray[np.float64]) -> Pictures:
    mixed = _weighted(own, other, share)
    return np.rint(mixed).astype(own.dtype) if own.dtype.kind in "iu" else mixed.astype(own.dtype)


def _pasted(
    own: Pictures, other: Pictures, share: NDArray[np.float64], centres: NDArray[np.float64]
) -> tuple[Pictures, NDArray[np.float64]]:
    """A box of the area 1 - share of the other's round a random pixel, and the share that is left, sides cut off."""
    height, width = own.shape[1:3]
    out, left_over = own.copy(), np.empty(len(own))
    for i, (kept, (x, y)) in enumerate(zip(share.tolist(), centres.tolist(), strict=True)):
        side = sqrt(max(0.0, 1 - kept))
        half_width, half_height = int(width * side) // 2, int(height * side) // 2
        column, row = int(x * width), int(y * height)
        left, right = max(0, column - half_width), min(width, column + half_width)
        top, bottom = max(0, row - half_height), min(height, row + half_height)
        out[i, top:bottom, left:right] = other[i, top:bottom, left:right]
        left_over[i] = 1 - (bottom - top) * (right - left) / (height * width)
    return out, left_over
