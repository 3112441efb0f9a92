"""What the compiled programs must not do: copy the state, or turn pictures round in memory."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnnc
from cnnc.backends.jax.forms.choice import PLAIN
from cnnc.backends.jax.training.state import first_state
from cnnc.backends.jax.training.step import training_step
from cnnc.backends.protocols import Criterion
from cnnc.net import Net
from cnnc.recipe import Adam, CrossEntropy, Recipe
from tests.support.networks_of_texts import network

CRITERIA = (Criterion(CrossEntropy(), has_classes=True),)
SMALL = """
input 8x8x3
conv(3x3, 8) | bn | relu
2 x residual(8)
globalpool | dense(3) | softmax
"""


def lowered(net: Net, recipe: Recipe, batch: int = 4, platform: str = "cpu") -> Any:
    """The training step's program for a platform, in its plain forms."""
    step: Any = training_step(net.graph, recipe, CRITERIA, table=PLAIN)
    state = jax.eval_shape(lambda: first_state(net.graph, recipe, net.init(0)))
    (entry,) = net.graph.inputs
    inputs = {entry.name: jnp.zeros((batch, *entry.shape), jnp.uint8)}
    return step.trace(state, inputs, (np.zeros(batch, np.int32),), 0.1).lower(lowering_platforms=(platform,))


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(optimizer=Adam(), accumulate=2, ema=0.99)], ids=["sgd", "adam"])
def test_every_byte_of_the_state_is_given_to_the_step(recipe: Recipe) -> None:
    """XLA writes the new state over the old one, and says so: `input_output_alias`."""
    net = network(SMALL.strip())
    state = jax.eval_shape(lambda: first_state(net.graph, recipe, net.init(0)))
    compiled = lowered(net, recipe).compile()
    arrays = jax.tree.leaves(state)
    assert compiled.as_text().count("may-alias") == len(arrays)
    assert compiled.memory_analysis().alias_size_in_bytes == sum(array.size * array.dtype.itemsize for array in arrays)


@pytest.mark.parametrize(
    ("platform", "precision"), [("cpu", "f32"), pytest.param("cuda", "bf16", marks=pytest.mark.slow), ("tpu", "bf16")]
)
def test_a_training_step_turns_no_pictures_round(platform: str, precision: Any) -> None:
    """Channels stay last, forwards and backwards: what is turned are two matrices, the last layer's."""
    net = cnnc.load("resnet18", input=(64, 64, 3))
    text = lowered(net, Recipe(precision=precision), platform=platform).as_text()
    assert text.count("stablehlo.convolution") > 2 * 17
    turned = re.findall(r"stablehlo\.transpose .*: \(tensor<([^>]*)>\)", text)
    assert turned
    assert [shape for shape in turned if shape.count("x") > 2] == []


def test_a_forward_pass_on_a_cpu_turns_nothing_round() -> None:
    net = cnnc.load("resnet18", input=(64, 64, 3))
    compiled: Any = jax.jit(net.apply).lower(net.init(0), jnp.zeros((2, 64, 64, 3))).compile()
    assert " transpose(" not in compiled.as_text()
