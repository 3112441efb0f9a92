"""Pictures to TFLite files and labels back: what the file says of both, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cnnc.diagnostics import CnnError
from cnnc.evaluation.predictor import predict
from cnnc.evaluation.tflite import open_tflite
from cnnc.tflite_file.metadata import Description
from cnnc.tflite_file.program import Program
from tests.support.paths import SHARED
from tests.support.pictures import noise, truncate
from tests.support.tflite_pictures import brightness, described, identity, write
from tests.support.tflite_programs import one_operator, tensor

CORAL = SHARED / "data" / "coral"
GOOGLE = CORAL / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
MODELS = SHARED / "edgetpu" / "models"


@pytest.mark.parametrize(
    ("kind", "scale", "description", "expected"),
    [
        ("UINT8", 1 / 127.5, None, lambda p: p),
        ("UINT8", 1 / 127.5, described(mean=(127.5,), std=(127.5,)), lambda p: p),
        ("INT8", 1 / 64, None, lambda p: p.astype(int) - 128),
        ("FLOAT32", None, None, lambda p: p.astype(float)),
        ("FLOAT32", None, described(mean=(127.5,), std=(127.5,)), lambda p: (p - 127.5) / 127.5),
        ("FLOAT32", None, described(mean=(1, 2, 3), std=(4, 5, 6)), lambda p: (p - np.arange(1, 4)) / np.arange(4, 7)),
        ("FLOAT32", None, described(mean=(1, 2), std=(4, 5)), lambda p: p.astype(float)),
    ],
)
def test_a_picture_becomes_what_the_input_takes(
    tmp_path: Path,
    kind: str,
    scale: float | None,
    description: Description | None,
    expected: Callable[[NDArray[np.uint8]], NDArray[Any]],
) -> None:
    model = open_tflite(write(tmp_path / "m.tflite", identity(kind, scale), description))
    picture = noise(2, 2, 3)[None]
    got = model.runner.raw({"x": model.stored(picture)})["y"]
    np.testing.assert_allclose(got, expected(picture).reshape(1, 12), rtol=1e-6)


def test_a_float_file_that_says_nothing_of_pixels_is_noted_and_ours_is_not(tmp_path: Path) -> None:
    program = identity("FLOAT32")
    (note,) = open_tflite(write(tmp_path / "theirs.tflite", program)).notes
    assert "does not say how pixels become its float input" in note
    ours = replace(described(), spec_sha256="0" * 64)
    assert open_tflite(write(tmp_path / "ours.tflite", program, ours)).notes == ()
    assert open_tflite(write(tmp_path / "int8.tflite", identity("INT8", 1.0))).notes == ()


def test_predictions_are_the_labels_of_the_file_or_of_a_list(tmp_path: Path) -> None:
    Image.new("L", (20, 30), 40).save(tmp_path / "night.png")
    Image.new("RGB", (8, 8), (200, 210, 220)).save(tmp_path / "day.png")
    pictures = [tmp_path / "night.png", tmp_path / "day.png"]
    path = write(tmp_path / "m.tflite", brightness(), described())
    found = predict(open_tflite(path), pictures)
    assert [each.guesses[0].label for each in found] == ["dark", "light"]
    assert sum(guess.probability for guess in found[0].guesses) == pytest.approx(1)
    (tmp_path / "names.txt").write_text("0 Nacht\n1 Tag\n")
    found = predict(open_tflite(path, labels=tmp_path / "names.txt"), pictures, 1)
    assert [[guess.label for guess in each.guesses] for each in found] == [["Nacht"], ["Tag"]]
    found = predict(open_tflite(write(tmp_path / "bare.tflite", brightness())), pictures, 1)
    assert [each.guesses[0].label for each in found] == ["0", "1"]


def test_logits_are_turned_into_probabilities(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 140).save(tmp_path / "day.png")
    ended, open = (write(tmp_path / f"{e}.tflite", brightness(softmax=e), described()) for e in (True, False))
    (shares,), (logits,) = (predict(open_tflite(path), [tmp_path / "day.png"]) for path in (ended, open))
    assert [guess.label for guess in logits.guesses] == [guess.label for guess in shares.guesses]
    np.testing.assert_allclose(logits.values, shares.values, rtol=1e-5)


@pytest.mark.skipif(not GOOGLE.exists(), reason="needs Google's models in ../shared")
def test_google_s_mobilenet_sees_what_is_there() -> None:
    found = predict(open_tflite(GOOGLE), [CORAL / name for name in ("cat.bmp", "bird.bmp", "parrot.jpg")], 1)
    assert [each.guesses[0].label for each in found] == ["Egyptian cat", "chickadee", "macaw"]


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    good = write(tmp_path / "good.tflite", brightness())
    for name, content, words in (
        ("empty", b"", "is empty"),
        ("text", b"this is a text\n", "is no TFLite file"),
        ("cut", good.read_bytes()[:900], "is damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CnnError, match=words):
            open_tflite(tmp_path / name)
    with pytest.raises(CnnError, match="there is no file"):
        open_tflite(tmp_path / "gone.tflite")


@pytest.mark.skipif(not GOOGLE.exists(), reason="needs Google's models in ../shared")
def test_a_real_file_cut_short_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    source = MODELS / "gabor_64x64_p4.tflite"
    for share in (0.05, 0.3, 0.6, 0.9):
        shutil.copyfile(source, tmp_path / "m.tflite")
        truncate(tmp_path / "m.tflite", share)
        with pytest.raises(CnnError) as caught:
            open_tflite(tmp_path / "m.tflite")
        assert caught.value.diagnostics[0].code == "tflite"


def test_an_operator_that_litert_lacks_is_named(tmp_path: Path) -> None:
    program = one_operator("CUSTOM", [tensor("x", (1, 4))], tensor("y", (1, 4)))
    odd = replace(program, operators=(replace(program.operators[0], custom="OddOp"),))
    with pytest.raises(
        CnnError, match=r"operator 0, OddOp, failed to prepare: Encountered unresolved custom op: OddOp"
    ):
        open_tflite(write(tmp_path / "m.tflite", odd))


def test_labels_that_cannot_be_unpacked_are_left_out_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tflite", brightness(), described(mean=(0.0,), std=(1.0,)))
    data = bytearray(path.read_bytes())
    data[data.index(b"dark\nlight\n")] ^= 1  # its checksum is of other bytes
    path.write_bytes(bytes(data))
    model = open_tflite(path)
    assert model.classes == ()
    assert any("cannot be unpacked: bad CRC-32" in note for note in model.notes)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (one_operator("ADD", [tensor("a", (1, 8, 8, 3)), tensor("b", (1, 8, 8, 3))], tensor("c", (1, 8, 8, 3))), "sev"),
        (one_operator("RELU", [tensor("a", (1, 8, 8, 5))], tensor("c", (1, 8, 8, 5))), "a picture is height x"),
        (one_operator("RELU", [tensor("a", (1, 7))], tensor("c", (1, 7))), "takes 7, and a picture"),
    ],
)
def test_what_is_no_classifier_of_pictures_predicts_nothing(tmp_path: Path, program: Program, words: str) -> None:
    model = open_tflite(write(tmp_path / "m.tflite", program))
    with pytest.raises(CnnError, match=words):
        predict(model, [tmp_path / "x.png"])


def test_a_file_that_takes_whole_numbers_is_refused(tmp_path: Path) -> None:
    model = open_tflite(write(tmp_path / "m.tflite", identity("INT32")))
    with pytest.raises(CnnError, match="takes int32, and pictures go in as uint8, int8 or float32"):
        predict(model, [tmp_path / "never.png"])


def test_more_values_than_the_file_says_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_tflite(write(tmp_path / "m.tflite", brightness()))
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "p.png")
    monkeypatch.setattr(
        "cnnc.backends.tflite.litert.runner.Runner.__call__", lambda runner, arrays: {"class": np.zeros((1, 3))}
    )
    with pytest.raises(CnnError, match="gives 3 values, and says that they are 2"):
        predict(model, [tmp_path / "p.png"])
