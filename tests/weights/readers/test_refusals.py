"""What is no file of weights, and what a package that is not installed is needed for."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from cnnc.diagnostics import CnnError
from cnnc.weights.importing.any_file import KINDS, read_source
from tests.support.paths import SHARED
from tests.support.weight_files import said

BIRD = SHARED / "data" / "coral" / "bird.bmp"


def test_what_is_read_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    message = said(tmp_path / "a.txt")
    assert "of no known kind" in message
    assert all(kind in message for kind in KINDS)


def test_a_missing_file(tmp_path: Path) -> None:
    assert "there is no file or folder" in said(tmp_path / "a.pt")


def test_an_empty_file_and_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "an empty folder" in said(tmp_path / "folder")
    (tmp_path / "a.safetensors").touch()
    assert "it is empty" in said(tmp_path / "a.safetensors")


def test_folders_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "cat.txt").touch()
    assert "a folder of `cat.txt`" in said(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    assert "a SavedModel is not read" in said(tmp_path)


@pytest.mark.skipif(not BIRD.exists(), reason="needs ../shared/data/coral")
def test_a_picture(tmp_path: Path) -> None:
    assert "a BMP picture" in said(BIRD)


def test_a_pointer_of_git_lfs(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    assert "a pointer of Git LFS" in said(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("package", "name", "help"),
    [("torch", "a.pt", "cnnc[torch]"), ("h5py", "a.h5", "cnnc[weights]"), ("orbax.checkpoint", "o", "cnnc[weights]")],
)
def test_a_package_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str, name: str, help: str
) -> None:
    (tmp_path / "a.pt").write_bytes(pickle.dumps({}))
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "o").mkdir()
    for each in ("_METADATA", "manifest.ocdbt", "d"):
        (tmp_path / "o" / each).touch()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CnnError) as caught:
        read_source(tmp_path / name)
    (found,) = caught.value.diagnostics
    assert found.code == "install"
    assert f"the package `{package}`, which is not installed" in found.message
    assert help in (found.help or "")
