"""Files that hold the same weights several times: a choice is asked for, and what was chosen is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import cnnc
from cnnc.diagnostics import CnnError
from cnnc.weights.importing.any_file import read_source
from cnnc.weights.importing.import_weights import Imported, Options, combine
from cnnc.weights.importing.readers.sizes import MOST_BYTES
from tests.support import weight_sources as made
from tests.support.calling import call

pytestmark = pytest.mark.fault("W2")
SPEC = "input 8x8x3\nconv(3x3, 4) | bn | relu | conv(3x3, 6) | relu | globalpool | dense(2)\n"
NAMES = {"conv1": "stem.conv", "bn1": "stem.norm", "conv2": "body.conv", "dense1": "head"}
WORDS = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
Arrays = dict[str, Any]


def state(seed: int) -> Arrays:
    """The network's weights as PyTorch names and stores them."""
    found: Arrays = {}
    for node, arrays in made.noise(cnnc.load_text(SPEC).graph, seed).items():
        for short, array in arrays.items():
            if short == "kernel":
                array = np.ascontiguousarray(array.T if array.ndim == 2 else np.moveaxis(array, (-1, -2), (0, 1)))
                found[f"{NAMES[node]}.weight"] = array
            else:
                found[f"{NAMES[node]}.{WORDS.get(short, short)}"] = array
    return found


def under(prefix: str, arrays: Mapping[str, Any]) -> Arrays:
    return {prefix + name: array for name, array in arrays.items()}


def flat(prefix: str, arrays: Mapping[str, Any], by: str) -> Arrays:
    """An average as trainers register it, under names without points."""
    return {prefix + name.replace(".", by): array for name, array in arrays.items()}


ONE, TWO = state(1), state(2)
FILES: dict[str, tuple[Callable[[], Arrays], dict[str, int]]] = {
    "student and teacher": (lambda: under("student.", ONE) | under("teacher.", TWO), {"student": 1, "teacher": 2}),
    "one has a head more": (
        lambda: (
            under("online.", ONE) | under("target.", TWO) | {"online.predictor.weight": np.ones((3, 7), np.float32)}
        ),
        {"target": 2},
    ),
    "average below": (lambda: ONE | flat("ema_", TWO, "_"), {"weights": 1, "ema": 2}),
    "average of names without points": (lambda: ONE | flat("model_ema.", TWO, ""), {"weights": 1}),
    "average with points": (lambda: ONE | under("ema.", TWO), {"weights": 1, "ema": 2}),
}


def imported(path: Path, copy: str | None = None) -> Imported:
    return combine(cnnc.load_text(SPEC).graph, read_source(path, MOST_BYTES, copy), Options())


def assert_is(found: Imported, seed: int) -> None:
    for node, arrays in made.noise(cnnc.load_text(SPEC).graph, seed).items():
        for short, array in arrays.items():
            np.testing.assert_array_equal(found.weights[node][short], array, f"{node}.{short}")


@pytest.mark.parametrize("kind", [".safetensors", ".npz", ".pt"])
@pytest.mark.parametrize("name", FILES)
def test_of_several_copies_one_is_chosen(tmp_path: Path, name: str, kind: str) -> None:
    arrays, choices = FILES[name]
    path = tmp_path / f"a{kind}"
    if kind == ".safetensors":
        save_file(arrays(), path)
    elif kind == ".npz":
        np.savez(path, **arrays())
    else:
        torch = pytest.importorskip("torch")
        torch.save({name: torch.from_numpy(array) for name, array in arrays().items()}, path)
    with pytest.raises(CnnError, match="it holds 2 copies of its weights") as caught:
        imported(path)
    for copy, seed in choices.items():
        assert f"`{copy}`" in str(caught.value)
        assert_is(imported(path, copy), seed)
    with pytest.raises(CnnError, match="it has no copy `nonsense`"):
        imported(path, "nonsense")


@pytest.mark.parametrize("keys", [("params", "params_ema"), ("state_dict", "state_dict_ema"), ("model", "ema")])
def test_of_several_keys_of_a_checkpoint_one_is_chosen(tmp_path: Path, keys: tuple[str, str]) -> None:
    torch = pytest.importorskip("torch")
    found = {key: {n: torch.from_numpy(a) for n, a in each.items()} for key, each in zip(keys, (ONE, TWO), strict=True)}
    torch.save(found | {"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(CnnError, match=f"2 copies of its weights, `{keys[0]}`, `{keys[1]}`"):
        imported(tmp_path / "a.pth")
    for seed, key in enumerate(keys, 1):
        assert_is(imported(tmp_path / "a.pth", key), seed)


def test_the_command_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.cnn").write_text(SPEC)
    save_file(under("student.", ONE) | under("teacher.", TWO), "a.safetensors")
    result = call("import-weights", "tiny.cnn", "a.safetensors", "-o", "o.safetensors")
    assert result.exit_code == 1
    assert "choose one: --copy teacher" in result.stderr
    result = call("import-weights", "tiny.cnn", "a.safetensors", "-o", "o.safetensors", "--partial")
    assert "choose one: --copy teacher" in result.stderr
    result = call("import-weights", "tiny.cnn", "a.safetensors", "-o", "o.safetensors", "--copy", "teacher")
    assert result.exit_code == 0, result.output


def test_blocks_and_branches_that_are_alike_are_no_copies(tmp_path: Path) -> None:
    """Of one network, each under a word of its own."""
    text = "input 8x8x4\nadd { conv(3x3, 4) | relu | conv(3x3, 5) \n conv(3x3, 4) | relu | conv(3x3, 5) }\n"
    graph = cnnc.load_text(text).graph
    kernels = [np.ones((4, 4, 3, 3), np.float32), np.ones((5, 4, 3, 3), np.float32)]
    arrays: Arrays = {}
    for branch in ("left", "right"):
        for place, kernel in enumerate(kernels):
            arrays |= {f"{branch}.conv{place}.weight": kernel, f"{branch}.conv{place}.bias": kernel[:, 0, 0, 0]}
    save_file({name: array.copy() for name, array in arrays.items()}, tmp_path / "a.safetensors")
    with pytest.raises(CnnError, match=made.OPEN):
        combine(graph, read_source(tmp_path / "a.safetensors"), Options())
    combine(graph, read_source(tmp_path / "a.safetensors"), Options(trust_order=True))
