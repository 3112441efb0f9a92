"""Ranges of int8: what reads a tensor decides what may be cut of its values, and samples of every class judge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import cnnc
from cnnc.backends.tflite.compile import decisive, spread
from cnnc.backends.tflite.lowering.graph import lower
from cnnc.backends.tflite.lowering.lowering_site import Flavour
from cnnc.backends.tflite.quantization.ranges import entropy, mse
from cnnc.backends.tflite.quantization.saturation import read_as
from cnnc.backends.tflite.quantization.scales import affine, decode, encode
from cnnc.backends.tflite.quantization.statistics import Gatherer, Statistics
from cnnc.backends.tflite.random_weights import random_weights
from cnnc.ir.model import Model
from cnnc.passes.pipelines import INFERENCE_INT8, run
from cnnc.tflite_file.program import Program

pytest.importorskip("ai_edge_litert")
Array = NDArray[np.float64]
POINTS = np.linspace(-8, 8, 33)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def hard_swish(x: Array) -> Array:
    return x * np.clip(x + 3, 0, 6) / 6


def seen(values: Any, read: Any = None) -> Statistics:
    gatherer = Gatherer()
    gatherer.add(np.asarray(values, np.float32).reshape(1, -1), channels=False)
    found = gatherer.statistics()
    return found if read is None else replace(found, read=read(found.centres))


def lowered(layers: str, flavour: Flavour = "int8") -> Program:
    graph = cnnc.load_text(f"input 8x8x3\n{layers}").graph
    return lower(run(Model(graph, random_weights(graph, 0)), INFERENCE_INT8), flavour).program


# What reads a tensor


@pytest.mark.parametrize("flavour", ["int8", "edgetpu"])
@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("swish", lambda x: x * sigmoid(x)),
        ("sigmoid", sigmoid),
        ("tanh", np.tanh),
        ("hard_swish", hard_swish),
        ("gelu(approximate=true)", lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2),
    ],
)
def test_an_activation_is_all_that_reads_a_convolution(flavour: Flavour, activation: str, function: Any) -> None:
    program = lowered(f"conv(3, 4) | {activation}\nconv(3, 4)", flavour)
    read = read_as(program, "conv1", POINTS)
    assert read is not None
    np.testing.assert_allclose(read, function(POINTS), atol=1e-6)


@pytest.mark.parametrize(
    "layers",
    [
        "conv(3, 4) | conv(3, 4)",
        "conv(3, 4)",
        "conv(3, 4) | maxpool(2) | swish",
        "conv(3, 4) | bn\nadd { swish | conv(3, 4)\n      identity }",
        "conv(3, 4) | bn\nmul { sigmoid | conv(3, 4)\n      identity }",
        "conv(3, 4) | prelu",
    ],
)
def test_where_more_reads_a_tensor_it_is_no_function_of_one_value(layers: str) -> None:
    assert read_as(lowered(layers), "conv1", POINTS) is None


# Ranges


def test_what_swish_makes_nothing_of_is_cut() -> None:
    values = np.random.default_rng(0).normal(0, 4, 100_000)
    plain = mse(seen(values))
    low, high = mse(seen(values, lambda x: x * sigmoid(x)))
    assert plain[0] < -10 < -9 < low < -4
    assert 8 < high <= values.max()


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 10), st.floats(-5, 5), st.sampled_from([sigmoid, hard_swish, np.tanh, lambda x: x * sigmoid(x)]))
def test_ranges_for_a_reader_lose_less_of_what_it_makes(spread: float, middle: float, function: Any) -> None:
    values = np.random.default_rng(0).normal(middle, spread, 20_000)

    def lost(statistics: Statistics) -> float:
        quantization = affine(*mse(statistics))
        return float(((function(decode(encode(values, quantization), quantization)) - function(values)) ** 2).mean())

    assert lost(seen(values, function)) <= 1.1 * lost(seen(values))


def test_zeros_which_every_range_holds_do_not_narrow_that_of_entropy() -> None:
    values = np.abs(np.random.default_rng(0).normal(0, 1, 20_000))
    values[::2] = 0  # as after a relu
    low, high = entropy(seen(values))
    assert low == 0
    assert high > 0.6 * values.max()


# Which samples judge


@given(st.integers(1, 200), st.integers(1, 200))
def test_judges_are_from_all_over_the_samples(count: int, wanted: int) -> None:
    judges = spread(count, wanted)
    assert len(set(judges)) == min(count, wanted)
    assert judges[0] == 0
    assert count - judges[-1] <= -(-count // wanted)


@pytest.mark.fault("T")
@pytest.mark.parametrize(
    ("ending", "judged"),
    [
        ("dense(3) | softmax", "dense1"),
        ("dense(4) | sigmoid", "dense1"),
        ("dense(4) | reshape(2x2) | sigmoid", "dense1"),
        ("dense(3) | tanh", "tanh1"),
        ("dense(3)", "dense1"),
    ],
)
def test_an_output_is_judged_before_what_hides_its_errors(ending: str, judged: str) -> None:
    """A softmax of large scores is 0 and 1 whatever their last bits are."""
    assert decisive(lowered(f"flatten | {ending}")) == (judged,)
