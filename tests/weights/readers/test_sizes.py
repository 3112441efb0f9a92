"""Files that say they hold more than any, or that lead to other files: a message, and nothing is taken for them."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import cnnc
from cnnc.diagnostics import CnnError
from cnnc.weights.importing.any_file import read_source
from cnnc.weights.importing.readers import hdf5
from cnnc.weights.importing.readers.sizes import MOST_BYTES, most_bytes
from tests.support.paths import ROOT
from tests.support.weight_files import said, save_archive

SECRET = np.arange(1000, 1016, dtype="<f4")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that no weights are to be read from: raw numbers, and beside it the same as HDF5."""
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(SECRET.tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = SECRET
        file.create_group("g")["0"] = SECRET
    return tmp_path / "secret"


def outside(file: Any, kind: str, secret: Path) -> None:
    """Put the secret into a layer's variables."""
    import h5py  # type: ignore[import-untyped]  # ships no types

    layer = file.create_group("layers/dense")
    other = f"{secret}.h5"
    if kind == "external storage":
        layer.create_dataset("vars/0", (4, 4), "<f4", external=[(str(secret), 0, 64)])
    elif kind == "external link":
        layer.create_group("vars")["0"] = h5py.ExternalLink(other, "/x")
    elif kind == "external group":
        layer["vars"] = h5py.ExternalLink(other, "/g")
    elif kind == "virtual":
        layout = h5py.VirtualLayout((16,), "<f4")
        layout[:] = h5py.VirtualSource(other, "x", (16,))
        layer.create_group("vars").create_virtual_dataset("0", layout)
    else:
        file["zz"] = h5py.ExternalLink(other, "/g")
        layer["vars"] = h5py.SoftLink("/zz")


@pytest.mark.fault("S2")
@pytest.mark.parametrize("name", ["a.h5", "a.weights.h5", "a.keras"])
@pytest.mark.parametrize(
    "kind", ["external storage", "external link", "external group", "virtual", "soft link outside"]
)
def test_bytes_of_other_files_do_not_become_weights(tmp_path: Path, secret: Path, name: str, kind: str) -> None:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        outside(file, kind, secret)
    if name == "a.keras":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("config.json", '{"class_name": "Mine", "config": {}}')
            archive.writestr("model.weights.h5", buffer.getvalue())
    else:
        (tmp_path / name).write_bytes(buffer.getvalue())
    message = said(tmp_path / name)
    assert "lies outside the file" in message
    assert "which was not read" in message


@pytest.mark.fault("S2")
@pytest.mark.parametrize("kind", ["link", "link to a folder", "circle", "pipe"])
def test_a_folder_of_weights_leads_nowhere_else(tmp_path: Path, secret: Path, kind: str) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "conv1.biases").write_bytes(SECRET.tobytes())
    place = folder / "conv1.weights"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to({"link": secret, "link to a folder": tmp_path, "circle": Path(place.name)}[kind])
    message = said(folder)
    assert "`conv1.weights`" in message
    assert ("which was not read" if kind.startswith("link") else "no file and no folder") in message
    place.unlink()
    place.symlink_to("conv1.biases")
    assert [layer.name for layer in read_source(folder).layers] == ["conv1"]


@pytest.mark.fault("S2")
def test_links_within_a_file_are_followed_and_circles_are_said(tmp_path: Path, monkeypatch: Any) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["layers/dense/vars/0"] = np.ones((2, 3), np.float32)
        file["layers/dense_1/vars/0"] = h5py.SoftLink("/layers/dense/vars/0")
    assert len(read_source(tmp_path / "a.h5").layers) == 2
    for up in (h5py.SoftLink("/layers"), None):
        with h5py.File(tmp_path / "b.h5", "w") as file:
            file["layers/dense/vars/0"] = np.ones((2, 3), np.float32)
            file["layers/dense/up"] = up if up is not None else file["layers"]
        assert "lies within itself" in said(tmp_path / "b.h5")
    with h5py.File(tmp_path / "c.h5", "w") as file:  # 2^40 paths
        for depth in range(40):
            file.create_group(f"g{depth}")
        for depth in range(39):
            file[f"g{depth}/a"] = file[f"g{depth}/b"] = h5py.SoftLink(f"/g{depth + 1}")
    monkeypatch.setattr(hdf5, "_MOST_OBJECTS", 1000)
    assert "more than 1,000 groups" in said(tmp_path / "c.h5")


@pytest.mark.fault("S2")
def test_groups_and_objects_are_read_up_to_the_limit(tmp_path: Path, monkeypatch: Any) -> None:
    h5py = pytest.importorskip("h5py")

    def size(depth: int) -> int:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_group("/".join("g" * depth))["x"] = np.ones(3, np.float32)
        with hdf5.open_hdf5(tmp_path / "a.h5", tmp_path / "a.h5", 12) as opened:
            return int(opened["/".join("g" * depth)]["x"].nbytes)

    assert size(64) == 12
    with pytest.raises(CnnError, match="or too deep"):
        size(65)
    monkeypatch.setattr(hdf5, "_MOST_OBJECTS", 4)
    assert size(3) == 12
    with pytest.raises(CnnError, match="more than 4 groups and arrays"):
        size(4)


@pytest.mark.fault("S6")
@pytest.mark.parametrize("name", ["a.npz", "a.safetensors", "a.h5", "caffe"])
def test_a_file_may_hold_as_much_as_is_read_and_no_more(tmp_path: Path, name: str) -> None:
    values, path = np.ones((4, 2), np.float32), tmp_path / name
    if name == "caffe":
        path.mkdir()
        (path / "fc.weights").write_bytes(values.tobytes())
    elif name == "a.h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["layers/dense/vars/0"] = values
    elif name == "a.npz":
        save_archive(path, {"dense/kernel": values})
    else:
        save_file({"dense.kernel": values}, path)
    # An array of NumPy has a header of 128 bytes; of safetensors, the whole file counts.
    size = {"a.npz": 128 + 32, "a.safetensors": path.stat().st_size}.get(name, 32)
    assert len(read_source(path, size).layers) == 1
    with pytest.raises(CnnError, match="it says that it holds"):
        read_source(path, size - 1)


def header(shape: tuple[int, ...]) -> bytes:
    """What an array of NumPy begins with."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def npz_bomb(path: Path, size: int) -> None:
    """A small archive of zeros that are many once unpacked."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.npy", "w") as entry,
    ):
        head = header((size // 4,))
        entry.write(head)
        for _ in range(size >> 22):
            entry.write(bytes(1 << 22))


def zip_with(path: Path, **entries: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("__", "."), data)


def large_h5(file: Any) -> None:
    import h5py

    with h5py.File(file, "w") as opened:
        opened.create_dataset("layers/dense/vars/0", (1 << 21, 1 << 21), "<f4", chunks=(64, 64))


def large_keras(path: Path) -> None:
    buffer = io.BytesIO()
    large_h5(buffer)
    zip_with(path, config__json=b'{"class_name": "Mine", "config": {}}', model__weights__h5=buffer.getvalue())


def torch_view(path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"a.weight": torch.zeros(1).expand(1 << 38), "a.bias": torch.zeros(3)}, path)


def sparse(path: Path, head: bytes) -> None:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(MOST_BYTES + 1)


LARGE = {
    "shape.npz": lambda path: zip_with(path, a__npy=header((1 << 50,)) + bytes(64)),
    "header.npz": lambda path: zip_with(path, a__npy=b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFF0) + bytes(99)),
    "a.h5": large_h5,
    "a.keras": large_keras,
    "view.pt": torch_view,
    "a.safetensors": lambda path: sparse(path, struct.pack("<Q", 2) + b"{}"),
    "a.tflite": lambda path: sparse(path, b"\x1c\0\0\0TFL3"),
    "a.pth": lambda path: sparse(path, b"\x80\x02"),
}


@pytest.mark.fault("S6")
@pytest.mark.parametrize("name", LARGE)
def test_sizes_are_checked_before_anything_is_read(tmp_path: Path, name: str) -> None:
    LARGE[name](tmp_path / name)  # type: ignore[no-untyped-call]
    message = said(tmp_path / name)
    assert "it says that it holds" in message or "by its header" in message or "has a header that" in message


def npy(shape: str) -> bytes:
    """An array of 16 bytes whose header says it has a shape."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(16)


@pytest.mark.fault("S6")
@pytest.mark.parametrize(
    "shape", ["(True, 4)", "(-1, -4)", "(-4,)", "(0, 99999999999999999999)", "(0, 4611686018427387904)", "('4',)"]
)
def test_a_header_with_lengths_that_no_array_has_is_said(tmp_path: Path, shape: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("conv/kernel.npy", npy(shape))
    message = said(tmp_path / "a.npz")
    assert "header" in message or "array is too big" in message


def test_arrays_of_one_name_are_not_chosen_from(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("conv/kernel.npy", npy("(2, 2)"))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("conv/kernel.npy", npy("(2, 2)"))
    assert "the tensor `conv/kernel` is there 2 times" in said(tmp_path / "a.npz")


def test_pickles_of_tensors_that_are_none_of_ours_are_said(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    around: dict[str, Any] = {"model": {}}
    around["model"]["model"] = around
    torch.save(around, tmp_path / "around.pt")
    assert "lies within itself" in said(tmp_path / "around.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nested tensors are a prototype
        nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    torch.save({"a.weight": nested}, tmp_path / "nested.pt")
    assert "`a.weight` is torch.float32" in said(tmp_path / "nested.pt")
    with zipfile.ZipFile(tmp_path / "id.pt", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}X\x01\x00\x00\x00aU\x03fooQs.")  # an id that is no storage's
        archive.writestr("x/version", "3\n")
        archive.writestr("x/byteorder", "little")
    message = said(tmp_path / "id.pt")
    assert "a pickle that PyTorch does not read" in message
    assert "weights_only" not in message  # advice to run the code


@pytest.mark.fault("S6")
def test_tensors_without_values_are_said(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"a.weight": torch.zeros(3, 3, device="meta")}, tmp_path / "a.pt")
    assert "`a.weight` has no values: it is on the device `meta`" in said(tmp_path / "a.pt")


def test_so_much_is_read_for_a_network() -> None:
    """All that a trainer keeps of it, and small files whatever the network."""
    small, large = (cnnc.load_text(f"input 8\ndense({units})\n").graph for units in (2, 4_000_000))
    assert most_bytes(small) >= 1 << 28
    # Weights, gradients, two moments and two averages of doubles.
    assert most_bytes(large) >= 6 * 8 * large.parameter_count


@pytest.mark.fault("S6")
def test_an_archive_is_measured_before_it_is_unpacked(tmp_path: Path) -> None:
    npz_bomb(tmp_path / "a.npz", 1 << 24)
    tracemalloc.start()
    with pytest.raises(CnnError, match=r"it says that it holds 16\.0 MiB, and for this network at most 1\.0 MiB"):
        read_source(tmp_path / "a.npz", 1 << 20)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20
    assert read_source(tmp_path / "a.npz").layers[0].tensors["kernel"].array.nbytes == 1 << 24


@pytest.mark.slow
@pytest.mark.fault("S6")
def test_an_archive_that_unpacks_to_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    npz_bomb(tmp_path / "a.npz", 3 << 29)
    assert (tmp_path / "a.npz").stat().st_size < 1 << 23
    (tmp_path / "tiny.cnn").write_text("input 8x8x3\nconv(3x3, 4)\n")
    command = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30));"
        "from cnnc.cli import main; main(['import-weights', 'tiny.cnn', 'a.npz', '-o', 'o.safetensors'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-c", command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1
    assert "it says that it holds 1.5 GiB, and for this network at most 256.0 MiB are read" in found.stderr
