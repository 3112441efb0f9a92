"""The input pipeline: workers, shards, restarts, and pictures that are decoded once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cnnc.data.feeding.batches import Batch, evaluation_batches, training_batches
from cnnc.data.feeding.feed import Feed, Shard, prepare
from cnnc.data.pictures.decode import decode
from cnnc.data.sources import decoded_cache
from cnnc.data.sources.data_set import Examples, Files
from cnnc.data.sources.folder import load_all
from cnnc.recipe import Augment, AutoAugment, Cutmix, Cutout, Flip, Mixup, PadCrop, RandAugment, RandomResizedCrop
from tests.support import pictures
from tests.support.calling import error_of
from tests.support.paths import ROOT
from tests.support.pictures import make_tree, noise

ENTRIES: tuple[Sequence[Augment], ...] = (
    (),
    (PadCrop(2), Flip(), Cutout(4)),
    (RandomResizedCrop(), Flip(), RandAugment()),
    (AutoAugment(), Mixup(0.4), Cutmix()),
)


@pytest.fixture(autouse=True)
def cache(data_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where decoded pictures are kept, with no set small enough to do without it."""
    monkeypatch.setattr("cnnc.data.feeding.feed.SMALL_BYTES", 0)
    return data_cache / "decoded"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """48 pictures of two classes."""
    return load_all(make_tree(tmp_path / "tree", {"a": 24, "b": 24}, size=(12, 14)))


def feed_of(files: Files, entries: Sequence[Augment] = (), **options: object) -> Feed:
    return prepare(files, [(8, 8, 3)], augment=entries, seed=3, widths=[2], **options)  # type: ignore[arg-type]  # by name


def arrays(batches: Iterator[Batch]) -> list[tuple[bytes, bytes, list[int]]]:
    return [(b.inputs[0].tobytes(), b.targets[0].tobytes(), b.indices.tolist()) for b in batches]


# The same whatever makes it


@pytest.mark.parametrize("entries", ENTRIES)
def test_the_number_of_workers_changes_nothing(files: Files, entries: Sequence[Augment]) -> None:
    wanted = arrays(training_batches(feed_of(files, entries, workers=1), 40, 2))
    for workers in (2, 5, 16):
        assert arrays(training_batches(feed_of(files, entries, workers=workers), 40, 2)) == wanted


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize("count", [2, 4])
def test_shards_are_the_parts_of_every_batch(files: Files, entries: Sequence[Augment], count: int) -> None:
    whole = list(training_batches(feed_of(files, entries), 16, 1))
    parts = [
        list(training_batches(replace(feed_of(files, entries), shard=Shard(i, count)), 16, 1)) for i in range(count)
    ]
    for batch, *own in zip(whole, *parts, strict=True):
        assert np.array_equal(batch.inputs[0], np.concatenate([b.inputs[0] for b in own]))
        assert np.array_equal(batch.targets[0], np.concatenate([b.targets[0] for b in own]))
        assert {len(b.indices) for b in own} == {16 // count}


def test_shards_of_an_evaluation_count_every_example_once(files: Files) -> None:
    seen = [
        i
        for index in range(4)
        for b in evaluation_batches(replace(feed_of(files), shard=Shard(index, 4)), 20)
        for i in b.indices[b.valid].tolist()
    ]
    assert sorted(seen) == list(range(48))


def test_a_batch_that_does_not_split_over_the_processes_is_refused(files: Files) -> None:
    feed = replace(feed_of(files), shard=Shard(0, 3))
    message = error_of(lambda: next(training_batches(feed, 16, 1)))
    assert "a batch of 16 does not split over 3 processes" in message
    assert "--batch 18" in message


@pytest.mark.parametrize("entries", ENTRIES)
def test_an_epoch_can_be_taken_up_at_any_step(files: Files, entries: Sequence[Augment]) -> None:
    wanted = arrays(training_batches(feed_of(files, entries), 10, 4))
    for start in range(6):
        assert arrays(training_batches(feed_of(files, entries), 10, 4, start)) == wanted[start:]


def test_what_came_before_the_start_is_not_read(files: Files) -> None:
    order = np.concatenate([b.indices for b in training_batches(feed_of(files, [RandomResizedCrop()]), 16, 1)])
    for index in order[:32]:
        files.paths[index].unlink()
    (last,) = training_batches(feed_of(files, [RandomResizedCrop()]), 16, 1, start=2)
    assert last.indices.tolist() == order[32:].tolist()


# Decoded once


def decoded(files: Files) -> NDArray[np.uint8]:
    return np.stack([decode(path, (8, 8), 3) for path in files.paths])


def test_the_first_epoch_fills_the_cache_and_later_runs_read_it(
    files: Files, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, feed = decoded(files), feed_of(files)
    first = arrays(training_batches(feed, 16, 1))
    assert [path.suffix for path in cache.iterdir()] == [".pictures"]

    def never(*arguments: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr("cnnc.data.feeding.feed.decode", never)
    later = feed_of(files)
    assert arrays(training_batches(feed, 16, 1)) == first
    assert arrays(training_batches(later, 16, 1)) == first
    (everything,) = evaluation_batches(later, 48)
    assert np.array_equal(everything.inputs[0], wanted)


def test_an_epoch_that_was_left_leaves_no_file_to_later_runs(files: Files, cache: Path) -> None:
    feed = feed_of(files)
    batches = training_batches(feed, 16, 1)
    next(batches)
    batches.close()
    assert [path.suffix for path in cache.iterdir()] == [".partial"]
    del feed, batches
    assert list(cache.iterdir()) == []


def test_a_file_that_a_killed_run_left_half_filled_goes(files: Files, cache: Path) -> None:
    script = f"""
import os, signal
import cnnc.data.feeding.feed
from cnnc.data.feeding.batches import training_batches
from cnnc.data.sources.folder import load_all
from pathlib import Path
cnnc.data.feeding.feed.SMALL_BYTES = 0
feed = cnnc.data.feeding.feed.prepare(load_all(Path({str(files.paths[0].parents[1])!r})), [(8, 8, 3)])
next(training_batches(feed, 16, 1))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.suffix for path in cache.iterdir()] == [".partial"]
    list(training_batches(feed_of(files), 16, 1))
    assert [path.suffix for path in cache.iterdir()] == [".pictures"]


def test_another_size_or_another_file_is_another_cache(files: Files, cache: Path) -> None:
    list(training_batches(feed_of(files), 16, 1))
    list(training_batches(prepare(files, [(6, 6, 3)]), 16, 1))
    assert len(list(cache.iterdir())) == 2
    Image.fromarray(noise(12, 14, 3, seed=99)).save(files.paths[5])
    (everything,) = evaluation_batches(feed_of(files), 48)
    assert np.array_equal(everything.inputs[0], decoded(files))


def test_the_cache_keeps_to_its_limit_and_drops_what_was_not_used_for_longest(
    files: Files, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNC_CACHE_BYTES", str(48 * 8 * 8 * 3 * 5 // 2))
    for count in (40, 41, 42):
        some = Files(files.paths[:count], files.labels[:count])
        list(training_batches(prepare(some, [(8, 8, 3)]), 8, 1))
        for path in cache.iterdir():
            os.utime(path, (path.stat().st_mtime - 100,) * 2)
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setenv("CNNC_CACHE_BYTES", "0")
    assert (lazy := feed_of(files)).decoded is not None
    assert lazy.decoded.partial is None


def test_a_cache_that_cannot_be_written_is_done_without(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNNC_DATA", str(tmp_path / "file"))
    (everything,) = evaluation_batches(feed_of(files), 48)
    assert np.array_equal(everything.inputs[0], decoded(files))


def test_a_disk_without_room_is_done_without(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    monkeypatch.setattr(decoded_cache, "MEMORY_BYTES", 0)
    feed = feed_of(files)
    assert feed.decoded is None
    (everything,) = evaluation_batches(feed, 48)
    assert np.array_equal(everything.inputs[0], decoded(files))


def test_broken_pictures_are_left_out_of_every_epoch_and_told_of_in_every_run(files: Files) -> None:
    pictures.truncate(files.paths[7])
    assert "cannot decode" in error_of(lambda: list(training_batches(feed_of(files), 16, 1)))
    for _ in range(2):
        feed = feed_of(files, skip_corrupt=True)
        for epoch in (1, 2):
            assert len(list(training_batches(feed, 16, epoch))) == 3
        (everything,) = evaluation_batches(feed, 48)
        assert np.flatnonzero(~everything.valid).tolist() == [7]
        assert feed.broken == {files.paths[7]}
    assert "cannot decode" in error_of(lambda: list(training_batches(feed_of(files), 16, 1)))


# A folder that changes


def test_a_picture_that_goes_while_the_folder_is_read_is_named(files: Files) -> None:
    for entries in ((), (RandomResizedCrop(),)):
        feed = feed_of(files, entries)
        files.paths[3].unlink(missing_ok=True)
        message = error_of(lambda feed=feed: list(training_batches(feed, 16, 1)))  # type: ignore[misc]  # a default that binds
        assert f"`{files.paths[3]}` was there when the folder was read, and is gone" in message


def test_a_picture_that_is_replaced_while_the_folder_is_read_is_named(files: Files) -> None:
    feed = feed_of(files)
    Image.fromarray(noise(30, 30, 3)).save(files.paths[3])
    message = error_of(lambda: list(training_batches(feed, 16, 1)))
    assert f"`{files.paths[3]}` was changed after the folder was read" in message


# What augmentation cannot change


def test_augmentations_that_do_not_fit_are_refused(files: Files) -> None:
    floats = Examples((np.zeros((4, 8, 8, 3), np.float32),), (np.zeros(4, np.int32),))
    message = error_of(lambda: prepare(floats, [(8, 8, 3)], augment=[RandAugment()]))
    assert "`rand_augment` changes pictures of 1 or 3 channels of bytes, and these are float32" in message
    message = error_of(lambda: feed_of(files, [Mixup(), Flip()]))
    assert "`mixup` mixes pictures that are ready, and does not come last" in message
    dense = Examples((np.zeros((4, 8, 8, 3), np.uint8),), (np.zeros((4, 8, 8), np.int32),))
    message = error_of(lambda: prepare(dense, [(8, 8, 3)], augment=[Cutmix()], widths=[2]))
    assert "`cutmix` mixes labels, one a picture" in message


def test_memory_is_that_of_a_few_batches(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def reading(feed: Feed, index: int, box: object) -> NDArray[np.uint8]:
        read.append(index)
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr("cnnc.data.feeding.feed._read", reading)
    many = replace(files, paths=files.paths * 20, labels=np.tile(files.labels, 20))
    batches = training_batches(feed_of(many, [RandomResizedCrop()]), 16, 1)
    next(batches)
    assert len(read) <= 3 * 16
    batches.close()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system lends no cores")
def test_so_many_workers_read_as_the_process_has_cores() -> None:
    command = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nimport cnnc.data.feeding.feed as feed\n"
    )
    command += "print(feed.WORKERS)\ndel os.sched_getaffinity\nfrom importlib import reload\n"
    command += "print(reload(feed).WORKERS == os.cpu_count())"
    told = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["1", "True"]
