"""cnnc in twenty facts, in the order in which a spec's text becomes a file for a device. They run first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cnnc
from cnnc.backends import reference
from cnnc.backends.edgetpu.prediction import check
from cnnc.ir import verify
from cnnc.ir.text import print_graph, read_graph
from cnnc.ops import BatchNorm, Conv
from cnnc.overrides import Overrides
from cnnc.passes.pipelines import INFERENCE
from cnnc.rendering.spec_text import print_spec
from cnnc.tflite_file.read import read_file
from cnnc.tflite_file.write import write_file
from tests.support.calling import call
from tests.support.models import assert_keep_the_function, random_model
from tests.support.tflite_programs import run_litert
from tests.support.training_cases import same, stopped_at

TEXT = """\
block unit(filters: channels, stride: dims = 2) {
  conv(3x3, filters, stride=stride) | bn | relu
}

model tiny(classes=2) {
  input 8x8x3
  normalize(mean=128, std=64)
  body: 2 x unit(8)
  head: globalpool | dense(classes) | softmax
}

expect params = 850, macs = 12688

train {
  optimizer sgd(momentum=0.9)
  schedule  constant(0.05)
  batch     8
  epochs    3
}
"""
NET = cnnc.load_text(TEXT)
Pictures = NDArray[np.uint8]
Examples = tuple[Pictures, NDArray[np.int32]]


def examples(count: int, seed: int) -> Examples:
    """Pictures of noise, in turns dark, of class 0, and light, of class 1."""
    labels = np.arange(count, dtype=np.int32) % 2
    noise = np.random.default_rng(seed).integers(0, 128, (count, 8, 8, 3))
    return (noise + 128 * labels[:, None, None, None]).astype(np.uint8), labels


TRAINING, VALIDATION = examples(32, seed=0), examples(16, seed=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return cnnc.train(NET, TRAINING, VALIDATION, out=tmp_path_factory.mktemp("tiny") / "run")


def compiled(run: Path, target: str) -> bytes:
    """The file of a run for a target."""
    path = run.parent / f"{target}.tflite"
    result = call("compile", run, "--target", target, "-o", path)
    assert result.exit_code == 0, result.output
    return path.read_bytes()


def error_of(text: str) -> cnnc.CnnError:
    with pytest.raises(cnnc.CnnError) as caught:
        cnnc.load_text(text)
    return caught.value


# From a text to a graph.


def test_a_text_is_a_graph_of_layers() -> None:
    verify(NET.graph)
    assert [node.op.name for node in NET.graph][-5:] == ["bn", "relu", "globalpool", "dense", "softmax"]


def test_an_error_has_a_line_a_column_and_a_remedy() -> None:
    (found,) = error_of(TEXT.replace("globalpool", "globalpol")).diagnostics
    assert found.primary is not None
    assert (found.primary.span.location, found.code) == ("<string>:9:9", "name")
    assert found.help == "did you mean `globalpool`?"


def test_a_block_stands_for_its_body_with_its_arguments() -> None:
    text = f"{TEXT.partition('model')[0]}model m {{\n  input 8x8x3\n  unit(4)\n  unit(6, stride=1)\n}}\n"
    convolutions = [node.op for node in cnnc.load_text(text).graph if isinstance(node.op, Conv)]
    assert [(op.filters, op.stride) for op in convolutions] == [(4, (2, 2)), (6, (1, 1))]


def test_a_repeat_makes_layers_of_their_own_and_strides_once() -> None:
    strides = {node.name: node.op.stride for node in NET.graph if isinstance(node.op, Conv)}
    assert strides == {"body.0.conv1": (2, 2), "body.1.conv1": (1, 1)}


def test_shapes_follow_from_the_input() -> None:
    shapes = {node.name: node.shape for node in NET.graph}
    assert shapes["body.0.conv1"] == (4, 4, 8)
    assert shapes["head.globalpool1"] == (8,)
    assert shapes["head.dense1"] == (2,)


def test_shapes_that_do_not_fit_are_an_error_where_they_meet() -> None:
    (found,) = error_of("input 8x8x3\nadd {\n  conv(3, 4)\n  identity\n}\n").diagnostics
    assert found.primary is not None
    assert (found.primary.span.location, found.code) == ("<string>:2:1", "shape")


def test_parameters_and_multiplications_are_counted() -> None:
    convolutions, norms, dense = 3 * 3 * 3 * 8 + 3 * 3 * 8 * 8, 2 * 2 * 8, 8 * 2 + 2
    assert NET.graph.trainable_count == convolutions + norms + dense
    assert NET.graph.mac_count == 4 * 4 * 8 * (3 * 3 * 3) + 4 * 4 * 8 * (3 * 3 * 8) + 8 * 2


def test_a_budget_that_is_missed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tiny.cnn").write_text(TEXT.replace("params = 850", "params = 851"))
    assert "error[budget]" in call("check", tmp_path / "tiny.cnn").stderr


def test_a_width_scales_channels_and_leaves_the_classes() -> None:
    text = "model m(classes=2) {\n  input 8x8x3\n  conv(3, 8) | globalpool | dense(classes)\n}\n"
    shapes = [node.shape for node in cnnc.load_text(text, overrides=Overrides(width=2)).graph]
    assert shapes == [(8, 8, 3), (8, 8, 16), (16,), (2,)]


def test_a_spec_says_how_to_train() -> None:
    assert (NET.recipe.batch, NET.recipe.epochs, NET.recipe.schedule.peak) == (8, 3, 0.05)


def test_a_graph_comes_back_from_what_is_printed_of_it() -> None:
    assert read_graph(print_graph(NET.graph)) == NET.graph
    again = cnnc.load_text(print_spec(NET.graph, NET.recipe))
    assert [(node.op, node.shape) for node in again.graph] == [(node.op, node.shape) for node in NET.graph]
    assert again.recipe == NET.recipe


# From a graph to numbers.


def test_a_seed_draws_the_same_weights_anywhere() -> None:
    assert same(NET.init(seed=1), NET.init(seed=1))
    assert not same(NET.init(seed=1), NET.init(seed=2))


def test_jax_computes_what_the_definitions_say() -> None:
    weights, pictures = NET.init(0), VALIDATION[0]
    expected = reference.run(NET.graph, weights, {"input": pictures.astype(np.float64)})["head.softmax1"]
    np.testing.assert_allclose(NET.apply(weights, pictures), expected, atol=1e-5)


def test_passes_keep_the_function_and_fold_batch_norms_away() -> None:
    folded = assert_keep_the_function(random_model(NET.graph), INFERENCE)
    assert not any(isinstance(node.op, BatchNorm) for node in folded.graph)


# From numbers to a run.


def test_a_training_learns(trained: Any) -> None:
    assert [row.epoch for row in trained.rows] == [1, 2, 3]
    assert trained.rows[-1].train_loss < trained.rows[0].train_loss
    assert trained.best.val_top1 == 1


def test_a_stopped_run_ends_in_the_same_weights(trained: Any, tmp_path: Path) -> None:
    stopped_at(NET, TRAINING, tmp_path / "run", epoch=2, val=VALIDATION)
    resumed = cnnc.resume(tmp_path / "run", TRAINING, VALIDATION)
    assert same(resumed.weights, trained.weights)


# From a run to a file.


def test_a_file_is_read_as_it_was_written(trained: Any) -> None:
    data = compiled(trained.folder, "tflite")
    assert write_file(read_file(data, "tiny.tflite")) == data


def test_litert_computes_what_jax_does(trained: Any) -> None:
    data = compiled(trained.folder, "tflite")
    for picture in VALIDATION[0]:
        (found,) = run_litert(data, {"input": picture[None].astype(np.float32)}).values()
        np.testing.assert_allclose(found, NET.apply(trained.weights, picture[None]), atol=1e-5)


def test_int8_says_the_same_of_every_picture(trained: Any) -> None:
    data = compiled(trained.folder, "tflite-int8")
    for picture, label in zip(*VALIDATION, strict=True):
        (found,) = run_litert(data, {"input": (picture[None].astype(np.int16) - 128).astype(np.int8)}).values()
        assert found.dtype == np.int8
        assert found.argmax() == label


def test_the_edge_tpu_takes_every_layer(trained: Any) -> None:
    report = check(read_file(compiled(trained.folder, "edgetpu"), "tiny.tflite"))
    assert report.compiles
    assert all(verdict.mapped for verdict in report.operators)
