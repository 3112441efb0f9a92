"""`cnnc import-weights`, end to end: what it writes, and that it writes nothing where something is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

import cnnc
from cnnc.backends.tflite.compile import compile_float
from cnnc.ir.model import Model
from cnnc.tflite_file.program import File
from cnnc.tflite_file.write import write_file
from cnnc.weights.weights_file import load_weights
from tests.support import weight_sources as made
from tests.support.calling import call
from tests.support.paths import SHARED

MOBILENET = SHARED / "data" / "coral" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
ALEXNET = SHARED / "data" / "alexnet"
SPEC = "model tiny(classes=2) {\n  input 8x8x3\n  conv(3x3, 4) | bn | relu | globalpool | dense(classes) | softmax\n}\n"
Arrays = dict[str, Any]


def import_weights(*arguments: object) -> Result:
    return call("import-weights", *arguments)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tiny.cnn").write_text(SPEC)
    return tmp_path


def theirs() -> Arrays:
    """The network's weights as Keras names and stores them."""
    weights = made.noise(cnnc.load("tiny.cnn").graph, 0)
    words = {"mean": "moving_mean", "variance": "moving_variance"}
    names = {"conv1": "first", "bn1": "norm", "dense1": "top"}
    return {
        f"{names[node]}/{words.get(short, short)}": array
        for node, arrays in weights.items()
        for short, array in arrays.items()
    }


def test_what_is_written_is_whole_and_says_where_it_is_from(folder: Path) -> None:
    np.savez("theirs.npz", **theirs())
    result = import_weights("tiny.cnn", "theirs.npz", "-o", "ours.safetensors", "--format", "json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert [layer["target"] for layer in said["layers"]] == ["conv1", "bn1", "dense1"]
    assert (said["values"], said["initial"], said["unused"]) == (4 * 27 + 4 * 4 + 4 * 2 + 2, [], [])
    graph = cnnc.load("tiny.cnn").graph
    weights, facts = load_weights(Path("ours.safetensors"), graph)
    for node, arrays in made.noise(graph, 0).items():
        for short, array in arrays.items():
            np.testing.assert_array_equal(weights[node][short], array)
    assert facts["source"] == "theirs.npz"
    assert facts["source_format"] == "NumPy archive"
    assert facts["source_sha256"] == hashlib.sha256(Path("theirs.npz").read_bytes()).hexdigest()
    assert facts["model"] == "tiny"
    first = Path("ours.safetensors").read_bytes()
    assert import_weights("tiny.cnn", "theirs.npz", "-o", "ours.safetensors").exit_code == 0
    assert Path("ours.safetensors").read_bytes() == first


def test_what_is_imported_compiles(folder: Path) -> None:
    np.savez("theirs.npz", **theirs())
    assert import_weights("tiny.cnn", "theirs.npz", "-o", "ours.safetensors").exit_code == 0
    command = "compile tiny.cnn --weights ours.safetensors --target tflite -o ours.tflite"
    result = call(*command.split())
    assert result.exit_code == 0, result.output
    # And what was compiled can be imported again.
    again = import_weights("tiny.cnn", "ours.tflite", "-o", "again.safetensors")
    assert again.exit_code == 0, again.output
    net = cnnc.load("tiny.cnn")
    pixels = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3)).astype(np.float32)
    one, two = (
        np.asarray(net.apply(load_weights(Path(name), net.graph)[0], pixels))
        for name in ("ours.safetensors", "again.safetensors")
    )
    np.testing.assert_allclose(one, two, atol=1e-5)


def without(name: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {each: array for each, array in arrays.items() if each != name}


def with_(name: str, array: Any) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {**arrays, name: array}


BAD: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "a tensor too few": (without("top/bias"), "lacks `dense1.bias`"),
    "a layer too few": (without("first/kernel"), "nothing for `conv1 (kernel 3x3x3x4)`"),
    "a tensor too many": (
        with_("norm/alpha", np.ones(4, np.float32)),
        "`norm (gamma 4, beta 4, mean 4, variance 4, alpha 4)`",
    ),
    "a bias too many, of another size": (with_("first/bias", np.ones(5, np.float32)), "`first/bias` has 5 values"),
    "a layer too many": (with_("more/kernel", np.ones((5, 5, 3, 4), np.float32)), "`more (kernel 5x5x3x4)`"),
    "not a number": (with_("top/bias", np.array([0, np.nan], np.float32)), "`top/bias` has 1 of 2 values"),
    "infinite": (with_("top/bias", np.array([np.inf, 1], np.float32)), "that are infinite"),
    "a negative variance": (
        with_("norm/moving_variance", np.array([1, -1, 1, 1], np.float32)),
        "`bn1.variance` of `theirs.npz` has 1 of 4 values that are negative",
    ),
    "a class too many": (
        lambda arrays: {
            **arrays,
            "top/kernel": np.ones((4, 3), np.float32),
            "top/bias": np.ones(3, np.float32),
        },
        "--drop-class 0",
    ),
    "another kernel": (with_("first/kernel", np.ones((5, 5, 3, 4), np.float32)), "nothing for `conv1"),
    "a bias of another size": (with_("top/bias", np.ones(5, np.float32)), "`top/bias`"),
    "no weights": (lambda _: {"note": np.array(["x"])}, "theirs.npz"),
    "of another network": (lambda _: {"a/kernel": np.ones((7, 9), np.float32)}, "is of another network"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_does_not_fit_is_named_and_nothing_written(name: str, folder: Path) -> None:
    change, message = BAD[name]
    np.savez("theirs.npz", **change(theirs()))
    result = import_weights("tiny.cnn", "theirs.npz", "-o", "ours.safetensors")
    assert result.exit_code == 1
    assert "error[weights]" in result.stderr
    assert message in result.stderr
    assert sorted(each.name for each in folder.iterdir()) == ["theirs.npz", "tiny.cnn"]


def test_places_that_cannot_be_written_are_said_before_the_work(folder: Path) -> None:
    np.savez("theirs.npz", **theirs())
    Path("folder.safetensors").mkdir()
    assert import_weights("tiny.cnn", "theirs.npz", "-o", "ours.safetensors").exit_code == 0
    for out, message in (
        ("ours.h5", "is to be a safetensors file"),
        ("nowhere/ours.safetensors", "there is no folder `nowhere`"),
        ("folder.safetensors", "it is a folder"),
    ):
        result = import_weights("tiny.cnn", "theirs.npz", "-o", out)
        assert result.exit_code == 1
        assert message in result.stderr
    before = Path("ours.safetensors").read_bytes()
    result = import_weights("tiny.cnn", "ours.safetensors", "-o", "ours.safetensors")
    assert "cannot write `ours.safetensors`: it is read, and stays as it is" in result.stderr
    assert Path("ours.safetensors").read_bytes() == before


def test_options_that_go_with_others(folder: Path) -> None:
    np.savez("theirs.npz", **theirs())
    result = import_weights("tiny.cnn", "theirs.npz", "-o", "ours.safetensors", "--verify-input", "pixels")
    assert result.exit_code == 2
    assert "--verify" in result.stderr


@pytest.mark.fault("W1")
def test_nothing_is_written_where_verifying_shows_other_values(folder: Path) -> None:
    np.savez("theirs.npz", **theirs())
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)).save("a.png")
    command = ("tiny.cnn", "theirs.npz", "-o", "ours.safetensors", "--verify", "a.png", "--verify-with", "a.tflite")
    graph = cnnc.load("tiny.cnn").graph
    for seed, code in ((1, 1), (0, 0)):
        program = compile_float(Model(graph, made.noise(graph, seed)))
        Path("a.tflite").write_bytes(write_file(File((program,))))
        result = import_weights(*command)
        assert result.exit_code == code, result.output
        assert Path("ours.safetensors").exists() == (code == 0)
        if code:
            assert "computes otherwise than LiteRT; nothing was written" in result.stderr
            assert "`a.png`: outputs differ by" in result.stderr
            assert "--verify-input" in result.stderr


@pytest.mark.skipif(not MOBILENET.is_file(), reason="there is no ../shared/data/coral")
def test_googles_mobilenet_is_found_by_its_graph(folder: Path) -> None:
    result = import_weights("mobilenet_v2", MOBILENET, "-o", "ours.safetensors")
    assert result.exit_code == 1
    assert "--drop-class 0" in result.stderr
    result = import_weights(
        "mobilenet_v2", MOBILENET, "-o", "ours.safetensors", "--drop-class", "0", "--format", "json"
    )
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert len(said["layers"]) == 53
    assert {layer["by"] for layer in said["layers"]} <= {"form", "graph"}
    assert not said["initial"]


@pytest.mark.skipif(not ALEXNET.is_dir(), reason="there is no ../shared/data/alexnet")
def test_the_articles_alexnet_lacks_its_fourth_kernel(folder: Path) -> None:
    result = import_weights("alexnet", ALEXNET, "-o", "ours.safetensors")
    assert result.exit_code == 1
    assert not Path("ours.safetensors").exists()
    result = import_weights("alexnet", ALEXNET, "-o", "ours.safetensors", "--partial")
    assert result.exit_code == 0, result.output
    assert "at first values: conv4.conv1.kernel, hidden" in result.output
    weights, _ = load_weights(Path("ours.safetensors"), cnnc.load("alexnet").graph)
    raw = np.fromfile(ALEXNET / "conv1.weights", "<f4").reshape(96, 3, 11, 11)
    np.testing.assert_array_equal(weights["conv1.conv1"]["kernel"], raw.transpose(2, 3, 1, 0))
