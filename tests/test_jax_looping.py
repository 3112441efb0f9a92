"""Loops over alike segments and rematerialisation: values, gradients and statistics are those of the plain network."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import cnnc
from cnnc.backends.jax import looping
from cnnc.backends.jax.apply import apply
from cnnc.backends.jax.choice import chosen
from cnnc.net import Net
from tests.language import network
from tests.spec_texts import Random, random_specs

QUICK = {"xla_backend_optimization_level": 0}

RESIDUAL = """
input 6x6x3
conv(3x3, 4) | bn | relu
5 x add {
identity
conv(3x3, 4, bias=false) | bn | relu | dropout(0.2) | depthwise(3x3) | bn(scale=false) | drop_path(0.1 * repeat)
}
globalpool | dense(3) | softmax
"""
SHARED = """
input 6x6x3
see = shared(conv(3x3, 4) | bn)
a: input | conv(1x1, 4)
b: a | bn | relu | conv(3x3, 4) | bn | relu | conv(3x3, 4) | bn | relu
norm = shared(bn | relu)
c: b | norm | conv(3x3, 4) | norm | conv(3x3, 4) | norm
c | globalpool | dense(3) | softmax
"""
TWO_ENDS = """
input 6x6x3
a: conv(3x3, 4) | bn | relu
b: a | 4 x residual()
side: b | globalpool | dense(2) | sigmoid
c: b | 4 x residual()
main: c | globalpool | dense(3) | softmax
output side, main
"""


def trained(net: Net, frozen: frozenset[str] = frozenset(), tuned: bool = False, **how: Any) -> Any:
    """Outputs, statistics and the gradient of a loss that weighs every output, in float64."""
    rng = np.random.default_rng(0)
    weights = jax.tree.map(lambda array: np.float64(array) + 0.1 * rng.standard_normal(array.shape), net.init(0))
    inputs = {
        node.name: rng.integers(4, size=(3, *node.shape))
        if getattr(node.op, "dtype", "") == "int"
        else rng.standard_normal((3, *node.shape))
        for node in net.graph.inputs
    }
    table = {"table": chosen()} if tuned else {}

    def both(weights: Any, inputs: Any) -> Any:
        def loss(weights: Any) -> Any:
            outputs, statistics = apply(
                net.graph,
                weights,
                inputs,
                train=True,
                key=jax.random.key(7),
                precision="f64",
                frozen=frozen,
                **table,
                **how,
            )
            sums = [jnp.sum(jnp.sin(place + output)) for place, output in enumerate(outputs.values())]
            return jnp.sum(jnp.stack(sums)), (outputs, statistics)

        return jax.grad(loss, has_aux=True)(weights)

    with jax.enable_x64(True):
        return jax.jit(both, compiler_options=QUICK)(weights, inputs)


def assert_same(found: Any, expected: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        scale = np.abs(other).max(initial=1.0)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * scale)


HOWS = [{"scan": 2}, {"remat": True}, {"scan": 3, "remat": True}]
EACH_WAY = pytest.mark.parametrize("how", HOWS, ids=["scan", "remat", "both"])


@EACH_WAY
@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("text", [RESIDUAL, SHARED, TWO_ENDS], ids=["residual", "shared", "two ends"])
def test_training_is_the_same(text: str, tuned: bool, how: dict[str, Any]) -> None:
    net = network(text.strip())
    assert_same(trained(net, tuned=tuned, **how), trained(net, tuned=tuned))
