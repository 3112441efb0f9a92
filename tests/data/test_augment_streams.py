"""Random changes are independent: no two of a line draw the same numbers, whichever way a picture takes through it."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from cnnc.data.augmentation import augment
from cnnc.data.augmentation.random_draws import uniform
from cnnc.data.feeding.batches import training_batches
from cnnc.data.feeding.feed import prepare
from cnnc.data.sources.data_set import Examples
from cnnc.recipe import (
    Augment,
    AutoAugment,
    ColorJitter,
    Cutmix,
    Cutout,
    Flip,
    Mixup,
    PadCrop,
    RandAugment,
    RandomResizedCrop,
)
from tests.support.pictures import noise

pytestmark = pytest.mark.fault("T")
ALONE: tuple[Augment, ...] = (
    PadCrop(2),
    Flip(),
    RandomResizedCrop(),
    ColorJitter(hue=0.1),
    Cutout(3),
    RandAugment(8),
    AutoAugment(),
)
STORED = {"of the network's size": (12, 12), "larger": (18, 18)}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The streams that numbers are drawn from, in order."""
    streams: list[int] = []

    def recorded(seed: int, epoch: int, indices: np.ndarray, stream: int) -> np.ndarray:
        streams.append(stream)
        return uniform(seed, epoch, indices, stream)

    monkeypatch.setattr(augment, "uniform", recorded)
    return streams


@pytest.mark.parametrize("size", STORED.values(), ids=STORED)
def test_no_two_changes_of_a_line_draw_the_same_numbers(size: tuple[int, int], drawn: list[int]) -> None:
    pictures = noise(8 * size[0], size[1], 3).reshape(8, *size, 3)
    examples = Examples((pictures,), (np.arange(8, dtype=np.int32) % 2,))
    for pair in (*permutations(ALONE, 2), *((entry, entry) for entry in ALONE)):
        line = (*pair, Mixup(), Cutmix())
        feed = prepare(examples, [(12, 12, 3)], augment=line, widths=[2], workers=1)
        drawn.clear()
        next(training_batches(feed, 8, 1))
        assert len(set(drawn)) == len(drawn) > 4, line
        assert {stream // 16 for stream in drawn} == {0, 1, 2, 3}, line


@pytest.mark.parametrize("stored", [16, 64])
def test_mirroring_does_not_follow_the_crop(stored: int) -> None:
    """A ramp tells from what comes out how wide a part was cut, where, and whether it was mirrored."""
    count = 600
    ramp = np.broadcast_to((np.arange(stored) * (240 // stored)).astype(np.uint8)[:, None], (stored, stored, 1))
    examples = Examples((np.repeat(ramp[None], count, axis=0),), (np.zeros(count, np.int32),))
    line = (RandomResizedCrop(0.2), Flip())
    (item,) = training_batches(prepare(examples, [(16, 16, 1)], augment=line, widths=[2]), count, 1)
    rows = item.inputs[0].mean(axis=(1, 3))
    slope = rows[:, -3] - rows[:, 2]
    mirrored, width, middle = slope < 0, np.abs(slope), rows.mean(axis=1)
    assert 0.4 < mirrored.mean() < 0.6
    for other in (width, middle):
        # Four deviations of the correlation of what is independent.
        assert abs(np.corrcoef(mirrored, other)[0, 1]) < 4 / np.sqrt(count)


def test_the_numbers_of_any_two_streams_are_independent() -> None:
    numbers = np.stack([uniform(0, 1, np.arange(4000), stream) for stream in range(64)])
    between = np.corrcoef(numbers) - np.eye(64)
    assert np.abs(between).max() < 5 / np.sqrt(4000)
