"""Pipelines of passes: the function stays, on random networks and bundled ones, and nothing foldable does."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cnnc
from cnnc import ops
from cnnc.ir import Graph
from cnnc.ir.model import Model
from cnnc.passes.drop_dead import drop_dead
from cnnc.passes.equalize import equalize
from cnnc.passes.fold_batch_norm import fold_batch_norm
from cnnc.passes.pipelines import INFERENCE, INFERENCE_INT8, Change, describe, run
from cnnc.passes.verify import verify_model
from tests.support.models import assert_keep_the_function, assert_same_function, random_model
from tests.support.networks import sequential
from tests.support.spec_texts import Random, random_specs

CALM = list(HealthCheck)


def zeros(graph: Graph) -> Model:
    """The graph with weights that take no time to draw."""
    weights = {node.name: {n: np.zeros(w.shape, np.float32) for n, w in graph.weights(node).items()} for node in graph}
    return Model(graph, weights)


def counts(graph: Graph) -> Counter[str]:
    return Counter(node.op.name for node in graph)


def assert_folds(spec: Random, seed: int) -> None:
    model = random_model(cnnc.load_text(spec.text).graph, seed)
    folded = assert_keep_the_function(model, INFERENCE)
    assert_keep_the_function(model, INFERENCE_INT8)
    assert_same_function(model, equalize(folded))
    assert run(folded, INFERENCE).graph == folded.graph


@given(random_specs(), st.integers(0, 9))
@settings(max_examples=20, suppress_health_check=CALM)
def test_passes_keep_the_function_of_random_networks(spec: Random, seed: int) -> None:
    assert_folds(spec, seed)


@pytest.mark.slow
@given(random_specs(), st.integers(0, 1000))
@settings(max_examples=1500, derandomize=False, suppress_health_check=CALM)
def test_passes_keep_the_function_of_many_random_networks(spec: Random, seed: int) -> None:
    assert_folds(spec, seed)


SMALL = [  # one of residual branches, one of depthwise layers, one plain, one of signals with several inputs
    pytest.param("resnet50", (32, 32, 3), marks=pytest.mark.slow),
    ("resnet_cifar", (8, 8, 3)),
    ("mobilenet_v2", (32, 32, 3)),
    pytest.param("efficientnet_b0", (32, 32, 3), marks=pytest.mark.slow),
    ("mnist_cnn", None),
    pytest.param("cifar_cnn", None, marks=pytest.mark.slow),
    pytest.param("alphazero", None, marks=pytest.mark.slow),
    ("astronet", None),
]


@pytest.mark.parametrize(("name", "shape"), SMALL)
def test_passes_keep_the_function_of_a_bundled_network(name: str, shape: tuple[int, ...] | None) -> None:
    net = cnnc.load(name, width=0.25, input=shape) if shape else cnnc.load(name, width=0.25)
    model = random_model(net.graph)
    after = assert_keep_the_function(model, INFERENCE)
    assert_same_function(model, equalize(after))
    assert not counts(after.graph).keys() & {"bn", "dropout", "drop_path"}


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "mobilenet_v2", "vgg19"])
def test_what_stays_is_what_computes(name: str) -> None:
    graph = cnnc.load(name).graph
    before, after = counts(graph), counts(run(zeros(graph), INFERENCE).graph)
    assert not after.keys() & {"bn", "dropout", "drop_path"}
    # All of them pad in their first convolution, so that the mean has to be subtracted before it.
    assert {**before, "bn": 0, "dropout": 0, "drop_path": 0} == {"bn": 0, "dropout": 0, "drop_path": 0, **after}


def test_counts_of_nodes_are_those_of_the_papers() -> None:
    def size(name: str) -> int:
        return len(run(zeros(cnnc.load(name).graph), INFERENCE).graph)

    # He et al. 2015: 1 + 16 * 3 + 4 convolutions, 1 + 16 * 3 relus, 16 additions; input, mean, pools, dense, softmax.
    assert size("resnet50") == 53 + 49 + 16 + 6
    # Simonyan & Zisserman 2015, column E: 16 convolutions and 3 dense, relu but after the last; 5 pools; input, mean,
    # flatten, softmax.
    assert size("vgg19") == 19 + 18 + 5 + 4
    # Sandler et al. 2018: 52 convolutions and a dense, 35 relu6, 10 additions; input, mean, pool, softmax.
    assert size("mobilenet_v2") == 53 + 35 + 10 + 4


def test_a_normalisation_that_the_input_absorbs_stays_for_int8() -> None:
    graph = cnnc.load("mnist_cnn").graph
    assert "normalize" not in counts(run(zeros(graph), INFERENCE).graph)
    kept = run(zeros(graph), INFERENCE_INT8).graph
    (node,) = [node for node in kept if isinstance(node.op, ops.Normalize)]
    assert (node.op, node.inputs) == (ops.Normalize(mean=(0.0,), std=(255.0,)), ("input",))


def test_names_origins_and_repeats_are_those_of_the_convolutions() -> None:
    graph = cnnc.load("resnet18").graph
    after = run(zeros(graph), INFERENCE).graph
    for node in after:
        assert node.repeats == graph[node.name].repeats
        assert node.origin is graph[node.name].origin


def test_weights_stay_in_their_precision() -> None:
    model = random_model(cnnc.load("resnet_cifar", width=0.25).graph, dtype=np.float32)
    for after in (run(model, INFERENCE), run(model, INFERENCE_INT8), equalize(run(model, INFERENCE))):
        assert {array.dtype for own in after.weights.values() for array in own.values()} == {np.dtype(np.float32)}
        assert_same_function(model, after, tolerance=1e-4)


def test_folding_is_the_same_to_the_byte_every_time() -> None:
    model = random_model(cnnc.load("resnet_cifar", width=0.25).graph, dtype=np.float32)
    first, second = run(model, INFERENCE), run(model, INFERENCE)
    assert first.graph == second.graph
    for name, own in first.weights.items():
        assert all(array.tobytes() == second.weights[name][short].tobytes() for short, array in own.items())


def test_a_pass_with_nothing_to_do_gives_the_model_itself() -> None:
    model = zeros(sequential((4, 4, 3), ops.Conv((3,), 4, bias=True), ops.Relu()).graph)
    for each in {*INFERENCE, *INFERENCE_INT8}:
        assert each(model) is model


def test_trace_tells_what_each_pass_did() -> None:
    layers = (
        ops.Conv((3,), 4, bias=False),
        ops.BatchNorm(),
        ops.Relu(),
        ops.Dropout(0.5),
        ops.Conv((1,), 2, bias=True),
    )
    model = zeros(sequential((4, 4, 3), *layers).graph)
    changes: list[Change] = []
    run(model, INFERENCE, trace=lambda *step: changes.append(describe(*step)))
    assert [str(change) for change in changes] == [
        "drop_identities: removed 1 dropout; changed 1 conv",
        "fold_batch_norm: removed 1 bn; changed 1 conv, 1 relu",
    ]
    assert [node.name for node in changes[1].removed] == ["bn1"]


def test_verify_refuses_weights_that_are_not_declared() -> None:
    model = zeros(sequential((4, 4, 3), ops.Conv((3,), 4, bias=True)).graph)
    conv = dict(model.weights["conv0"])
    verify_model(model)
    for weights, message in (
        ({**model.weights, "gone": conv}, "weights of no node: gone"),
        ({}, "conv0: weights {}"),
        ({"conv0": {"kernel": conv["kernel"]}}, "declared"),
        ({"conv0": {**conv, "bias": np.zeros(5)}}, r"\(5,\)"),
        ({"conv0": {**conv, "scale": np.zeros(4)}}, "scale"),
    ):
        with pytest.raises(AssertionError, match=message):
            verify_model(replace(model, weights=weights))


def test_run_refuses_what_a_broken_pass_gives() -> None:
    model = zeros(sequential((4, 4, 3), ops.Conv((3,), 4, bias=True)).graph)

    def forgetful(model: Model) -> Model:
        return replace(model, weights={})

    with pytest.raises(AssertionError, match="conv0"):
        run(model, [drop_dead, forgetful])


def _seconds(model: Model) -> float:
    started = perf_counter()
    run(model, INFERENCE)
    return perf_counter() - started


@pytest.mark.slow
def test_time_grows_with_the_number_of_nodes() -> None:
    def tower(blocks: int) -> Model:
        block = (ops.Conv((1,), 2, bias=False), ops.BatchNorm(), ops.Relu(), ops.Dropout(), ops.Dropout())
        return zeros(sequential((1, 1, 2), *block * blocks).graph)

    small, large = tower(200), tower(2000)
    assert min(_seconds(large) for _ in range(2)) < 30 * max(min(_seconds(small) for _ in range(3)), 0.01)


def test_chains_of_batch_norms_and_of_dropouts_fold_whole() -> None:
    layers = (ops.Conv((3,), 4, bias=False), *(ops.BatchNorm(), ops.Dropout()) * 3, ops.Relu())
    model = random_model(sequential((4, 4, 3), *layers).graph)
    after = assert_keep_the_function(model, INFERENCE)
    assert [node.op.name for node in after.graph] == ["input", "conv", "relu"]
    assert_same_function(model, fold_batch_norm(model))
