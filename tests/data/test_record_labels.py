"""Labels of records: numbers that count from 0 or 1, words for them, and those that training lacked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnc.data.sources.data_set import Files, Part, Records
from cnnc.data.sources.record_sets import load_records
from cnnc.evaluation.evaluate import evaluate_on
from cnnc.evaluation.predictor import Output
from cnnc.evaluation.test_set import TestSet, label_as, load_test_set
from cnnc.evaluation.tflite import open_tflite
from cnnc.recipe import CrossEntropy
from tests.support.calling import error_of
from tests.support.pictures import make_tree
from tests.support.record_files import example, imagenet, of, record, write_records
from tests.support.tflite_pictures import brightness, described, write

pytestmark = pytest.mark.usefixtures("data_cache")


def predictor_of(classes: tuple[str, ...]) -> Any:
    """What is asked of a predictor before it computes anything."""
    output = Output("class", (len(classes),), "none", "classes", CrossEntropy())
    return SimpleNamespace(name="m", classes=classes, data=None, outputs=(output,))


def labelled_as(classes: tuple[str, ...], test_set: TestSet) -> Part:
    return label_as(predictor_of(classes), test_set)[0]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (example({"image/encoded": b"x"}), "has no label"),
        (example({"image/class/label": 1}), "holds no picture"),
        (of(-1, 0), "has the label -1, and labels are not negative"),
        (of(5000, 0), "has the label 5000, and the 16 records have only 4 different ones"),
        (of(2**40, 0), f"has the label {2**40}"),
    ],
)
def test_labels_out_of_range_are_named_with_their_record(tmp_path: Path, content: bytes, wanted: str) -> None:
    root = imagenet(tmp_path / "set")
    path = root / "train-00001-of-00003"
    offset = path.stat().st_size
    path.write_bytes(path.read_bytes() + record(content))
    message = error_of(lambda: load_records(root))
    assert wanted in message
    assert str(path) in message
    assert str(offset) in message


def test_a_label_that_the_training_records_lack_is_named(tmp_path: Path) -> None:
    root = imagenet(tmp_path / "set")
    path = root / "validation-00000-of-00001"
    path.write_bytes(path.read_bytes() + record(of(4, 0)))
    message = error_of(lambda: load_records(root))
    assert f"`{path}/byte" in message
    assert "has the label 4, and the training records' go up to 3" in message


@pytest.mark.fault("D1")
@pytest.mark.parametrize("texts", [True, False])
@pytest.mark.parametrize(
    ("trained", "tested"),
    [
        ((0, 1, 2), (1, 2, 1)),
        ((0, 1, 2), (2, 0, 0)),
        ((1, 2, 3), (2, 3, 3)),
        ((1, 2, 3), (1, 3, 1)),
        ((0, 1), (1, 1, 1)),
    ],
)
def test_labels_mean_what_they_meant_in_training(
    trained: tuple[int, ...], tested: tuple[int, ...], texts: bool, tmp_path: Path
) -> None:
    """Whichever of them other records hold, and from what these would seem to count."""
    own = load_records(write_records(tmp_path / "own", trained, trained, texts=texts))
    other = load_records(write_records(tmp_path / "other", tested, tested, texts=texts))
    assert isinstance(own.train, Records)
    place = dict(zip(trained, own.train.labels.tolist(), strict=True))
    wanted = [place[label] for label in tested]
    part = labelled_as(own.classes, TestSet(other.test, other.classes, ""))
    assert isinstance(part, Records)
    assert part.labels.tolist() == wanted
    assert own.classes == tuple(f"class {n}" if texts else str(n) for n in trained)


@pytest.mark.fault("D1")
def test_a_label_that_training_lacked_is_named(tmp_path: Path) -> None:
    own = load_records(write_records(tmp_path / "own", (1, 2, 3), (1, 2, 3), texts=False))
    other = load_records(write_records(tmp_path / "other", (0, 1, 2), (0, 1, 2), texts=False))
    message = error_of(lambda: labelled_as(own.classes, TestSet(other.test, other.classes, "")))
    assert "a class of the data is not among the labels of `m`: `0`" in message


@pytest.mark.fault("D1")
def test_a_file_finds_the_labels_of_records_by_name(tmp_path: Path) -> None:
    """The records count three classes, and there are none of the one between the others."""
    root = write_records(tmp_path / "set", (0, 2, 2), (0, 2, 2), texts=True)
    model = open_tflite(write(tmp_path / "m.tflite", brightness(), described(("class 2", "class 0"))))
    scores = evaluate_on(model, load_test_set(model, str(root))).scores
    assert scores.confusion is not None
    assert scores.confusion.sum(axis=1).tolist() == [2, 1]


@pytest.mark.fault("D1")
def test_folders_keep_their_numbering_too(tmp_path: Path) -> None:
    make_tree(tmp_path / "other", {"1": 2, "2": 3})
    part = labelled_as(("0", "1", "2"), load_test_set(predictor_of(("0", "1", "2")), str(tmp_path / "other")))
    assert isinstance(part, Files)
    assert part.labels.tolist() == [1, 1, 2, 2, 2]
