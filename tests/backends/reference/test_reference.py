"""The reference on its own: values worked out by hand, whole graphs, training's statistics, and loading backends."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnnc import backends, ops
from cnnc.backends.reference import evaluate, run, updated_statistics
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph, Node, verify
from cnnc.ops import Op, Shape


def value_of(op: Op, *inputs: Any, **weights: Any) -> Any:
    """The value of an operator on lists, without batch, in float64."""
    arrays = [np.asarray(x, np.float64)[None] for x in inputs]
    resolved = op.resolve(*(array.shape[1:] for array in arrays))
    return evaluate(resolved, {name: np.asarray(w, np.float64) for name, w in weights.items()}, *arrays)[0]


@pytest.mark.parametrize("cls", Op.__subclasses__())
def test_no_operator_is_forgotten(cls: type[Op]) -> None:
    assert evaluate.dispatch(cls) is not evaluate.dispatch(object)


def test_an_unknown_operator_is_named() -> None:
    unknown: Any = SimpleNamespace(name="fancy")  # a class of its own would join Op.__subclasses__()
    with pytest.raises(CnnError, match="the backend `reference` has no operator `fancy`"):
        evaluate(unknown, {}, np.zeros((1, 2)))


def test_a_kernel_is_not_mirrored() -> None:
    signal = [[1.0], [2.0], [3.0], [4.0]]
    kernel = [[[1.0]], [[10.0]], [[100.0]]]
    assert value_of(ops.Conv((3,), 1), signal, kernel=kernel).ravel().tolist() == [210, 321, 432, 43]
    assert value_of(ops.Conv((3,), 1, padding="valid"), signal, kernel=kernel).ravel().tolist() == [321, 432]
    # A SAME stride of 2 pads one zero, at the end (Keras); explicit padding of 1 begins with one (PyTorch).
    assert value_of(ops.Conv((3,), 1, (2,)), signal, kernel=kernel).ravel().tolist() == [321, 43]
    assert value_of(ops.Conv((3,), 1, (2,), ((1, 1),)), signal, kernel=kernel).ravel().tolist() == [210, 432]


def test_a_transposed_convolution_stamps_its_kernel() -> None:
    signal = [[1.0], [2.0]]
    kernel = [[[1.0]], [[10.0]], [[100.0]]]
    full = ops.ConvTranspose((3,), 1, (2,), "valid")
    assert value_of(full, signal, kernel=kernel).ravel().tolist() == [1, 10, 102, 20, 200]
    assert value_of(ops.ConvTranspose((3,), 1, (2,)), signal, kernel=kernel).ravel().tolist() == [1, 10, 102, 20]
    cut = ops.ConvTranspose((3,), 1, (2,), ((1, 1),))
    assert value_of(cut, signal, kernel=kernel).ravel().tolist() == [10, 102, 20]


def test_pools_at_the_border() -> None:
    signal = [[-1.0], [-2.0], [-3.0]]
    assert value_of(ops.MaxPool((2,)), signal).ravel().tolist() == [-1, -3]
    assert value_of(ops.AvgPool((2,)), signal).ravel().tolist() == [-1.5, -3]
    assert value_of(ops.AvgPool((2,), count_padding=True), signal).ravel().tolist() == [-1.5, -1.5]


def test_channels_are_shuffled_as_in_the_papers_figure() -> None:
    # Zhang et al. 2018, figure 1: of three groups of channels the next one has the first of each first.
    assert value_of(ops.ChannelShuffle(3), np.array([[1, 2, 3, 4, 5, 6]])).tolist() == [[1, 3, 5, 2, 4, 6]]


def test_a_slice_keeps_its_start_and_leaves_its_stop() -> None:
    channels = np.array([[0, 1, 2, 3]])
    assert value_of(ops.Slice(1, 3), channels).tolist() == [[1, 2]]
    assert value_of(ops.Slice(2), channels).tolist() == [[2, 3]]


def test_layer_scale_multiplies_every_channel() -> None:
    assert value_of(ops.LayerScale(), np.array([[1.0, 2.0]]), gamma=np.array([3.0, 0.5])).tolist() == [[3, 1]]


def test_space_to_depth_is_tensorflows() -> None:
    # The example of TensorFlow's documentation of tf.nn.space_to_depth.
    picture = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]
    assert value_of(ops.SpaceToDepth(), picture).tolist() == [[[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]]]


def test_local_response_norm_looks_at_neighbouring_channels() -> None:
    op = ops.LocalResponseNorm(radius=1, alpha=1.0, beta=1.0, bias=1.0)
    assert value_of(op, [1.0, 2.0, 3.0]) == pytest.approx([1 / 6, 2 / 15, 3 / 14])


def test_flatten_runs_over_height_then_width_then_channels() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    assert value_of(ops.Flatten(), x).tolist() == list(range(24))


def test_drop_path_and_dropout_are_the_identity() -> None:
    assert value_of(ops.Dropout(0.9), [1.0, 2.0]).tolist() == [1, 2]
    assert value_of(ops.DropPath(0.9), [1.0, 2.0]).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("op", "low", "high"),
    [
        (ops.Sigmoid(), 0.0, 1.0),
        (ops.Tanh(), -1.0, 1.0),
        (ops.HardSigmoid(), 0.0, 1.0),
        (ops.Relu(), 0.0, 1000.0),
        (ops.Relu6(), 0.0, 6.0),
        (ops.Swish(), 0.0, 1000.0),
        (ops.HardSwish(), 0.0, 1000.0),
        (ops.Gelu(), 0.0, 1000.0),
        (ops.Gelu(approximate=True), 0.0, 1000.0),
        (ops.Mish(), 0.0, 1000.0),
        (ops.Elu(), -1.0, 1000.0),
        (ops.LeakyRelu(0.1), -100.0, 1000.0),
    ],
)
def test_activations_far_out_neither_overflow_nor_warn(op: Op, low: float, high: float) -> None:
    assert value_of(op, [-1000.0, 1000.0]) == pytest.approx([low, high])


def test_softmax_of_large_logits() -> None:
    assert value_of(ops.Softmax(), [1000.0, 1000.0, -1000.0]) == pytest.approx([0.5, 0.5, 0.0])


def graph_of(*chain: Op, shape: Shape) -> Graph:
    """A pipeline of nodes `n1`, `n2`, ... on an input `x`."""
    nodes = [Node("x", ops.Input(shape), (), shape)]
    for index, op in enumerate(chain, start=1):
        last = nodes[-1]
        resolved = op.resolve(last.shape)
        nodes.append(Node(f"n{index}", resolved, (last.name,), resolved.infer(last.shape)))
    graph = Graph("test", tuple(nodes), (("y", nodes[-1].name),))
    verify(graph)
    return graph


def test_a_graph_gives_every_value_and_takes_pixels() -> None:
    graph = graph_of(ops.Normalize("unit"), ops.GlobalPool(), shape=(2, 2, 1))
    values = run(graph, {}, {"x": np.full((3, 2, 2, 1), 51, np.uint8)})
    assert list(values) == ["x", "n1", "n2"]
    assert values["n2"].dtype == np.float64
    assert values["n2"].tolist() == [[0.2]] * 3


def test_training_normalizes_by_the_batch() -> None:
    graph = graph_of(ops.BatchNorm(momentum=0.75, epsilon=1e-12), shape=(1,))
    weights = {"n1": {"gamma": np.ones(1), "beta": np.zeros(1), "mean": np.array([8.0]), "variance": np.array([4.0])}}
    batch = {"x": np.array([[0.0], [4.0]])}
    assert run(graph, weights, batch)["n1"].ravel() == pytest.approx([-4, -2])
    assert run(graph, weights, batch, train=True)["n1"].ravel() == pytest.approx([-1, 1])
    new = updated_statistics(ops.BatchNorm(momentum=0.75), weights["n1"], batch["x"])
    assert (new["mean"].item(), new["variance"].item()) == (6.5, 4.0)


def test_a_backend_is_loaded_by_name() -> None:
    assert backends.load("reference").run is run
    assert backends.load("reference") is sys.modules["cnnc.backends.reference"]


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(CnnError) as caught:
        backends.load("referense")
    diagnostic = caught.value.diagnostics[0]
    assert (diagnostic.code, diagnostic.help) == ("backend", "did you mean `reference`?")


def test_a_missing_package_names_the_extra_to_install() -> None:
    code = "import sys; sys.modules['jax'] = None; from cnnc import backends; backends.load('jax', 'apply')"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "error[install]: the backend `jax` needs the package `jax`, which is not installed" in finished.stderr
    assert 'help: pip install "cnnc[train]"' in finished.stderr
