"""The accuracy of a TFLite file on data: classes told by their names, and the loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnc.diagnostics import CnnError
from cnnc.evaluation.class_labels import places_of
from cnnc.evaluation.evaluate import Evaluation, evaluate_on
from cnnc.evaluation.predictor import predict
from cnnc.evaluation.test_set import load_test_set
from cnnc.evaluation.tflite import TFLitePredictor, open_tflite
from tests.support.pictures import make_tree
from tests.support.tflite_pictures import CLASSES, brightness, described, write


def measure(model: TFLitePredictor, data: str, batch: int = 128) -> Evaluation:
    return evaluate_on(model, load_test_set(model, data), batch=batch)


@pytest.mark.parametrize("swapped", [False, True])
def test_classes_are_told_by_their_names(tmp_path: Path, swapped: bool) -> None:
    make_tree(tmp_path / "data", {"dark": 7, "light": 5})
    names = ("Light", "dark") if swapped else CLASSES
    model = open_tflite(write(tmp_path / "m.tflite", brightness(swapped=swapped), described(names)))
    found = measure(model, str(tmp_path / "data"), batch=4)
    assert (found.scores.top1, found.scores.count, found.classes) == (1.0, 12, names)
    assert found.scores.confusion is not None
    assert found.scores.confusion.tolist() == ([[5, 0], [0, 7]] if swapped else [[7, 0], [0, 5]])
    assert found.what == f"all 12 pictures of {tmp_path / 'data'}"


def test_wrong_answers_count_as_such(tmp_path: Path) -> None:
    make_tree(tmp_path / "data", {"dark": 3, "light": 2})
    model = open_tflite(write(tmp_path / "m.tflite", brightness(swapped=True)))
    found = measure(model, str(tmp_path / "data"))
    assert found.scores.top1 == 0.0
    assert found.scores.loss > 1
    assert found.classes == CLASSES  # the data's, in order, as the file has none


def test_the_loss_is_the_cross_entropy(tmp_path: Path) -> None:
    for level, name in ((100, "dark"), (150, "light")):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / "data" / name / "a.png")
    found = measure(open_tflite(write(tmp_path / "m.tflite", brightness())), str(tmp_path / "data"))
    margins = np.array([0.12 * 28, 0.12 * 22])
    assert found.scores.loss == pytest.approx(np.log1p(np.exp(-margins)).mean(), rel=1e-4)


def test_classes_that_the_file_lacks_are_listed(tmp_path: Path) -> None:
    make_tree(tmp_path / "data", {"dark": 2, "lihgt": 2, "grey": 2})
    model = open_tflite(write(tmp_path / "m.tflite", brightness(), described()))
    with pytest.raises(CnnError) as caught:
        measure(model, str(tmp_path / "data"))
    assert "2 classes of the data are not among the labels" in str(caught.value)
    assert "`grey`, `lihgt`" in str(caught.value)
    bare = open_tflite(write(tmp_path / "bare.tflite", brightness()))
    with pytest.raises(CnnError, match="has 2 and no labels"):
        measure(bare, str(tmp_path / "data"))


def test_a_class_is_found_by_any_name_that_is_one_label_s_alone(tmp_path: Path) -> None:
    names = ("tench, Tinca tinca", "crane", "crane", "crayfish, crawfish", "lobster, crayfish", "fly, bee")
    assert places_of(names, ("Tinca_tinca", "tench", "crawfish", "Lobster", "bee"), 6, "`m`") == [0, 0, 3, 4, 5]
    assert places_of(names, ("crayfish",), 6, "`m`") == [3]  # the first name of one goes before the second of another
    with pytest.raises(CnnError, match=r"several labels of .* have the name of a class of the data: `crane`"):
        places_of(names, ("tench", "crane"), 6, "`m`")


def test_labels_of_another_number_than_the_classes_are_refused(tmp_path: Path) -> None:
    make_tree(tmp_path / "data", {"dark": 2, "light": 2})
    model = open_tflite(write(tmp_path / "m.tflite", brightness(), described(("a", "b", "c"))))
    with pytest.raises(CnnError, match=r"`.*` has 2 classes, and the list 3 labels"):
        measure(model, str(tmp_path / "data"))
    with pytest.raises(CnnError, match="the list 3 labels"):
        predict(model, [])
