"""Data sets from folders, IDX files, CIFAR's binary form, arrays, and by name."""

from __future__ import annotations

import gc
import gzip
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits as load_sklearn_digits

from cnnc import ops
from cnnc.data import cifar, digits, download, idx
from cnnc.data.arrays import arrays_data_set, examples_of
from cnnc.data.batches import training_batches
from cnnc.data.feed import prepare
from cnnc.data.folder import Options, load_all, load_folder
from cnnc.data.load import load_data
from cnnc.data.sources import DataSet, Examples, Files, split
from cnnc.diagnostics import CnnError
from cnnc.recipe import Flip
from tests import pictures
from tests.networks import Builder, sequential
from tests.pictures import SHARED, make_tree

Says = Callable[[str], None]


def quiet(line: str) -> None:
    """A report that nobody reads."""


def error_of(action: Callable[[], object]) -> str:
    """What an action fails with."""
    with pytest.raises(CnnError) as caught:
        action()
    return str(caught.value)


# By name


def test_digits_are_scikit_learns() -> None:
    data = digits.load_digits()
    assert isinstance(data.train, Examples)
    assert isinstance(data.test, Examples)
    assert len(data.train) + len(data.test) == 1797
    assert data.train.inputs[0].shape[1:] == (8, 8, 1)
    assert (data.train.inputs[0].min(), data.train.inputs[0].max()) == (0, 255)
    assert np.bincount(data.test.labels).min() >= 34
    kept, held = split(load_sklearn_digits().target, 0.2, 0)
    for part, indices in ((data.train, kept), (data.test, held)):
        wanted = np.rint(load_sklearn_digits().images[indices] * 255 / 16)
        np.testing.assert_array_equal(part.inputs[0][..., 0], wanted)
        np.testing.assert_array_equal(part.labels, load_sklearn_digits().target[indices])
    assert np.array_equal(digits.load_digits().test.labels, data.test.labels)


@pytest.mark.skipif(not (SHARED / "data/mnist").is_dir(), reason="needs ../shared/data/mnist")
def test_mnist_is_read_from_its_own_files() -> None:
    data = load_data("mnist", folder=SHARED / "data/mnist")
    assert isinstance(data.train, Examples)
    assert data.train.inputs[0].shape == (60000, 28, 28, 1)
    assert len(data.test) == 10000
    # Class counts of the training set, as everywhere published.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(data.train.labels).tolist() == counts
    assert data.notes == ("the test pictures serve as validation set too",)


def small_mnist(folder: Path, *, zipped: bool = False) -> Path:
    """The four IDX files with 20 and 10 pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for names, count in ((idx.NAMES[:2], 20), (idx.NAMES[2:], 10)):
        arrays = (pictures.noise(28 * count, 28, 1).reshape(count, 28, 28), (np.arange(count) % 10).astype(np.uint8))
        for name, array in zip(names, arrays, strict=True):
            raw = pictures.idx(array)
            path = folder / (f"{name}.gz" if zipped else name)
            path.write_bytes(gzip.compress(raw) if zipped else raw)
    return folder


@pytest.mark.parametrize("place", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_found_where_people_keep_them(tmp_path: Path, place: str, zipped: bool) -> None:
    small_mnist(tmp_path / place, zipped=zipped)
    data = load_data("mnist", folder=tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (20, 10, 10)


def test_idx_faults_are_named(tmp_path: Path) -> None:
    assert "there is no folder" in error_of(lambda: load_data("mnist", folder=tmp_path / "gone"))
    assert "holds no IDX files of mnist" in error_of(lambda: load_data("mnist", folder=tmp_path))
    small_mnist(tmp_path)
    images = tmp_path / idx.NAMES[0]
    whole = images.read_bytes()
    images.write_bytes(whole[:-100])
    message = error_of(lambda: load_data("mnist", folder=tmp_path))
    assert "announces 20x28x28 bytes, which are 15,680, but holds 15,580" in message
    assert "cut short" in message
    images.write_bytes(b"<html>" + whole)
    assert "is no IDX file" in error_of(lambda: load_data("mnist", folder=tmp_path))
    images.write_bytes(gzip.compress(whole)[:-20])
    assert "cannot read" in error_of(lambda: load_data("mnist", folder=tmp_path))
    images.write_bytes(pictures.idx(np.zeros((19, 28, 28), np.uint8)))
    assert "hold arrays of shapes (19, 28, 28) and (20,)" in error_of(lambda: load_data("mnist", folder=tmp_path))
    images.write_bytes(whole)
    (tmp_path / idx.NAMES[1]).write_bytes(pictures.idx(np.full(20, 11, np.uint8)))
    assert "has a label 11" in error_of(lambda: load_data("mnist", folder=tmp_path))
    (tmp_path / idx.NAMES[3]).unlink()
    assert f"lacks `{idx.NAMES[3]}`" in error_of(lambda: load_data("mnist", folder=tmp_path))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address on this machine that it is served at."""
    root = tmp_path / "served"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=root)) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield root, f"http://127.0.0.1:{served.server_address[1]}/"
        served.shutdown()
        thread.join()


def test_a_named_set_is_downloaded_once_and_checked(
    server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, address = server
    small_mnist(root, zipped=True)
    sums = [hashlib.md5((root / f"{name}.gz").read_bytes()).hexdigest() for name in idx.NAMES]
    monkeypatch.setitem(idx._SUMS, "mnist", (address, *sums))
    monkeypatch.setenv("CNNC_DATA", str(tmp_path / "cache"))
    said: list[str] = []
    assert len(load_data("mnist", report=said.append).train) == 20
    assert len(said) == 4
    assert said[0].startswith(f"downloading {address}")
    assert len(load_data("mnist", report=said.append).train) == 20
    assert len(said) == 4


# pooch leaves the connection of a download that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_download_that_fails_says_how_to_do_without(
    server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, address = server
    monkeypatch.setenv("CNNC_DATA", str(tmp_path / "cache"))
    monkeypatch.setitem(idx._SUMS, "mnist", (address, *["0" * 32] * 4))
    message = error_of(lambda: load_data("mnist"))
    assert f"cannot download `{address}train-images-idx3-ubyte.gz`" in message
    assert "--data-dir FOLDER" in message
    small_mnist(root, zipped=True)
    assert "its MD5 sum differs" in error_of(lambda: load_data("mnist"))
    assert not list((tmp_path / "cache" / "mnist").glob("*.gz"))
    monkeypatch.setitem(idx._SUMS, "mnist", ("http://127.0.0.1:9/", *["0" * 32] * 4))
    assert "the server cannot be reached" in error_of(lambda: load_data("mnist"))
    gc.collect()


def test_published_files_are_named_by_https_or_a_sum() -> None:
    for name, (_, *sums) in idx._SUMS.items():
        assert len(sums) == 4, name
        assert all(len(md5) == 32 for md5 in sums)
    assert download.cache_folder().name


def small_cifar(folder: Path, *, archive: bool = False) -> Path:
    """CIFAR's six binary files with ten pictures each; picture i is of class i and of colour (i, 2i, 3i)."""
    folder.mkdir(parents=True, exist_ok=True)
    records = b"".join(
        bytes([i]) + bytes([i]) * 1024 + bytes([2 * i]) * 1024 + bytes([3 * i]) * 1024 for i in range(10)
    )
    names = (*cifar.TRAIN, *cifar.TEST)
    if archive:
        with tarfile.open(folder / cifar.ARCHIVE.name, "w:gz") as tar:
            for name in names:
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                member.size = len(records)
                tar.addfile(member, io.BytesIO(records))
    else:
        for name in names:
            (folder / name).write_bytes(records)
    return folder


@pytest.mark.parametrize("archive", [False, True])
def test_cifar_is_read_in_its_binary_form(tmp_path: Path, archive: bool) -> None:
    data = load_data("cifar10", folder=small_cifar(tmp_path, archive=archive))
    assert isinstance(data.train, Examples)
    assert (len(data.train), len(data.test)) == (50, 10)
    assert data.classes[3] == "cat"
    assert data.train.inputs[0].shape == (50, 32, 32, 3)
    assert data.train.inputs[0][7, 5, 9].tolist() == [7, 14, 21]
    assert data.train.labels[:10].tolist() == list(range(10))


def test_cifar_is_read_from_a_tree_of_pictures(tmp_path: Path) -> None:
    make_tree(tmp_path, {f"{part}/{name}": 2 for part in ("train", "test") for name in cifar.CLASSES})
    data = load_data("cifar10", folder=tmp_path)
    assert isinstance(data.train, Files)
    assert data.classes == cifar.CLASSES


def test_cifar_faults_are_named(tmp_path: Path) -> None:
    assert "holds no CIFAR-10" in error_of(lambda: load_data("cifar10", folder=tmp_path))
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x04.")
    assert "as pickles, which are never read" in error_of(lambda: load_data("cifar10", folder=tmp_path))
    small_cifar(tmp_path)
    (tmp_path / cifar.TRAIN[2]).write_bytes(b"\0" * 5000)
    assert "`data_batch_3.bin` has 5,000 bytes" in error_of(lambda: load_data("cifar10", folder=tmp_path))
    (tmp_path / cifar.TRAIN[2]).unlink()
    assert "cannot read" in error_of(lambda: load_data("cifar10", folder=tmp_path))


@pytest.mark.fault("S6")
def test_what_is_packed_smaller_than_any_such_set_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_mnist(tmp_path)
    images = tmp_path / idx.NAMES[0]
    images.write_bytes(gzip.compress(images.read_bytes() + bytes(1 << 20)))
    for module in (idx, cifar):
        monkeypatch.setattr(module, "_MOST_BYTES", 100_000)
    assert "holds more than 100,000 bytes" in error_of(lambda: load_data("mnist", folder=tmp_path))
    monkeypatch.setattr(cifar, "_MOST_BYTES", 10_000)
    assert "has 30,730 bytes" in error_of(lambda: load_data("cifar10", folder=small_cifar(tmp_path, archive=True)))


def test_a_misspelt_name_is_corrected() -> None:
    message = error_of(lambda: load_data("mnits"))
    assert "there is no data set and no folder `mnits`" in message
    assert "did you mean `mnist`?" in message


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
    assert "notes.txt` is no picture of a kind that is read" in error_of(lambda: load_all(tmp_path))
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
    monkeypatch.setattr("cnnc.data.feed.SMALL_BYTES", 100)
    monkeypatch.setattr("cnnc.data.held.MEMORY_BYTES", 100)
    monkeypatch.setenv("CNNC_CACHE_BYTES", "0")
    lazy = prepare(files, [(8, 8, 3)], augment=(Flip(),))
    assert (held.size, lazy.size, lazy.held) == (None, (8, 8), None)
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
