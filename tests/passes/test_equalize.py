"""Cross-layer equalisation: the same function with ranges as in Nagel et al. 2019, and what it leaves alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnnc import ops
from cnnc.backends import reference
from cnnc.ir.model import Model
from cnnc.ops import Op
from cnnc.passes.equalize import BOUNDS, equalize
from tests.support.models import assert_same_function, random_inputs, random_model
from tests.support.networks import Builder, sequential

Array = NDArray[Any]


def uneven(*layers: Op, shape: tuple[int, ...] = (5, 5, 3), seed: int = 0, spread: float = 1.0) -> Model:
    """A chain whose filters are of very different magnitudes, none of them dead."""
    model = random_model(sequential(shape, *layers).graph, seed)
    rng = np.random.default_rng(seed)
    return Model(
        model.graph,
        {
            name: {
                short: rng.standard_normal(array.shape) * np.exp(spread * rng.standard_normal(array.shape[-1:]))
                for short, array in own.items()
            }
            for name, own in model.weights.items()
        },
    )


def out_ranges(kernel: Array, op: Op) -> Array:
    taps = np.abs(kernel).max(tuple(range(kernel.ndim - 2)))
    ranges: Array = taps.reshape(-1) if isinstance(op, ops.Depthwise) else taps.max(0)
    return ranges


def in_ranges(kernel: Array) -> Array:
    ranges: Array = np.abs(kernel).max(tuple(range(kernel.ndim - 2))).max(-1)
    return ranges


PAIRS: list[tuple[Op, ...]] = [
    (ops.Conv((3,), 6, bias=True), ops.Relu(), ops.Conv((3,), 4, bias=True)),
    (ops.Conv((3,), 6, bias=False), ops.Conv((1,), 4, bias=False)),
    (ops.Conv((3,), 6, groups=3, bias=True), ops.Relu(), ops.Depthwise((3,), bias=True)),
    (ops.Depthwise((3,), multiplier=2, bias=True), ops.LeakyRelu(0.1), ops.Conv((1,), 4, bias=True)),
    (ops.Conv((3,), 6, bias=True), ops.Prelu(), ops.MaxPool((2,)), ops.Depthwise((3,), multiplier=2, bias=True)),
    (ops.ConvTranspose((3,), 6, (2,), bias=True), ops.Relu(), ops.Conv((3,), 4, bias=True)),
    (ops.Conv((3,), 6, bias=True), ops.Relu(), ops.GlobalPool(), ops.Dense(4, bias=True)),
    (ops.Dense(6, bias=True), ops.Relu(), ops.Dense(4, bias=True)),
]


@pytest.mark.parametrize("layers", PAIRS)
def test_ranges_of_a_pair_are_equal_and_the_geometric_mean_of_those_before(layers: tuple[Op, ...]) -> None:
    model = uneven(*layers)
    after = equalize(model)
    assert_same_function(model, after)
    first, second = model.graph.nodes[1], model.graph.nodes[-1]

    def ranges(of: Model) -> tuple[Array, Array]:
        kernel = of.weights[first.name]["kernel"]
        # The filters of a transposed convolution are its last axis but one.
        kernel = np.swapaxes(kernel, -1, -2) if isinstance(first.op, ops.ConvTranspose) else kernel
        return out_ranges(kernel, first.op), in_ranges(of.weights[second.name]["kernel"])

    one, two = ranges(model)
    for found in ranges(after):
        np.testing.assert_allclose(found, np.sqrt(one * two), rtol=1e-9)


def test_a_chain_of_pairs_settles() -> None:
    conv = ops.Conv((3,), 6, bias=True)
    model = uneven(*(conv, ops.Relu()) * 4)
    after = equalize(model)
    assert_same_function(model, after)
    kernels = [after.weights[f"conv{i}"]["kernel"] for i in (0, 2, 4, 6)]
    for first, second in pairwise(kernels):
        np.testing.assert_allclose(out_ranges(first, conv) / in_ranges(second), 1, rtol=0.05)


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_dead_channels_stay_and_no_factor_leaves_the_bounds(seed: int) -> None:
    layers = (ops.Conv((3,), 8, bias=True), ops.Relu(), ops.Depthwise((3,), bias=True), ops.Relu(), ops.Conv((1,), 4))
    model = uneven(*layers, seed=seed, spread=12)
    rng = np.random.default_rng(seed)
    for name in ("conv0", "depthwise2"):
        own = model.weights[name]
        axis = -1 if name == "conv0" else -2
        alive = np.expand_dims(rng.random(8) > 0.3, -1 if axis == -2 else 0)
        model = Model(model.graph, {**model.weights, name: {**own, "kernel": own["kernel"] * alive}})
    after = equalize(model)
    assert_same_function(model, after)
    before, found = (each.weights["conv0"]["bias"] for each in (model, after))
    factors = before / found
    assert np.all((factors >= BOUNDS[0] * 0.999) & (factors <= BOUNDS[1] * 1.001))
    dead = (out_ranges(model.weights["conv0"]["kernel"], ops.Relu()) == 0) | (
        in_ranges(model.weights["depthwise2"]["kernel"]) == 0
    )
    np.testing.assert_allclose(factors[dead], 1)


UNTOUCHED: list[tuple[Op, ...]] = [
    (ops.Conv((3,), 6, bias=True), ops.Relu6(), ops.Conv((3,), 4, bias=True)),
    (ops.Conv((3,), 6, bias=True), ops.Swish(), ops.Conv((3,), 4, bias=True)),
    (ops.Conv((3,), 6, bias=True), ops.Relu(), ops.Conv((3,), 4, groups=2, bias=True)),
    (ops.Conv((3,), 6, bias=True), ops.BatchNorm(), ops.Conv((3,), 4, bias=True)),
    (ops.Conv((3,), 6, bias=True), ops.Relu(), ops.ConvTranspose((3,), 4, bias=True)),
]


@pytest.mark.parametrize("layers", UNTOUCHED)
def test_what_is_no_pair_stays(layers: tuple[Op, ...]) -> None:
    model = uneven(*layers)
    assert equalize(model) is model


def test_a_value_that_something_else_reads_stays() -> None:
    builder = Builder()
    first = builder.add("first", ops.Conv((3,), 3, bias=True), builder.input("x", (5, 5, 3)))
    relu = builder.add("relu", ops.Relu(), first)
    second = builder.add("second", ops.Conv((3,), 3, bias=True), relu)
    for outputs in ({"relu": relu, "y": second}, {"y": builder.add("sum", ops.Add(), relu, second)}):
        model = random_model(builder.net(**outputs).graph)
        assert equalize(model) is model


def activation_maxima(model: Model) -> dict[str, Array]:
    values = reference.run(model.graph, model.weights, random_inputs(model.graph))
    return {name: np.abs(value).max(tuple(range(value.ndim - 1))) for name, value in values.items()}


def test_activations_are_balanced_against_the_weights_that_read_them() -> None:
    model = uneven(ops.Conv((3,), 6, bias=True), ops.Relu(), ops.Conv((3,), 4, bias=True))
    maxima = activation_maxima(model)
    after = equalize(model, maxima)
    assert_same_function(model, after)
    # Both are s-balanced: the ratio of a channel's activations to its weights is that of every other channel.
    ratios = activation_maxima(after)["relu1"] / in_ranges(after.weights["conv2"]["kernel"])
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-9)
    factors = maxima["relu1"] / activation_maxima(after)["relu1"]
    np.testing.assert_allclose(np.exp(np.log(factors).mean()), 1)


def test_activations_before_a_depthwise_convolution_become_even() -> None:
    model = uneven(ops.Conv((1,), 6, bias=True), ops.Relu(), ops.Depthwise((3,), bias=True))
    after = equalize(model, activation_maxima(model))
    assert_same_function(model, after)
    found = activation_maxima(after)["relu1"]
    np.testing.assert_allclose(found, found[0], rtol=1e-9)


def test_activations_that_are_dead_or_not_known_stay() -> None:
    model = uneven(ops.Conv((3,), 3, bias=True), ops.Relu(), ops.Conv((3,), 4, bias=True))
    assert equalize(model, {}) is model
    after = equalize(model, {"relu1": np.array([0.0, 1.0, 9.0])})
    assert_same_function(model, after)
    np.testing.assert_array_equal(after.weights["conv0"]["bias"][0], model.weights["conv0"]["bias"][0])
