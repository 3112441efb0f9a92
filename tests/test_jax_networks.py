"""Random networks written in the language: JAX computes at every node what the reference does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cnnc
from cnnc import ops
from cnnc.backends import reference
from cnnc.backends.jax.apply import activations, apply, has_dropout
from cnnc.net import Net

Draw = Callable[[st.SearchStrategy[Any]], Any]

QUICK = {"xla_backend_optimization_level": 0}
SIZES = {0: "6", 1: "12x4", 2: "7x6x4", 3: "4x3x5x2"}
# Operators that take an input of any rank and keep its shape.
PLAIN = (
    "bn",
    "relu",
    "relu6",
    "leaky_relu(0.2)",
    "prelu",
    "elu",
    "swish",
    "hard_swish",
    "gelu",
    "mish",
    "sigmoid",
    "tanh",
    "layer_norm",
    "lrn",
    "dropout(0.3)",
    "drop_path(0.2)",
    "softmax",
    "normalize(mean=0.5, std=2)",
    "dense(6)",
    "group_norm(1)",
)
SPATIAL = (
    "conv(3, 6)",
    "conv(1, 4) | bn | relu",
    "conv(3, 4, stride=2, padding=1)",
    "conv(2, 6, dilation=2)",
    "depthwise(3)",
    "depthwise(3, stride=2, multiplier=2)",
    "conv_transpose(3, 4, stride=2)",
    "maxpool(2)",
    "maxpool(3, stride=2)",
    "avgpool(3, stride=1)",
    "resize(scale=2, method=bilinear)",
    "pad(1)",
    "residual(6)",
    "2 x residual",
    "se(2)",
    "mbconv(filters=4, expand=2)",
    "bottleneck(2, stride=2)",
    "attention(2, key_features=3)",
)


@st.composite
def spec_texts(draw: Draw) -> str:
    """A model of a few lines: pipelines, residuals, branches, labels, one or two outputs."""
    rank = draw(st.sampled_from(list(SIZES)))
    layers = st.sampled_from(PLAIN if rank == 0 else SPATIAL + PLAIN)
    lines = [f"input {SIZES[rank]}"]
    for index in range(draw(st.integers(1, 3))):
        pipeline = " | ".join(draw(st.lists(layers, min_size=1, max_size=3)))
        shape = draw(
            st.sampled_from(["{0}", "{0} | add {{\n {1}\n identity\n }}", "{0} | concat {{\n {1}\n identity\n }}"])
        )
        # A branch beside the identity keeps the shape.
        lines.append(f"part{index}: " + shape.format(pipeline, draw(st.sampled_from(PLAIN[:-2]))))
    if draw(st.booleans()):
        return "\n".join(["model random {", *lines, "last: flatten | dense(3) | softmax", "}"])
    return "\n".join(["model random {", *lines, "a: flatten | dense(2)", "b: part0 | tanh", "output a, b", "}"])


def assert_agrees(net: Net) -> None:
    """Every node at inference, and where nothing drops every output and statistic in training, in float64."""
    rng = np.random.default_rng(0)
    weights = jax.tree.map(np.float64, net.init(0))
    inputs = {node.name: rng.standard_normal((3, *node.shape)) for node in net.graph.inputs}
    trained = not has_dropout(net.graph)

    def both(weights: Any, inputs: Any) -> Any:
        outputs, statistics = apply(net.graph, weights, inputs, train=True, precision="f64") if trained else ({}, {})
        return activations(net.graph, weights, inputs, precision="f64"), outputs, statistics

    with jax.enable_x64(True):
        found, outputs, statistics = jax.jit(both, compiler_options=QUICK)(weights, inputs)
    expected = reference.run(net.graph, weights, inputs)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert_close(value, expected[name])
    if trained:
        expected = reference.run(net.graph, weights, inputs, train=True)
        for label, name in net.graph.outputs:
            assert_close(outputs[label], expected[name])
        for name, arrays in statistics.items():
            node = net.graph[name]
            assert isinstance(node.op, ops.BatchNorm)
            updated = reference.updated_statistics(node.op, weights[name], expected[node.inputs[0]])
            for short, array in arrays.items():
                assert_close(array, updated[short])


def assert_close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@given(text=spec_texts())
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
def test_random_networks_are_the_reference(text: str) -> None:
    assert_agrees(cnnc.load_text(text))


@pytest.mark.slow
@given(text=spec_texts())
@settings(max_examples=300, derandomize=False, suppress_health_check=list(HealthCheck))
def test_random_networks_are_the_reference_at_length(text: str) -> None:
    assert_agrees(cnnc.load_text(text))
