"""Holds a network in JAX to the reference: every node at inference, and training."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from cnnc import ops
from cnnc.backends import reference
from cnnc.backends.jax.apply import activations, apply
from cnnc.backends.jax.nodes import drops
from cnnc.net import Net

QUICK = {"xla_backend_optimization_level": 0}


def assert_agrees(net: Net) -> None:
    """Every node at inference, and where nothing drops every output and statistic in training, in float64."""
    rng = np.random.default_rng(0)
    weights = jax.tree.map(np.float64, net.init(0))
    inputs = {node.name: rng.standard_normal((3, *node.shape)) for node in net.graph.inputs}
    trained = not any(drops(node.op) for node in net.graph)

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
