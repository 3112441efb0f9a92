"""Code that a file of weights has inside is not run, and the file is refused."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.weight_files import said, save_archive


class Harmful:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["HARMFUL"],)


@pytest.fixture
def harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What is there when code of a file was run."""
    monkeypatch.setenv("HARMFUL", str(tmp_path / "harm"))
    yield tmp_path / "harm"
    assert not (tmp_path / "harm").exists(), "the code of the file was run"


@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_state_dict_is_not_run(tmp_path: Path, harm: Path, new: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"a.weight": torch.zeros(2, 2), "b": Harmful()}, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    assert "a pickle with code inside" in said(tmp_path / "a.pt")


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_plain_pickle_is_not_run(tmp_path: Path, harm: Path, protocol: int) -> None:
    pytest.importorskip("torch")
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Harmful(), protocol))
    assert "which was not run" in said(tmp_path / "a.pt")


def test_objects_in_an_archive_are_not_unpickled(tmp_path: Path, harm: Path) -> None:
    save_archive(tmp_path / "a.npz", {"a.weight": np.array([Harmful()], object)})
    assert "`a.weight` is an array of objects, a pickle that may hold code" in said(tmp_path / "a.npz")
