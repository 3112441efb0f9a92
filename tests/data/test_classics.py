"""Data sets by name: scikit-learn's digits, MNIST from IDX files, CIFAR-10 in its binary form, and their downloads."""

from __future__ import annotations

import gc
import gzip
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits as load_sklearn_digits

from cnnc.data.sources import cifar, digits, download, idx
from cnnc.data.sources.by_name import load_data
from cnnc.data.sources.data_set import Examples, Files, split
from tests.support import pictures
from tests.support.calling import error_of
from tests.support.paths import SHARED
from tests.support.pictures import make_tree


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
    (tmp_path / cifar.TRAIN[2]).write_bytes((b"\x0a" + bytes(3072)) * 2)
    assert "a label 10, and labels go from 0 to 9" in error_of(lambda: load_data("cifar10", folder=tmp_path))
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
