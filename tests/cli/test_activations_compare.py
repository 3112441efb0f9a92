"""The command activations with two models: how their layers are paired, and how far they are apart."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.support.activations import SHOWN, SPEC, activations, read_page
from tests.support.calling import call


@pytest.mark.parametrize("name", ["int8", "float"])
def test_a_run_beside_its_file_differs_as_diff_says(models: Path, tmp_path: Path, name: str) -> None:
    arguments = (models / "picture.png", "--format", "json", "-o")
    result = activations(models / "run", *arguments, tmp_path / "a", "--compare", models / f"{name}.tflite")
    assert result.exit_code == 0, result.output
    words = json.loads(result.stdout)
    assert [layer["name"] for layer in words["layers"]] == SHOWN
    assert words["other"]["paired"] == "by name"
    least = 20 if name == "int8" else 90
    assert all(layer["sqnr_db"] is None or layer["sqnr_db"] > least for layer in words["layers"])
    # Input and its channels, Grad-CAM, filters, three grids a layer.
    assert read_page(tmp_path / "a").counts["img"] == 4 + 1 + 1 + 9
    turned = activations(models / f"{name}.tflite", *arguments, tmp_path / "b", "--compare", models / "run")
    assert turned.exit_code == 0, turned.output
    for mine, theirs in zip(words["layers"], json.loads(turned.stdout)["layers"], strict=True):
        assert mine["sqnr_db"] == pytest.approx(theirs["sqnr_db"], abs=1e-3)
        assert mine["largest_difference"] == pytest.approx(theirs["largest_difference"], rel=1e-4)
    assert "no Grad-CAM: a TFLite file has no gradients" in turned.stderr


def test_the_differences_of_one_picture_are_those_of_cnnc_diff(models: Path, tmp_path: Path) -> None:
    (tmp_path / "one" / "dark").mkdir(parents=True)
    shutil.copy(models / "picture.png", tmp_path / "one" / "dark")
    arguments = ["diff", models / "run", models / "int8.tflite", "--data", tmp_path / "one", "--format", "json"]
    by_diff = json.loads(call(*arguments).stdout)
    sqnr = {layer["name"]: layer["sqnr_db"] for layer in by_diff["layers"]}
    result = activations(
        *(models / "run", models / "picture.png", "--compare", models / "int8.tflite", "-o", tmp_path / "o"),
        *("--layers", "*", "--format", "json"),
    )
    for layer in json.loads(result.stdout)["layers"]:
        assert layer["sqnr_db"] == pytest.approx(sqnr[layer["name"]], abs=0.01)


def test_files_are_compared_by_name_and_the_worst_layers_are_told(models: Path, tmp_path: Path) -> None:
    result = activations(
        models / "float.tflite", models / "picture.png", "-o", tmp_path / "o", "--compare", models / "int8.tflite"
    )
    assert result.exit_code == 0, result.output
    told = re.findall(r"^  (\S+) +([\d.]+) dB", result.stdout, re.MULTILINE)
    assert sorted(name for name, _ in told) == sorted(SHOWN)
    assert [float(sqnr) for _, sqnr in told] == sorted(float(sqnr) for _, sqnr in told)


def test_other_networks_are_not_compared(models: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.cnn"
    other.write_text("input 16x16x3\nconv(3x3, 4) | relu | globalpool | dense(2) | softmax\n")
    start = (models / "picture.png", "-o", tmp_path / "o", "--random-weights", "--compare")
    result = activations(other, *start, models / "int8.tflite")
    assert result.exit_code == 1
    assert "cannot be paired" in result.stderr
    other.write_text("input 8x8x3\nconv(3x3, 4) | relu | globalpool | dense(2) | softmax\n")
    result = activations(other, *start, models / "run")
    assert "takes 8x8x3" in result.stderr


def test_others_files_are_paired_by_order_and_shape(models: Path, tmp_path: Path) -> None:
    text = SPEC.replace("stem:", "first:").replace("body:", "second:")
    (tmp_path / "renamed.cnn").write_text(text)
    result = activations(
        *(tmp_path / "renamed.cnn", models / "picture.png", "-o", tmp_path / "o", "--random-weights"),
        *("--compare", models / "int8.tflite", "--format", "json"),
    )
    words = json.loads(result.stdout)
    assert words["other"]["paired"] == "by order and shape"
    assert [layer["name"] for layer in words["layers"]] == ["first.relu1", "first.relu2", "second"]
