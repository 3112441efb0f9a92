"""Google's MobileNetV2 as our own: read out of its 8-bit file, run, compiled again, and taught cats and dogs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.support.calling import call
from tests.support.paths import SHARED

CORAL = SHARED / "data" / "coral"
SAMPLES = SHARED / "data" / "imagenet-samples"
PETS = SHARED / "data" / "catsdogs"
FILE = CORAL / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
LABELS = CORAL / "imagenet_labels.txt"

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="Google's MobileNetV2 and the pictures are not there")


def cnnc(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weights") / "mobilenet_v2.safetensors"
    said = json.loads(cnnc("import-weights", "mobilenet_v2", FILE, "--drop-class", 0, "-o", out, "--format", "json"))
    assert len(said["layers"]) == 53
    assert not said["initial"]
    assert not said["unused"]
    return out


def top1(what: object, pictures: Path, *options: object) -> float:
    """The share of right answers on pictures of ImageNet, in points."""
    table = ["--classes", SAMPLES / "classes.tsv", "--crop", 0.875, "--format", "json"]
    return 100 * float(json.loads(cnnc("eval", what, "--data", pictures, *table, *options))["top1"])


@pytest.mark.parametrize(
    ("picture", "animals"),
    [("cat.bmp", ("Egyptian cat", "tabby", "tiger cat")), ("bird.bmp", ("chickadee",)), ("parrot.jpg", ("macaw",))],
)
def test_it_knows_a_cat_and_two_birds(picture: str, animals: tuple[str, ...], weights: Path) -> None:
    said = json.loads(
        cnnc("predict", "mobilenet_v2", "--weights", weights, "--labels", LABELS, "--format", "json", CORAL / picture)
    )
    assert said[0]["top"][0]["label"].startswith(animals)


@pytest.mark.slow
def test_it_is_as_right_as_the_file_and_loses_nothing_when_compiled_again(weights: Path, tmp_path: Path) -> None:
    pictures = sorted(SAMPLES.glob("*.jpg"))
    random.Random(0).shuffle(pictures)
    calibration, others = tmp_path / "calibration", tmp_path / "others"
    for folder, part in ((calibration, pictures[:100]), (others, pictures[100:])):
        folder.mkdir()
        for picture in part:
            (folder / picture.name).symlink_to(picture)
    spec = ("mobilenet_v2", SAMPLES, "--weights", weights)
    assert top1(*spec) >= top1(FILE, SAMPLES, "--labels", LABELS) - 0.5
    compiled = tmp_path / "mobilenet_v2.tflite"
    options = ("--target", "edgetpu", "--calibrate", calibration, "--crop", 0.875, "-o", compiled)
    cnnc("compile", "mobilenet_v2", "--weights", weights, *options)
    assert top1(compiled, others) >= top1("mobilenet_v2", others, "--weights", weights) - 0.7


@pytest.mark.slow
def test_it_learns_cats_and_dogs_from_sixty_pictures(weights: Path, tmp_path: Path) -> None:
    how = ("--freeze", "stem,blocks,head.conv1,head.bn1", "--lr", 0.01, "--epochs", 12, "--batch", 20)
    run = tmp_path / "run"
    cnnc("train", "mobilenet_v2", "--set", "classes=2", "--weights", weights, "--data", PETS, *how, "--out", run)
    measured = json.loads(cnnc("eval", run, "--format", "json"))
    assert 60 * measured["top1"] >= 59
