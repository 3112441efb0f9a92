"""The command activations, end to end: runs, specs and files, their layers, answers and refusals."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnc.activations.inspection import inspect
from cnnc.activations.model_view import view_network
from cnnc.activations.page import page
from cnnc.runs.trained import open_run
from cnnc.tflite_file.program import File
from cnnc.tflite_file.write import write_file
from cnnc.weights.weights_file import save_weights
from tests.support.activations import CORAL, GOOGLE, activations, read_page
from tests.support.calling import refused
from tests.support.paths import ROOT
from tests.support.pictures import noise, truncate
from tests.support.tflite_programs import one_operator, tensor


def test_the_figures_are_those_of_the_reference(models: Path, tmp_path: Path) -> None:
    from cnnc.backends import reference
    from cnnc.data.pictures.decode import decode

    words = json.loads(
        activations(models / "run", models / "picture.png", "-o", tmp_path / "o", "--format", "json").stdout
    )
    run = open_run(models / "run")
    weights = {node: {s: np.asarray(a) for s, a in arrays.items()} for node, arrays in run.weights.items()}
    pixels = decode(models / "picture.png", (16, 16), 3)[None].astype(np.float64)
    values = reference.run(run.net.graph, weights, {"input": pixels})
    for layer in words["layers"]:
        expected = values[layer["name"]]
        assert layer["max"] == pytest.approx(float(expected.max()), rel=1e-4)
        assert layer["zeros"] == pytest.approx(float((expected == 0).mean()), abs=0.01)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("stem.conv2", ["stem.conv2"]),
        ("stem", ["stem.relu1", "stem.relu2"]),
        ("*.relu?", ["stem.relu1", "stem.relu2"]),
        ("b*", ["body"]),
        ("head.dense1", ["head.dense1"]),
    ],
)
def test_patterns_name_layers_labels_and_globs(models: Path, tmp_path: Path, pattern: str, names: list[str]) -> None:
    result = activations(
        models / "run", models / "picture.png", "-o", tmp_path / "o", "--layers", pattern, "--format", "json"
    )
    assert [layer["name"] for layer in json.loads(result.stdout)["layers"]] == names


def test_a_pattern_that_matches_nothing_is_told_with_what_is_near(models: Path, tmp_path: Path) -> None:
    result = activations(models / "run", models / "picture.png", "-o", tmp_path / "o", "--layers", "stem.rely1")
    assert result.exit_code == 1
    assert f"error[argument]: `stem.rely1` matches no layer of `{models / 'run'}`" in result.stderr
    assert "did you mean `stem.relu1`?" in result.stderr
    assert not (tmp_path / "o").exists()


def test_a_class_may_be_named_or_numbered(models: Path, tmp_path: Path) -> None:
    for place, wanted in enumerate(["light", "1"]):
        result = activations(
            *(
                models / "run",
                models / "picture.png",
                "-o",
                tmp_path / str(place),
                "--class",
                wanted,
                "--format",
                "json",
            )
        )
        assert json.loads(result.stdout)["cam"]["class"] == "light"
    for wanted in ("lihgt", "2"):
        result = activations(models / "run", models / "picture.png", "-o", tmp_path / "o", "--class", wanted)
        assert result.exit_code == 1
        assert f"there is no class `{wanted}`" in result.stderr


def test_a_layer_that_is_no_map_has_no_grad_cam(models: Path, tmp_path: Path) -> None:
    result = activations(models / "run", models / "picture.png", "-o", tmp_path / "o", "--cam-layer", "head.dense1")
    assert result.exit_code == 1
    assert "`head.dense1` names no map of height and width" in result.stderr
    result = activations(
        models / "int8.tflite", models / "picture.png", "-o", tmp_path / "o", "--cam-layer", "stem.relu1"
    )
    assert "which has no gradients" in result.stderr


def test_what_is_no_picture_is_refused_and_nothing_written(models: Path, tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no picture")
    shutil.copy(models / "picture.png", tmp_path / "cut.png")
    truncate(tmp_path / "cut.png")
    for name in ("words.png", "cut.png", "missing.png"):
        for model in ("run", "int8.tflite"):
            result = activations(models / model, tmp_path / name, "-o", tmp_path / "o")
            assert result.exit_code == 1
            assert "error[picture]" in result.stderr
            assert name in result.stderr
            assert "skip-corrupt" not in result.stderr
    assert not (tmp_path / "o").exists()


def test_a_spec_wants_weights_or_that_random_ones_are_asked_for(models: Path, tmp_path: Path) -> None:
    arguments = (models / "tiny.cnn", models / "picture.png", "-o")
    result = activations(*arguments, tmp_path / "a")
    assert result.exit_code == 1
    assert "--random-weights shows the structure alone" in result.stderr
    assert activations(*arguments, tmp_path / "b", "--random-weights").exit_code == 0
    assert "random weights" in (tmp_path / "b" / "index.html").read_text(encoding="utf-8")
    save_weights(tmp_path / "w.safetensors", open_run(models / "run").weights, {})
    (tmp_path / "labels.txt").write_text("night\nday\n")
    result = activations(
        *(*arguments, tmp_path / "c", "--weights", tmp_path / "w.safetensors", "--labels", tmp_path / "labels.txt"),
        *("--compare", models / "int8.tflite", "--format", "json"),
    )
    words = json.loads(result.stdout)
    assert {guess["label"] for guess in words["top"]} == {"night", "day"}
    assert {guess["label"] for guess in words["other"]["top"]} == {"dark", "light"}
    (tmp_path / "labels.txt").write_text("night\nday\ndusk\n")
    result = activations(*arguments, tmp_path / "d", "--random-weights", "--labels", tmp_path / "labels.txt")
    assert "the list 3 labels" in result.stderr


def test_options_that_do_not_go_together_are_refused(models: Path, tmp_path: Path) -> None:
    start = (models / "run", models / "picture.png", "-o", tmp_path / "o")
    for more in (["--weights", "w"], ["--random-weights"], ["--labels", "l"], ["--width", "2"]):
        result = activations(*start, *more)
        assert result.exit_code == 2, more
    assert activations(models / "int8.tflite", models / "picture.png", "-o", tmp_path / "o", "--last").exit_code == 2


def test_a_file_of_complex_layers_has_nothing_to_show(tmp_path: Path) -> None:
    """LiteRT computes them; a picture has real values."""
    program = one_operator("CAST", [tensor("x", (1, 8, 8, 3))], tensor("y", (1, 8, 8, 3), "COMPLEX64"))
    path = tmp_path / "m.tflite"
    path.write_bytes(write_file(File((program,))))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "p.png")
    said = refused("tflite", "activations", path, tmp_path / "p.png", "--out", tmp_path / "out")
    assert "has no layer of real numbers whose size is fixed" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("input 40x2\nconv(5, 6) | relu | conv(3, 8, stride=2) | relu | globalpool | dense(3) | softmax\n", (40, 2)),
        ("input 8x10x12x1\nconv(3x3x3, 6) | relu | globalpool | dense(3) | softmax\n", (8, 10, 12, 1)),
        ("input 20\ndense(30) | relu | dense(3) | softmax\n", (20,)),
    ],
)
def test_signals_volumes_and_vectors_come_from_arrays(tmp_path: Path, text: str, shape: tuple[int, ...]) -> None:
    (tmp_path / "net.cnn").write_text(text)
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.save(tmp_path / "x.npy", array)
    start = (tmp_path / "net.cnn", tmp_path / "x.npy", "-o", tmp_path / "o", "--random-weights")
    result = activations(*start)
    assert result.exit_code == 0, result.output
    assert "no Grad-CAM" in result.stderr
    assert read_page(tmp_path / "o").counts["img"] >= 1
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "p.png")
    result = activations(tmp_path / "net.cnn", tmp_path / "p.png", "-o", tmp_path / "o", "--random-weights")
    assert "as a .npy file" in result.stderr
    np.save(tmp_path / "x.npy", array[:-1])
    assert "and `" in activations(*start).stderr
    (tmp_path / "x.npy").write_bytes(b"\x80\x04K\x01.")
    assert "cannot read" in activations(*start).stderr


def test_weights_that_are_no_numbers_are_told(models: Path, tmp_path: Path) -> None:
    run = open_run(models / "run")
    bias = np.full(12, np.nan, np.float32)
    broken = {**run.weights, "stem.conv2": {**run.weights["stem.conv2"], "bias": bias}}
    inspection = inspect(view_network(replace(run, weights=broken), "broken"), models / "picture.png")
    assert inspection.layers[1].figures.broken == 8 * 8 * 12
    assert inspection.cam is None
    assert "not finite" in inspection.no_cam
    assert "not finite" in page(inspection)


@pytest.mark.skipif(not GOOGLE.exists(), reason="needs Google's models in ../shared")
def test_google_s_file_says_egyptian_cat_and_where(tmp_path: Path) -> None:
    result = activations(
        GOOGLE, CORAL / "cat.bmp", "-o", tmp_path / "o", "--layers", "*expanded_conv_4*", "--format", "json"
    )
    words = json.loads(result.stdout)
    assert words["top"][0]["label"] == "Egyptian cat"
    assert words["cam"]["method"] == "CAM"
    assert all("StatefulPartitionedCall" not in layer["name"] for layer in words["layers"])


def test_a_file_by_itself_needs_no_jax(models: Path, tmp_path: Path) -> None:
    arguments = ["activations", str(models / "int8.tflite"), str(models / "picture.png"), "-o", str(tmp_path / "o")]
    code = (
        f"import sys\nfrom cnnc.cli import main\ntry: main({arguments})\nexcept SystemExit: pass\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert (tmp_path / "o" / "index.html").is_file()
    assert loaded.isdisjoint({"jax", "matplotlib", "optax", "tensorflow", "torch"})
