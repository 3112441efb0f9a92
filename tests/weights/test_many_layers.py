"""Files of very many layers cost in proportion to them, whichever network they are held against."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import cnnc
from cnnc.diagnostics import CnnError
from cnnc.weights.importing.any_file import read_source
from cnnc.weights.importing.import_weights import Options, combine

SPEC = "input 8x8x3\nconv(3x3, 4) | bn | relu | conv(3x3, 4) | bn | globalpool | dense(2)\n"


def calls(work: Callable[[], object]) -> int:
    """How many functions are called in some work, those of generators each time that they go on."""
    count = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.fault("S5")
@pytest.mark.parametrize("name", ["a.safetensors", "a.npz", "a.pt"])
@pytest.mark.parametrize("shape", [(0,), (4,), (3, 3, 4, 4)])
def test_twice_the_layers_take_twice_the_work(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    graph = cnnc.load_text(SPEC).graph

    def refuse() -> None:
        with pytest.raises(CnnError, match=r"is of another network|does not hold the weights"):
            combine(graph, read_source(tmp_path / name), Options())

    def cost(count: int) -> int:
        arrays: dict[str, Any] = {f"layers.{i}.weight": np.zeros(shape, np.float32) for i in range(count)}
        if name == "a.safetensors":
            save_file(arrays, tmp_path / name)
        elif name == "a.npz":
            np.savez(tmp_path / name, **arrays)
        else:
            torch = pytest.importorskip("torch")
            torch.save({each: torch.from_numpy(array) for each, array in arrays.items()}, tmp_path / name)
        return calls(refuse)

    cost(1)  # imports and caches
    few, many = cost(100), cost(400)
    assert many < 5 * few
