"""Random weights that try passes and quantisation, and what it means that two models are the same function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc import ops
from cnnc.backends import reference
from cnnc.ir import Graph, Node
from cnnc.ir.model import Model, Pass
from cnnc.passes.pipelines import run

Array = NDArray[Any]


def random_model(graph: Graph, seed: int = 0, dtype: Any = np.float64) -> Model:
    """Weights of every kind: some filters and gammas are zero, some variances too, no statistic is neutral."""
    rng = np.random.default_rng([seed, 7])
    return Model(graph, {node.name: _weights(graph, node, rng, dtype) for node in graph})


def random_inputs(graph: Graph, seed: int = 0, batch: int = 2) -> dict[str, Array]:
    """Standard normal inputs `(batch, *shape)` in float64, by the names of the input nodes."""
    rng = np.random.default_rng([seed, 8])
    return {
        node.name: rng.integers(2, size=(batch, *node.shape))
        if isinstance(node.op, ops.Input) and node.op.dtype == "int"
        else rng.standard_normal((batch, *node.shape))
        for node in graph.inputs
    }


def outputs_of(model: Model, seed: int = 0) -> dict[str, Array]:
    """What a model makes of random inputs, by the labels of its outputs."""
    values = reference.run(model.graph, model.weights, random_inputs(model.graph, seed))
    return {label: values[name] for label, name in model.graph.outputs}


def assert_same_function(before: Model, after: Model, tolerance: float = 1e-9) -> None:
    """The same outputs for the same inputs, in float64, to `tolerance` of each output's largest value."""
    assert [node.name for node in after.graph.inputs] == [node.name for node in before.graph.inputs]
    expected, found = outputs_of(before), outputs_of(after)
    assert list(found) == list(expected)
    for label, value in expected.items():
        assert value.shape == found[label].shape
        largest = max(np.abs(value).max(), 1e-3)
        np.testing.assert_allclose(found[label] / largest, value / largest, rtol=0, atol=tolerance, err_msg=label)


def assert_keep_the_function(model: Model, passes: Iterable[Pass]) -> Model:
    """Every pass by itself and all in order keep the function; what all give."""
    passes = tuple(passes)
    for each in passes:
        assert_same_function(model, run(model, [each]))
    after = run(model, passes)
    assert_same_function(model, after)
    return after


def _weights(graph: Graph, node: Node, rng: np.random.Generator, dtype: Any) -> dict[str, Array]:
    own: dict[str, Array] = {}
    for name, weight in graph.weights(node).items():
        if name == "variance":
            array = rng.uniform(0.1, 2, weight.shape) * (rng.random(weight.shape) > 0.1)
        elif name in ("kernel", "gamma"):
            spread = 1 / np.sqrt(max(weight.fan_in, 1))
            array = spread * rng.standard_normal(weight.shape) * (rng.random(weight.shape[-1:]) > 0.2)
        else:
            array = rng.standard_normal(weight.shape) / 2
        own[name] = array.astype(dtype)
    return own
