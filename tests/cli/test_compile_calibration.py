"""The pictures that compile measures ranges and accuracy on: any folder of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.support.calling import call, good, refused
from tests.support.pictures import make_tree, noise, truncate
from tests.support.small_runs import CONVOLUTIONS, train_small


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of two classes, and a run trained on them."""
    return train_small(tmp_path_factory.mktemp("made"), CONVOLUTIONS)


def test_ranges_are_measured_on_any_folder_of_pictures(made: Path, empty: Path) -> None:
    """Sorted by class or not: ranges need no labels."""
    make_tree(empty / "sorted", {"cat": 9, "dog": 9})
    (empty / "loose").mkdir()
    for i in range(18):
        Image.fromarray(noise(20, 30, 3, seed=i)).save(empty / "loose" / f"{i}.png")
    for folder in ("sorted", "loose"):
        command = ("compile", made / "run", "--target", "tflite-int8", "--calibrate", folder, "-o", "a.tflite")
        assert good(*command)["quantization"]["samples"] == f"18 pictures of {folder}"
        few = call(*command, "--samples", 4)
        assert few.exit_code == 0
        assert few.stderr == (
            f"note: ranges are measured on only 4 pictures of {folder}, and the next may leave them; "
            "100 are a safer number\n"
        )


def test_pictures_without_contrast_are_refused(made: Path, empty: Path) -> None:
    (empty / "black").mkdir()
    for i in range(3):
        Image.new("RGB", (8, 8)).save(empty / "black" / f"{i}.png")
    command = ("compile", made / "run", "--target", "tflite-int8", "--calibrate", "black", "-o", "a.tflite")
    assert "each of the 3 calibration pictures of `black` is of a single colour" in refused("calibration", *command)
    assert not Path("a.tflite").exists()


def test_calibration_data_that_is_missing_or_cannot_be_read_is_named(made: Path, empty: Path) -> None:
    make_tree(empty / "broken", {"cat": 9})
    truncate(empty / "broken/cat/003.png", 0.4)
    (empty / "none").mkdir()
    Path("board.cnn").write_text("input 9x9x17\nconv(3x3, 4) | relu | flatten | dense(2)\n")
    command = ("compile", made / "run", "--target", "tflite-int8", "-o", "a.tflite", "--calibrate")
    assert "there is no data set and no folder `digitz`" in refused("data", *command, "digitz")
    assert "`none` holds no pictures" in refused("data", *command, "none")
    assert "003.png" in refused("picture", *command, "broken")
    board = (
        "compile",
        "board.cnn",
        "--random-weights",
        "--target",
        "edgetpu",
        "-o",
        "a.tflite",
        "--calibrate",
        "digits",
    )
    assert "pictures of 17 channels, and the data's have 1" in refused("data", *board)
    assert "it is not said on which" in refused(
        "calibration",
        *("compile", made / "tiny.cnn", "--weights", made / "run/weights/best.safetensors"),
        *("--target", "tflite-int8", "-o", "a.tflite"),
    )
    assert not Path("a.tflite").exists()
    assert good(*command, "broken", "--skip-corrupt")["quantization"]["samples"] == "8 pictures of broken"


def test_data_of_other_classes_measures_nothing(made: Path, empty: Path) -> None:
    make_tree(empty / "pets", {"cat": 3, "dog": 3, "owl": 3})
    command = ("compile", made / "run", "--target", "tflite-int8", "-o", "a.tflite", "--data", "pets")
    message = refused("labels", *command)
    assert "3 classes of the data are not among the labels of `tiny`: `cat`, `dog`, `owl`" in message
    spec = ("compile", "mlp", "--random-weights", "--target", "tflite-int8", "-o", "a.tflite", "--data", "pets")
    assert "the data has 3 classes, and `mlp` has 10 and no labels" in refused("labels", *spec)
    assert not Path("a.tflite").exists()
