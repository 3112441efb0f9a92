"""The command activations on inputs that are no pictures of a run: signals, volumes, vectors, and files of others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnc.tflite_file.program import File
from cnnc.tflite_file.write import write_file
from tests.support.activation_pages import read
from tests.support.calling import call, refused
from tests.support.paths import SHARED
from tests.support.pictures import noise
from tests.support.tflite_programs import one_operator, tensor

CORAL = SHARED / "data" / "coral"
GOOGLE = CORAL / "tf2_mobilenet_v2_1.0_224_ptq.tflite"


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
    result = call("activations", *start)
    assert result.exit_code == 0, result.output
    assert "no Grad-CAM" in result.stderr
    assert read(tmp_path / "o").counts["img"] >= 1
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "p.png")
    result = call("activations", tmp_path / "net.cnn", tmp_path / "p.png", "-o", tmp_path / "o", "--random-weights")
    assert "as a .npy file" in result.stderr
    np.save(tmp_path / "x.npy", array[:-1])
    assert "and `" in call("activations", *start).stderr
    (tmp_path / "x.npy").write_bytes(b"\x80\x04K\x01.")
    assert "cannot read" in call("activations", *start).stderr


@pytest.mark.skipif(not GOOGLE.exists(), reason="needs Google's models in ../shared")
def test_google_s_file_says_egyptian_cat_and_where(tmp_path: Path) -> None:
    result = call(
        "activations",
        GOOGLE,
        CORAL / "cat.bmp",
        "-o",
        tmp_path / "o",
        "--layers",
        "*expanded_conv_4*",
        "--format",
        "json",
    )
    words = json.loads(result.stdout)
    assert words["top"][0]["label"] == "Egyptian cat"
    assert words["cam"]["method"] == "CAM"
    assert all("StatefulPartitionedCall" not in layer["name"] for layer in words["layers"])


@pytest.mark.skipif(not GOOGLE.exists(), reason="needs Google's models in ../shared")
@pytest.mark.slow
def test_a_page_of_mobilenet_v2_is_below_15_mb(tmp_path: Path) -> None:
    assert call("activations", GOOGLE, CORAL / "cat.bmp", "-o", tmp_path / "o").exit_code == 0
    assert (tmp_path / "o" / "index.html").stat().st_size < 15e6
    assert read(tmp_path / "o").counts["details"] == 62
