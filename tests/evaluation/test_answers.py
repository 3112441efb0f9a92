"""What predict says of networks that name no single class: values, several labels, maps; of weights and of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnc
from cnnc.backends.tflite.random_weights import random_weights
from cnnc.deployment.tflite import compile_tflite
from cnnc.evaluation import answers
from cnnc.evaluation.answers import activated, answer, of_two
from cnnc.evaluation.tflite import open_tflite
from cnnc.loading import load_text
from cnnc.ops import Dense, Sigmoid, Softmax
from cnnc.recipe import BinaryCrossEntropy, CrossEntropy, MeanSquaredError
from cnnc.runs.calibration import unlike_pixels
from cnnc.runs.folder import RunFolder
from cnnc.runs.trained import Trained
from cnnc.weights.weights_file import save_weights
from tests.support.calling import call, good
from tests.support.pictures import noise
from tests.support.tflite_pictures import brightness, described, identity, write

pytestmark = pytest.mark.fault("A3")
PICTURE = noise(4, 6, 1)
SUMS = PICTURE.astype(float).reshape(-1)


def write_model(folder: Path, name: str, layers: str, loss: str, kernel: Any, bias: Any) -> tuple[object, ...]:
    """A spec with one layer of weights, written into a folder with these, as the arguments that name both."""
    (folder / f"{name}.cnn").write_text(f"input 4x6x1\n{layers}\ntrain {{ loss {loss} }}\n")
    net = load_text((folder / f"{name}.cnn").read_text())
    (node,) = [node for node in net.graph if net.graph.weights(node)]
    arrays = {"kernel": np.asarray(kernel, np.float32), "bias": np.asarray(bias, np.float32)}
    save_weights(folder / f"{name}.safetensors", {node.name: arrays}, {})
    Image.fromarray(PICTURE).save(folder / "picture.png")
    return folder / f"{name}.cnn", "--weights", folder / f"{name}.safetensors"


def compiled(folder: Path, name: str, spec: tuple[object, ...]) -> Path:
    path = folder / f"{name}.tflite"
    assert call("compile", *spec, "--target", "tflite", "-o", path).exit_code == 0
    return path


def test_values_are_what_a_regression_gives(tmp_path: Path) -> None:
    kernel = np.stack([np.ones(24), np.linspace(-1, 1, 24)], axis=1)
    spec = write_model(tmp_path, "sums", "flatten | dense(2)", "mse", kernel, [0.5, 3.0])
    wanted = SUMS @ kernel + [0.5, 3.0]
    for model in (spec, (compiled(tmp_path, "sums", spec),)):
        (found,) = good("predict", *model, tmp_path / "picture.png")
        assert list(found) == ["image", "values"]
        np.testing.assert_allclose(found["values"], wanted, rtol=1e-4)
        lines = call("predict", *model, tmp_path / "picture.png").stdout.splitlines()[1:]
        assert [line.split()[0] for line in lines] == ["0", "1"]
        np.testing.assert_allclose([float(line.split()[1]) for line in lines], wanted, rtol=1e-4)
        assert "%" not in "".join(lines)
        assert good("activations", *model, tmp_path / "picture.png", "-o", tmp_path / f"page{len(model)}")["top"] == []


def test_a_single_value_stands_alone(tmp_path: Path) -> None:
    spec = write_model(tmp_path, "sum", "flatten | dense(1)", "mse", np.ones((24, 1)), [0.0])
    line = call("predict", *spec, tmp_path / "picture.png").stdout.splitlines()[1]
    assert line.strip() == f"{SUMS.sum():.6g}"


@pytest.mark.parametrize("ending", ["", " | sigmoid"])
def test_all_labels_that_are_likelier_than_not_are_named(ending: str, tmp_path: Path) -> None:
    logits = np.array([2.0, -1.0, 0.1, -3.0])
    layers = f"flatten | dense(4){ending}"
    spec = write_model(tmp_path, "labels", layers, "binary_cross_entropy", np.zeros((24, 4)), logits)
    (tmp_path / "names.txt").write_text("cat\ndog\nowl\nyak\n")
    wanted = 1 / (1 + np.exp(-logits))
    for model in (spec, (compiled(tmp_path, "labels", spec),)):
        named = (*model, "--labels", tmp_path / "names.txt", tmp_path / "picture.png")
        (found,) = good("predict", *named)
        assert [each["label"] for each in found["labels"]] == ["cat", "owl"]
        np.testing.assert_allclose([each["probability"] for each in found["labels"]], wanted[[0, 2]], rtol=1e-4)
        np.testing.assert_allclose(found["probabilities"], wanted, rtol=1e-4)
        # `--top` is for classes, of which one is right.
        assert call("predict", *named, "--top", 1).stdout.splitlines()[1:] == ["  cat   88.08 %", "  owl   52.50 %"]


def test_percentages_line_up_behind_names_that_are_escaped(tmp_path: Path) -> None:
    spec = write_model(tmp_path, "c", "flatten | dense(2)", "cross_entropy", np.zeros((24, 2)), [0.0, 0.0])
    (tmp_path / "names.txt").write_text("c\u202eat\nplain\n", encoding="utf-8")
    result = call("predict", *spec, "--labels", tmp_path / "names.txt", tmp_path / "picture.png")
    assert result.stdout.splitlines()[1:] == [r"  c\u202eat   50.00 %", "  plain       50.00 %"]


@pytest.mark.parametrize("ending", ["", " | sigmoid"])
def test_a_single_probability_is_of_two_classes(ending: str, tmp_path: Path) -> None:
    spec = write_model(tmp_path, "two", f"flatten | dense(1){ending}", "binary_cross_entropy", np.zeros((24, 1)), [1.0])
    for model in (spec, (compiled(tmp_path, "two", spec),)):
        (found,) = good("predict", *model, tmp_path / "picture.png")
        assert [each["label"] for each in found["top"]] == ["1", "0"]
        assert found["top"][0]["probability"] == pytest.approx(1 / (1 + np.exp(-1.0)), rel=1e-4)


def test_no_label_may_hold(tmp_path: Path) -> None:
    spec = write_model(tmp_path, "none", "flatten | dense(3)", "binary_cross_entropy", np.zeros((24, 3)), [-1, -2, -3])
    result = call("predict", *spec, tmp_path / "picture.png")
    assert result.stdout.splitlines()[1:] == ["  no label is likelier than not"]
    (found,) = good("predict", *spec, tmp_path / "picture.png")
    assert found["labels"] == []


def test_of_a_map_the_share_of_every_class_is_told(tmp_path: Path) -> None:
    """A 1x1 convolution that parts bright from dark: class 2 is never the likeliest."""
    kernel, bias = np.array([[[[-1.0, 1.0, 0.0]]]]), [128.0, -128.0, -1e4]
    spec = write_model(tmp_path, "mask", "conv(1x1, 3) | softmax", "cross_entropy", kernel, bias)
    share = float((PICTURE > 128).mean())
    for model in (spec, (compiled(tmp_path, "mask", spec),)):
        (found,) = good("predict", *model, tmp_path / "picture.png")
        assert found["places"] == [4, 6]
        assert {each["label"]: each["share"] for each in found["shares"]} == pytest.approx({"0": 1 - share, "1": share})
    first = call("predict", *spec, tmp_path / "picture.png").stdout.splitlines()[1]
    assert first.endswith(f"{100 * max(share, 1 - share):.2f} % of 4x6 places")


def test_of_a_map_of_one_sigmoid_and_of_values(tmp_path: Path) -> None:
    kernel = np.ones((1, 1, 1, 1))
    spec = write_model(tmp_path, "two", "conv(1x1, 1) | sigmoid", "binary_cross_entropy", kernel, [-128.0])
    (found,) = good("predict", *spec, tmp_path / "picture.png")
    share = float((PICTURE > 128).mean())
    assert {each["label"]: each["share"] for each in found["shares"]} == pytest.approx({"0": 1 - share, "1": share})
    spec = write_model(tmp_path, "depth", "conv(1x1, 1)", "mse", kernel, [0.0])
    (found,) = good("predict", *spec, tmp_path / "picture.png")
    assert np.array_equal(np.array(found["values"])[..., 0], PICTURE)
    (line,) = call("predict", *spec, tmp_path / "picture.png").stdout.splitlines()[1:]
    assert line == f"  4x6x1 values from {PICTURE.min()} to {PICTURE.max()}, mean {PICTURE.mean():.6g}"


def test_a_file_that_says_nothing_of_its_numbers_gives_them_as_they_are(tmp_path: Path) -> None:
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "picture.png")
    path = write(tmp_path / "m.tflite", brightness(softmax=False))
    result = call("predict", path, tmp_path / "picture.png")
    assert "does not say what its numbers stand for: `--labels` makes them classes" in result.stderr
    assert "%" not in result.stdout
    (tmp_path / "names.txt").write_text("dark\nlight\n")
    result = call("predict", path, "--labels", tmp_path / "names.txt", tmp_path / "picture.png")
    assert "numbers" not in result.stderr
    assert result.stdout.count("%") == 2


def test_how_files_of_others_are_read(tmp_path: Path) -> None:
    cases = (
        (brightness(), None, "classes"),
        (brightness(softmax=False), described(), "classes"),
        (brightness(softmax=False), None, None),
        (identity("FLOAT32"), None, None),
    )
    for program, description, wanted in cases:
        assert open_tflite(write(tmp_path / "m.tflite", program, description)).outputs[0].reading == wanted


def test_the_loss_decides_how_an_output_is_read() -> None:
    """With one class an example in the data even a sigmoid for each, or a squared error, parts classes."""
    for loss, end, width, one_each, wanted in (
        (CrossEntropy(), Softmax(), 5, False, ("classes", "softmax")),
        (CrossEntropy(), Dense(5), 5, True, ("classes", "softmax")),
        (BinaryCrossEntropy(), Sigmoid(), 5, True, ("classes", "sigmoid")),
        (BinaryCrossEntropy(), Dense(5), 5, False, ("labels", "sigmoid")),
        (BinaryCrossEntropy(), Dense(1), 1, False, ("classes", "sigmoid")),
        (MeanSquaredError(), Dense(5), 5, True, ("values", "none")),
        (MeanSquaredError(), Softmax(), 5, True, ("classes", "softmax")),
        (MeanSquaredError(), Sigmoid(), 1, True, ("values", "sigmoid")),
        (MeanSquaredError(), Sigmoid(), 5, False, ("values", "sigmoid")),
    ):
        assert answers.reading_of(loss, end, width, one_each=one_each) == wanted


@pytest.mark.parametrize("reading", ["classes", "labels", "values"])
def test_what_a_file_says_of_an_output_is_read_back(reading: answers.Reading) -> None:
    for end in (Softmax(), Sigmoid(), Dense(3)):
        assert answers.reading_in(answers.description_of(reading, end)) == reading
    assert answers.reading_in("") is None
    assert answers.reading_in("scores") is None


@pytest.mark.parametrize(
    ("low", "high", "are_pixels"),
    [(0, 32, False), (0, 33, True), (0, 255, True), (0, 256, False), (-1, 255, False), (32, 32, False)],
)
def test_pixels_go_from_zero_to_255_and_are_bright_somewhere(
    low: int, high: int, are_pixels: bool, tmp_path: Path
) -> None:
    graph = load_text("input 4x6x1\nflatten | dense(2)\n", "n.cnn").graph
    np.savez(kept := tmp_path / "kept.npz", input=np.linspace(low, high, 48, dtype=np.float32).reshape(2, 4, 6, 1))
    assert (unlike_pixels(kept, graph) == ()) is are_pixels


@pytest.mark.parametrize(
    ("scale", "shift", "told"),
    [
        (1, 0, ""),
        (1 / 255, 0, "go from 0 to 1:"),
        (1, -128, "go from -128 to 127:"),
        (257, 0, "go from 0 to 6.55e+04:"),
    ],
)
def test_arrays_that_were_no_pixels_are_told(scale: float, shift: float, told: str, tmp_path: Path) -> None:
    pixels = np.resize(np.arange(256), (32, 4, 6, 1))
    graph = load_text("input 4x6x1\nflatten | dense(2)\n", "n.cnn").graph
    np.savez(kept := tmp_path / "kept.npz", input=(pixels * scale + shift).astype(np.float32))
    assert told in "".join(unlike_pixels(kept, graph))
    assert bool(unlike_pixels(kept, graph)) is bool(told)
    np.savez(kept, input=pixels.astype(np.uint8))
    assert unlike_pixels(kept, graph) == unlike_pixels(None, graph) == ()


@pytest.mark.parametrize("is_pixels", [True, False])
def test_the_file_of_a_run_of_other_arrays_does_not_say_that_it_takes_pixels(is_pixels: bool, tmp_path: Path) -> None:
    pixels = np.resize(np.arange(256), (32, 4, 6, 1)).astype(np.float32)
    net = load_text("input 4x6x1\nnormalize(unit) | flatten | dense(2)\n", "n.cnn")
    np.savez(RunFolder(tmp_path).calibration, input=pixels if is_pixels else pixels / 100 - 1)
    trained = Trained(net, random_weights(net.graph, 0), folder=RunFolder(tmp_path))
    (path := tmp_path / "m.tflite").write_bytes(compile_tflite(trained, "tflite", None, None).data)
    model = open_tflite(path)
    assert model.description is not None
    (note,) = model.description.inputs
    assert (note.is_image, bool(note.mean), bool(note.std)) == (is_pixels, is_pixels, is_pixels)
    assert note.description == ("pixels of 0 to 255, as they are" if is_pixels else
                                "numbers as in training, which go from -1 to 1.55")  # fmt: skip
    assert ["which go from -1 to 1.55, and pixels go in as 0 to 255" in each for each in model.notes] == (
        [] if is_pixels else [True]
    )


@pytest.mark.slow
def test_a_run_of_arrays_that_were_no_pixels_says_so_of_pictures(tmp_path: Path) -> None:
    """It was right of x / 255, and of pixels of 0 to 255 it says anything."""
    net = load_text("input 4x6x1\nconv(3x3, 2) | globalpool | dense(2) | softmax\ntrain { epochs 1 }\n", "n.cnn")
    examples = (np.random.default_rng(0).random((32, 4, 6, 1), np.float32), np.arange(32) % 2)
    cnnc.train(net, examples, val=examples, out=tmp_path / "run")
    Image.fromarray(PICTURE).save(picture := tmp_path / "picture.png")
    for command, *rest in (("predict",), ("activations", "-o", tmp_path / "page")):
        result = call(command, tmp_path / "run", picture, *rest)
        assert result.exit_code == 0, result.output
        assert "pixels go in as 0 to 255, and the arrays that the run was trained on" in result.stderr


def test_a_single_sigmoid_is_of_two_classes() -> None:
    (dark, light) = answer(np.array([0.25]), "classes", ("dark", "light"), 2).guesses
    assert (dark.label, dark.probability, light.probability) == ("dark", 0.75, 0.25)
    np.testing.assert_allclose(of_two(np.array([[0.25, 0.5]])), [[0.25, 0.5]])
    np.testing.assert_allclose(activated(np.array([[0.0, np.log(3)]]), "softmax"), [[0.25, 0.75]])
