"""Data sets from folders and arrays, and how they are brought to a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnnc import ops
from cnnc.data.feeding.batches import training_batches
from cnnc.data.feeding.feed import prepare
from cnnc.data.sources.arrays import arrays_data_set, examples_of
from cnnc.data.sources.by_name import load_data
from cnnc.data.sources.data_set import DataSet, Examples, Files, split
from cnnc.data.sources.folder import Options, load_all, load_folder
from cnnc.recipe import Flip
from tests.support import pictures
from tests.support.calling import error_of
from tests.support.networks import Builder, sequential
from tests.support.pictures import make_tree

Says = Callable[[str], None]


def quiet(line: str) -> None:
    """A report that nobody reads."""


# Folders


def test_a_tree_with_parts_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    data = load_folder(make_tree(tmp_path, {"train/dog": 3, "train/cat": 2, "val/cat": 1, "val/dog": 2}))
    assert data.classes == ("cat", "dog")
    assert isinstance(data.train, Files)
    assert isinstance(data.val, Files)
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.val.labels.tolist() == [0, 1, 1]
    assert data.test is data.val


def test_a_tree_with_only_a_test_part_validates_on_it_and_says_so(tmp_path: Path) -> None:
    data = load_folder(make_tree(tmp_path, {"train/a": 2, "train/b": 2, "test/a": 1, "test/b": 1}))
    assert data.val is data.test
    assert data.notes == ("the test pictures serve as validation set too",)


def test_a_plain_folder_is_split_by_class_and_seed(tmp_path: Path) -> None:
    make_tree(tmp_path, {"a": 10, "b": 20})
    first = load_folder(tmp_path, Options(held_out=0.3, seed=1))
    again = load_folder(tmp_path, Options(held_out=0.3, seed=1))
    other = load_folder(tmp_path, Options(held_out=0.3, seed=2))
    assert isinstance(first.val, Files)
    assert isinstance(first.train, Files)
    assert isinstance(again.val, Files)
    assert isinstance(other.val, Files)
    assert np.bincount(first.val.labels).tolist() == [3, 6]
    assert first.val.paths == again.val.paths
    assert first.val.paths != other.val.paths
    assert not set(first.val.paths) & set(first.train.paths)
    assert len(first.val) + len(first.train) == 30
    assert len(load_all(tmp_path)) == 30


def test_split_holds_out_at_least_one_of_every_class() -> None:
    labels = np.repeat(np.arange(5), 3)
    kept, held = split(labels, 0.01, 0)
    assert sorted([*kept, *held]) == list(range(15))
    assert np.bincount(labels[held]).tolist() == [1] * 5
    assert "a single example" in error_of(lambda: split(np.array([0, 0, 1]), 0.5, 0))


def test_folder_faults_are_named(tmp_path: Path) -> None:
    assert "there is no folder" in error_of(lambda: load_data(str(tmp_path / "gone")))
    assert "holds no class folders" in error_of(lambda: load_data(str(tmp_path)))
    make_tree(tmp_path, {"loose/.": 1})
    assert "holds pictures, but no class folders" in error_of(lambda: load_data(str(tmp_path / "loose")))
    assert "is a file" in error_of(lambda: load_data(str(tmp_path / "loose" / "000.png")))
    make_tree(tmp_path / "tree", {"train/cat": 2, "train/dog": 2, "val/cat": 1, "val/dog": 1})
    (tmp_path / "tree/train/bird").mkdir()
    message = error_of(lambda: load_data(str(tmp_path / "tree")))
    assert "class `bird` has no pictures in" in message
    (tmp_path / "tree/train/bird").rmdir()
    (tmp_path / "tree/val/dog").rename(tmp_path / "tree/val/dogs")
    message = error_of(lambda: load_data(str(tmp_path / "tree")))
    assert "has a class `dogs` that the training pictures lack" in message
    assert "did you mean `dog`?" in message


def test_other_files_are_named_and_junk_is_not(tmp_path: Path) -> None:
    make_tree(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a/.DS_Store").touch()
    (tmp_path / "a/Thumbs.db").touch()
    (tmp_path / ".git").mkdir()
    assert len(load_all(tmp_path)) == 4
    (tmp_path / "a/notes.txt").touch()
    assert "notes.txt` is not a picture of a kind that is read" in error_of(lambda: load_all(tmp_path))
    assert len(load_all(tmp_path, Options(skip_corrupt=True))) == 4


# Arrays


def test_arrays_are_matched_by_name_or_order() -> None:
    builder = Builder()
    first, second = builder.input("a", (3,)), builder.input("b", (2,))
    joined = builder.add("c", ops.Concat(), first, second)
    builder.add("p", ops.Dense(4), joined)
    builder.add("q", ops.Dense(1), joined)
    graph = builder.net(p="p", q="q").graph
    a, b = np.zeros((6, 3)), np.ones((6, 2))
    classes, values = np.arange(6) % 4, np.zeros((6, 1))
    by_name = examples_of(graph, {"b": b, "a": a}, {"q": values, "p": classes})
    by_order = examples_of(graph, (a, b), (classes, values))
    for found in (by_name, by_order):
        assert [x.shape for x in found.inputs] == [(6, 3), (6, 2)]
        assert [y.dtype for y in found.targets] == [np.int32, np.float32]
    assert "the network has 2 inputs (`a`, `b`), and 1 array is given" in error_of(
        lambda: examples_of(graph, a, (classes, values))
    )
    assert "hold 6, 6, 5, 6 examples" in error_of(lambda: examples_of(graph, (a, b), (classes[:5], values)))
    assert "given for the inputs `a`" in error_of(lambda: examples_of(graph, {"a": a}, (classes, values)))


def test_arrays_without_validation_lose_a_share_of_every_class() -> None:
    graph = sequential((3,), ops.Dense(2)).graph
    data = arrays_data_set(graph, (np.zeros((20, 3)), np.arange(20) % 2))
    assert isinstance(data.val, Examples)
    assert np.bincount(data.val.targets[0]).tolist() == [2, 2]


# Made ready for a network


def part_of(data: DataSet) -> Examples:
    assert isinstance(data.train, Examples)
    return data.train


def test_pictures_of_another_size_and_colour_are_brought_to_the_network(tmp_path: Path) -> None:
    grey = Examples((pictures.noise(10 * 6, 6, 1).reshape(10, 6, 6, 1),), (np.zeros(10, np.int32),))
    feed = prepare(grey, [(3, 3, 3)])
    assert isinstance(feed.part, Examples)
    assert feed.part.inputs[0].shape == (10, 3, 3, 3)
    assert np.array_equal(feed.part.inputs[0][..., 0], feed.part.inputs[0][..., 2])


def test_pictures_may_be_flattened_and_lack_an_axis() -> None:
    flat = prepare(Examples((np.zeros((5, 28, 28, 1), np.uint8),), (np.zeros(5, np.int32),)), [(784,)])
    assert len(flat) == 5
    lacking = prepare(Examples((np.zeros((5, 28, 28)),), (np.zeros(5, np.int32),)), [(28, 28, 1)])
    assert isinstance(lacking.part, Examples)
    assert lacking.part.inputs[0].shape == (5, 28, 28, 1)


def test_what_cannot_be_brought_to_the_network_is_refused(tmp_path: Path) -> None:
    signal = Examples((np.zeros((5, 100, 2)),), (np.zeros(5, np.int32),))
    message = error_of(lambda: prepare(signal, [(64, 2)]))
    assert "the data's examples are 100x2, and the network takes 64x2" in message
    assert "--input 100x2" in message
    files = load_all(make_tree(tmp_path, {"a": 1, "b": 1}))
    assert "the data are pictures, and the network takes 2001x1" in error_of(lambda: prepare(files, [(2001, 1)]))
    assert "takes pictures of 17 channels" in error_of(lambda: prepare(files, [(8, 8, 17)]))


def test_pictures_too_many_to_hold_are_decoded_as_they_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = load_all(make_tree(tmp_path, {"a": 3, "b": 4}, size=(20, 16)))
    held = prepare(files, [(8, 8, 3)], augment=(Flip(),))
    monkeypatch.setattr("cnnc.data.feeding.feed.SMALL_BYTES", 100)
    monkeypatch.setattr("cnnc.data.sources.decoded_cache.MEMORY_BYTES", 100)
    monkeypatch.setenv("CNNC_CACHE_BYTES", "0")
    lazy = prepare(files, [(8, 8, 3)], augment=(Flip(),))
    assert (held.size, lazy.size, lazy.decoded) == (None, (8, 8), None)
    for one, other in zip(training_batches(held, 4, 1), training_batches(lazy, 4, 1), strict=True):
        np.testing.assert_array_equal(one.inputs[0], other.inputs[0])
        np.testing.assert_array_equal(one.targets[0], other.targets[0])


def test_corrupt_pictures_are_named_or_skipped_and_counted(tmp_path: Path) -> None:
    files = load_all(make_tree(tmp_path, {"a": 3, "b": 3}, size=(32, 32)))
    pictures.truncate(files.paths[1])
    assert "cannot decode" in error_of(lambda: prepare(files, [(8, 8, 3)]))
    feed = prepare(files, [(8, 8, 3)], skip_corrupt=True)
    assert len(feed) == 5
    assert feed.broken == {files.paths[1]}
    assert feed.targets[0].tolist() == [0, 0, 1, 1, 1]
    for path in files.paths:
        pictures.truncate(path, 0.1)
    assert "none of the 6 pictures can be decoded" in error_of(lambda: prepare(files, [(8, 8, 3)], skip_corrupt=True))
