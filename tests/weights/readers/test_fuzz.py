"""Damaged files of weights: whatever the bytes are, reading them ends, with layers or a CnnError."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import cnnc
from cnnc.backends.tflite.compile import compile_float
from cnnc.backends.tflite.random_weights import random_weights
from cnnc.diagnostics import CnnError
from cnnc.ir.model import Model
from cnnc.tflite_file.program import File
from cnnc.tflite_file.write import write_file
from cnnc.weights.importing.any_file import read_source
from cnnc.weights.importing.import_weights import Options, combine

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
ARRAYS: dict[str, Any] = {
    "a.weight": np.ones((4, 3, 3, 3), np.float32),
    "a.bias": np.ones(4, np.float32),
    "b.running_mean": np.ones(4, np.float32),
    "b.running_var": np.ones(4, np.float32),
}


def _tflite(path: Path) -> None:
    graph = cnnc.load_text("input 8x8x3\nconv(3x3, 4) | relu | depthwise(3x3) | prelu | globalpool | dense(5)\n").graph
    path.write_bytes(write_file(File((compile_float(Model(graph, random_weights(graph, 0))),))))


def _torch(path: Path, *, new: bool = True) -> None:
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}
    torch.save(tensors, path, _use_new_zipfile_serialization=new)


def _keras(path: Path) -> None:
    keras = pytest.importorskip("keras")
    start = keras.Input((8, 8, 3))
    model = keras.Model(start, keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(start)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of its own older format
        model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "a.tflite": _tflite,
    "a.safetensors": lambda path: save_file(ARRAYS, path),
    "a.npz": lambda path: np.savez(path, **ARRAYS),
    "a.pt": _torch,
    "a.pth": lambda path: _torch(path, new=False),
    "a.keras": _keras,
    "a.weights.h5": _keras,
    "a.h5": _keras,
}


SPECS = (
    "input 8x8x3\nconv(3x3, 4) | relu | depthwise(3x3) | prelu | globalpool | dense(5)\n",
    "input 8x8x3\nconv(3x3, 4) | bn\n",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if each is _keras else name for name, each in WRITERS.items()]
)
def test_damage_ends_with_a_message(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    sound = (tmp_path / name).read_bytes()
    assert read_source(tmp_path / name).layers
    graph = cnnc.load_text(SPECS[name != "a.tflite"]).graph
    rng = np.random.default_rng(0)
    for turn in range(90):
        data = bytearray(sound)
        if turn % 3 == 0:
            del data[rng.integers(len(data)) :]
        reach = len(data) if turn % 3 == 1 else min(len(data), 2000)  # heads hold more that matters
        for place in rng.integers(0, max(reach, 1), 4) if data else ():
            data[place] = rng.integers(256)
        (tmp_path / name).write_bytes(data)
        with contextlib.suppress(CnnError):
            combine(graph, read_source(tmp_path / name), Options(partial=turn % 2 == 0))
