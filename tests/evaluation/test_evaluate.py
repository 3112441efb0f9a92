"""One evaluation for whatever predicts: a network in jax, its file on LiteRT, its Keras model; and scikit-learn's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from cnnc.backends.tflite.compile import compile_float
from cnnc.data.feeding.feed import Feed, prepare
from cnnc.data.sources.data_set import Examples
from cnnc.deployment.tflite import pack
from cnnc.diagnostics import CnnError
from cnnc.evaluation.evaluate import evaluate, evaluate_on
from cnnc.evaluation.network import network_predictor
from cnnc.evaluation.predictor import Input, Output, Predictor, Values
from cnnc.evaluation.test_set import TestSet
from cnnc.evaluation.tflite import open_tflite
from cnnc.loading import load_text
from cnnc.runs.data_note import DataNote
from cnnc.runs.folder import RunFolder
from cnnc.runs.trained import Trained
from tests.support.pictures import noise, truncate
from tests.support.tflite_pictures import brightness, described, write
from tests.support.tflite_programs import one_operator, tensor

TEXT = "input 8x8x3\nnormalize(unit) | conv(3x3, 4) | relu | flatten | dense({width}){end}\ntrain {{ loss {loss} }}\n"
ENDS = {
    "softmax": TEXT.format(width=7, end=" | softmax", loss="cross_entropy"),
    "logits": TEXT.format(width=7, end="", loss="cross_entropy"),
    "two": TEXT.format(width=1, end=" | sigmoid", loss="binary_cross_entropy"),
    "labels": TEXT.format(width=7, end=" | sigmoid", loss="binary_cross_entropy"),
    "values": TEXT.format(width=7, end="", loss="mse"),
}


@dataclass(frozen=True)
class KerasPredictor:
    """A Keras model, whose answers need no activation."""

    model: Any
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    name: str = "keras"
    classes: tuple[str, ...] = ()
    data: DataNote | None = None

    def predict(self, inputs: Values, valid: NDArray[np.bool_] | None = None) -> Values:
        return (np.asarray(self.model(inputs[0].astype(np.float32))),)


def trained(end: str, tmp_path: Any) -> Trained:
    """A run whose weights tell examples apart."""
    net = load_text(ENDS[end], "n.cnn")
    return Trained(net, net.init(3), folder=RunFolder(tmp_path))


def feed_for(network: Trained) -> Feed:
    width = max(network.net.graph[network.net.graph.outputs[0][1]].shape[-1], 2)
    pictures = np.stack([noise(8, 8, 3, seed=i) for i in range(37)])
    return prepare(Examples((pictures,), (np.arange(37, dtype=np.int32) % width,)), [(8, 8, 3)])


def others(network: Trained, own: Predictor) -> dict[str, Predictor]:
    from cnnc.backends.keras.build import build

    model = build(network.net.graph, network.weights)
    ended = network.net.graph[network.net.graph.outputs[0][1]].op.name in ("softmax", "sigmoid")
    outputs = tuple(replace(each, activation="none") if ended else each for each in own.outputs)
    file = open_tflite(pack(network, compile_float(network.model)))
    return {"keras": KerasPredictor(model, own.inputs, outputs), "litert": file}


@pytest.mark.parametrize("end", ENDS)
def test_a_network_is_as_good_in_keras_and_as_a_file(end: str, tmp_path: Any) -> None:
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("keras")
    network = trained(end, tmp_path)
    own, feed = network_predictor(network), feed_for(network)
    (mine,) = evaluate(own, feed, 8)
    assert mine.confusion is not None
    assert 0 < (mine.top1 or 0) < 1
    for name, predictor in others(network, own).items():
        (theirs,) = evaluate(predictor, feed, 8)
        assert theirs.confusion is not None, name
        np.testing.assert_array_equal(theirs.confusion, mine.confusion, err_msg=name)
        assert (theirs.count, theirs.top1, theirs.top5) == (37, mine.top1, mine.top5), name
        assert theirs.loss == pytest.approx(mine.loss, rel=1e-4), name


def test_the_figures_are_scikit_learns_of_keras_s_answers(tmp_path: Any) -> None:
    pytest.importorskip("keras")
    network = trained("softmax", tmp_path)
    own, feed = network_predictor(network), feed_for(network)
    (scores,) = evaluate(own, feed, 8)
    assert isinstance(feed.part, Examples)
    (shares,) = others(network, own)["keras"].predict(feed.part.inputs)
    truth = feed.targets[0]
    assert scores.loss == pytest.approx(metrics.log_loss(truth, shares, labels=range(7)), rel=1e-4)
    assert scores.top1 == pytest.approx(metrics.accuracy_score(truth, shares.argmax(1)))
    assert scores.top5 == pytest.approx(metrics.top_k_accuracy_score(truth, shares, k=5, labels=range(7)))


def test_batches_of_which_no_picture_can_be_decoded_are_left_out(tmp_path: Any) -> None:
    from PIL import Image

    from cnnc.data.sources.data_set import Files

    pytest.importorskip("ai_edge_litert")
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for i, path in enumerate(paths):
        Image.new("RGB", (8, 8), (240 if i % 2 else 10,) * 3).save(path)
        if i >= 3:
            truncate(path, 0.3)
    file = open_tflite(write(tmp_path / "m.tflite", brightness(), described()))
    part = Files(tuple(paths), np.array([0, 1] * 3, np.int32))
    found = evaluate_on(file, TestSet(part, ("dark", "light"), "six"), skip_corrupt=True, batch=3)
    assert (found.scores.count, found.scores.top1, len(found.broken)) == (3, 1.0, 3)
    with pytest.raises(CnnError, match="decoded"):
        evaluate_on(file, TestSet(Files(tuple(paths[3:]), part.labels[3:]), (), "three"), skip_corrupt=True)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (one_operator("RELU", [tensor("a", (1, 1))], tensor("c", (1, 1))), "a single number, which says nothing"),
        (one_operator("RELU", [tensor("a", (1, 4, 4, 3))], tensor("c", (1, 4, 4, 3))), "is 4x4x3"),
    ],
)
def test_what_gives_no_classes_is_not_measured(tmp_path: Any, program: Any, words: str) -> None:
    pytest.importorskip("ai_edge_litert")
    file = open_tflite(write(tmp_path / "m.tflite", program))
    shape = file.inputs[0].shape
    test_set = TestSet(Examples((np.zeros((4, *shape), np.uint8),), (np.array([0, 1, 2, 0], np.int32),)), (*"abc",), "")
    with pytest.raises(CnnError, match=words):
        evaluate_on(file, test_set)
    for outputs in ((), (*file.outputs, *file.outputs), (replace(file.outputs[0], shape=()),)):
        with pytest.raises(CnnError, match="one output of classes is wanted"):
            evaluate_on(KerasPredictor(None, file.inputs, outputs), test_set)
