"""Files of weights that cnnc wrote: what comes back is what was written, or a message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import cnnc
from cnnc.diagnostics import CnnError
from cnnc.weights.importing.any_file import read_source
from cnnc.weights.weights_file import load_weights, read_arrays, save_weights

WEIGHTS: dict[str, Any] = {
    "conv1": {"kernel": np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4), "bias": np.ones(4, np.float32)},
    "dense1": {"kernel": np.full((4, 1), 0.5, np.float32)},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_weights(tmp_path / "w.safetensors", WEIGHTS, {"model": "tiny", "epoch": "3"})
    return tmp_path / "w.safetensors"


def test_arrays_and_facts_come_back(file: Path) -> None:
    arrays, facts = read_arrays(file)
    assert facts == {"model": "tiny", "epoch": "3"}
    for name, array in load_file(file).items():  # read by the format's own library
        np.testing.assert_array_equal(arrays[name], array)
    assert len(arrays) == 3


@pytest.mark.fault("S7")
def test_one_bit_flipped_is_said_or_changes_no_value(file: Path) -> None:
    sound, (wanted, _) = file.read_bytes(), read_arrays(file)
    said = 0
    for place in range(len(sound)):
        data = bytearray(sound)
        data[place] ^= 1 << place % 8
        file.write_bytes(data)
        try:
            arrays, _ = read_arrays(file)
        except CnnError:
            said += 1
            continue
        assert place < len(sound) - 68, f"byte {place} is of the arrays"
        assert {name: array.tobytes() for name, array in arrays.items()} == {
            name: array.tobytes() for name, array in wanted.items()
        }, place
    assert said > len(sound) / 2


@pytest.mark.fault("S7")
def test_one_bit_flipped_is_said_by_what_imports(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CnnError, match="its values are not those that were written"):
        read_source(file)


def test_files_of_others_have_no_digest_and_are_read(tmp_path: Path) -> None:
    save_file({"conv1.kernel": np.ones((1, 1, 3, 4), np.float32)}, tmp_path / "w.safetensors")
    assert set(read_arrays(tmp_path / "w.safetensors")[0]) == {"conv1.kernel"}


@pytest.mark.fault("S6")
def test_a_file_larger_than_the_networks_weights_is_not_read(tmp_path: Path) -> None:
    graph = cnnc.load_text("input 4\ndense(3)\n").graph
    with (tmp_path / "w.safetensors").open("wb") as file:
        file.truncate(1 << 40)  # with nothing in it
    with pytest.raises(CnnError, match=r"it has 1,099,511,627,776 bytes, and these fewer"):
        load_weights(tmp_path / "w.safetensors", graph)
