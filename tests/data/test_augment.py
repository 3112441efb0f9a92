"""Augmentation: what it does to a picture, that it is random, and that a picture's own numbers decide it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cnnc.data.augmentation.augment import Draw, augment, crop_box, crop_numbers
from cnnc.data.augmentation.random_draws import permutation, uniform
from cnnc.data.feeding.batches import evaluation_batches, prefetch, training_batches
from cnnc.data.feeding.feed import prepare
from cnnc.data.sources.data_set import Examples
from cnnc.data.sources.folder import load_all
from cnnc.diagnostics import CnnError
from cnnc.recipe import Augment, Cutout, Flip, PadCrop, RandomResizedCrop
from tests.support.pictures import make_tree, noise, truncate

ENTRIES: tuple[Sequence[Augment], ...] = (
    (PadCrop(2),),
    (Flip(),),
    (RandomResizedCrop(),),
    (PadCrop(1), Flip(0.3), RandomResizedCrop(0.5)),
    (Cutout(3), Flip()),
)


def batch(count: int = 64, height: int = 9, width: int = 7, channels: int = 3) -> np.ndarray:
    return noise(count * height, width * channels, 1).reshape(count, height, width, channels)


def numbered(count: int) -> Examples:
    """Examples whose picture says their number."""
    pictures = np.repeat(np.arange(count, dtype=np.uint8), 16).reshape(count, 4, 4, 1)
    return Examples((pictures,), (np.arange(count, dtype=np.int32),))


def test_uniform_numbers_fill_the_unit_interval_evenly() -> None:
    numbers = uniform(3, 1, np.arange(100_000), 0)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts, _ = np.histogram(numbers, 20, (0, 1))
    assert np.abs(counts - 5000).max() < 5 * np.sqrt(5000)


def test_seed_epoch_index_and_stream_each_change_the_numbers() -> None:
    base = uniform(0, 1, np.arange(1000), 0)
    for other in (
        uniform(1, 1, np.arange(1000), 0),
        uniform(0, 2, np.arange(1000), 0),
        uniform(0, 1, np.arange(1000), 1),
    ):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.1
    # Not the same numbers in another place either, as (seed + epoch) would give.
    assert not np.array_equal(uniform(0, 1, np.arange(9), 0), uniform(1, 0, np.arange(9), 0))


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_pictures_change_depends_on_its_own_index_alone(entries: Sequence[Augment], dtype: type[np.generic]) -> None:
    pictures = batch().astype(dtype)
    indices = np.arange(100, 164)
    whole = augment(pictures, entries, Draw(5, 2, indices))
    order = permutation(0, 0, 64)
    shuffled = augment(pictures[order], entries, Draw(5, 2, indices[order]))
    assert np.array_equal(whole[order], shuffled)
    alone = augment(pictures[7:8], entries, Draw(5, 2, indices[7:8]))
    assert np.array_equal(alone[0], whole[7])
    assert whole.shape == pictures.shape
    assert whole.dtype == pictures.dtype
    assert not np.array_equal(whole, augment(pictures, entries, Draw(5, 3, indices)))
    assert not np.array_equal(whole, augment(pictures, entries, Draw(6, 2, indices)))


def test_flip_mirrors_the_width_of_its_share() -> None:
    pictures = batch(2000, 2, 5)
    flipped = augment(pictures, [Flip(0.25)], Draw(0, 1, np.arange(2000)))
    mirrored = (flipped == pictures[:, :, ::-1]).all(axis=(1, 2, 3))
    untouched = (flipped == pictures).all(axis=(1, 2, 3))
    assert (mirrored ^ untouched).all()
    assert 0.2 < mirrored.mean() < 0.3
    assert np.array_equal(augment(pictures, [Flip(0.0)], Draw(0, 1, np.arange(2000))), pictures)
    assert np.array_equal(augment(pictures, [Flip(1.0)], Draw(0, 1, np.arange(2000))), pictures[:, :, ::-1])


def test_pad_crop_shifts_by_every_offset_and_fills_with_zeros() -> None:
    pictures = np.maximum(batch(3000, 4, 5, 1), 1)
    cropped = augment(pictures, [PadCrop(2)], Draw(0, 1, np.arange(3000)))
    padded = np.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)))
    offsets = [(top, left) for top in range(5) for left in range(5)]
    hits = np.stack(
        [(padded[:, top : top + 4, left : left + 5] == cropped).all(axis=(1, 2, 3)) for top, left in offsets]
    )
    assert (hits.sum(axis=0) >= 1).all()
    # 3,000 draws of 25 offsets: 120 each, give or take.
    assert hits.sum(axis=1).min() > 70


def test_random_resized_crop_has_the_area_and_aspect_of_the_paper() -> None:
    entry = RandomResizedCrop(0.2, 0.8)
    boxes = np.array([crop_box(entry, row, 120, 100) for row in crop_numbers(Draw(0, 1, np.arange(5000)), 0)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area = width * height / (120 * 100)
    assert area.min() >= 0.2 - 1e-9
    assert area.max() <= 0.8 + 1e-9
    assert area.mean() == pytest.approx(0.5, abs=0.01)
    assert (width / height).min() >= 3 / 4 - 1e-9
    assert (width / height).max() <= 4 / 3 + 1e-9
    assert np.median(width / height) == pytest.approx(1, abs=0.05)
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 120
    assert boxes[:, 3].max() <= 100


def test_a_crop_that_cannot_have_the_aspect_still_has_the_area() -> None:
    for row in crop_numbers(Draw(0, 1, np.arange(100)), 0):
        left, top, right, bottom = crop_box(RandomResizedCrop(0.9, 1.0), row, 300, 20)
        assert 0.9 * 6000 - 1e-6 <= (right - left) * (bottom - top) <= 6000 + 1e-6
        assert left >= 0
        assert top >= 0
        assert right <= 300 + 1e-9
        assert bottom <= 20 + 1e-9


def test_crops_from_files_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    files = load_all(make_tree(tmp_path, {"a": 4, "b": 4}, size=(20, 30)))
    feed = prepare(files, [(8, 8, 3)], augment=(RandomResizedCrop(), Flip()), seed=3)
    assert feed.size == (8, 8)
    by_index: list[dict[int, bytes]] = []
    for size in (2, 4, 8):
        seen = {}
        for item in training_batches(feed, size, 1):
            seen.update({int(i): p.tobytes() for i, p in zip(item.indices, item.inputs[0], strict=True)})
        by_index.append(seen)
    assert by_index[0] == by_index[1] == by_index[2]
    assert len(by_index[0]) == 8


def test_augmenting_what_is_no_picture_is_refused() -> None:
    signal = Examples((np.zeros((5, 100, 1)),), (np.zeros(5, np.int32),))
    with pytest.raises(CnnError, match="`augment` changes pictures, and the network takes 100x1"):
        prepare(signal, [(100, 1)], augment=(Flip(),))


# Batches


def test_an_epoch_shows_every_example_and_fills_its_last_batch_up() -> None:
    feed = prepare(numbered(10), [(4, 4, 1)], seed=1)
    first = list(training_batches(feed, 4, 1))
    assert [len(item.targets[0]) for item in first] == [4, 4, 4]
    labels = np.concatenate([item.targets[0] for item in first])
    assert sorted(labels[:10]) == list(range(10))
    assert labels[10:].tolist() == labels[:2].tolist()
    assert all((item.inputs[0][:, 0, 0, 0] == item.targets[0]).all() for item in first)
    second = np.concatenate([item.targets[0] for item in training_batches(feed, 4, 2)])
    assert labels.tolist() != second.tolist()


def test_evaluation_counts_every_example_once_in_order() -> None:
    feed = prepare(numbered(10), [(4, 4, 1)])
    items = list(evaluation_batches(feed, 4))
    assert [len(item.targets[0]) for item in items] == [4, 4, 4]
    counted = np.concatenate([item.targets[0][item.valid] for item in items])
    assert counted.tolist() == list(range(10))


def test_a_corrupt_picture_in_a_batch_is_replaced_in_training_and_left_out_in_evaluation(tmp_path: Path) -> None:
    files = load_all(make_tree(tmp_path, {"a": 3, "b": 3}, size=(16, 16)))
    truncate(files.paths[4], 0.3)
    feed = prepare(files, [(8, 8, 3)], augment=(RandomResizedCrop(),), skip_corrupt=True)
    (item,) = training_batches(feed, 6, 1)
    assert (item.inputs[0].reshape(6, -1).max(axis=1) > 0).all()
    assert feed.broken == {files.paths[4]}
    (item,) = evaluation_batches(feed, 6)
    assert item.valid.sum() == 5
    strict = prepare(files, [(8, 8, 3)], augment=(RandomResizedCrop(),))
    with pytest.raises(CnnError, match="cannot decode"):
        list(prefetch(training_batches(strict, 6, 1)))


def test_prefetch_keeps_the_order_and_passes_errors_on() -> None:
    assert list(prefetch(iter(range(1, 100)), 4)) == list(range(1, 100))

    def failing() -> object:
        yield 1
        raise ZeroDivisionError

    items = prefetch(failing())  # type: ignore[arg-type,var-annotated]  # a generator of one kind of object
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError):
        next(items)
