"""`precision bf16` rounds values and products; sums, norms, weights and what the optimizer gets stay in float32."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnc import ops
from cnnc.backends.jax.apply import apply
from cnnc.backends.jax.forms.choice import PLAIN, Table, chosen
from cnnc.backends.jax.init import initialize
from cnnc.backends.jax.training.state import first_state
from cnnc.backends.jax.training.step import training_step
from cnnc.backends.protocols import Criterion
from cnnc.net import Net
from cnnc.recipe import Adam, CrossEntropy, Lars, Lion, Optimizer, Recipe, Sgd
from tests.support.networks import Builder, sequential

SIZE = (40, 40, 4)
COUNT = 16
"""Of pictures: 25,600 positions in all, where a sum of bfloat16 values stops growing after some hundreds."""


def scaled_net() -> Net:
    """Squeeze-and-excite's way: a number for each channel times all values of it."""
    builder = Builder()
    x = builder.input("input", SIZE)
    pooled = builder.add("pool", ops.GlobalPool(keepdims=True), x)
    scale = builder.add("scale", ops.Conv((1,), 4), pooled)
    shift = builder.add("shift", ops.Conv((1,), 4), pooled)
    return builder.net(output=builder.add("add", ops.Add(), builder.add("mul", ops.Mul(), x, scale), shift))


NETS = {
    "conv": sequential(SIZE, ops.Conv((3,), 8)),
    "conv of one": sequential(SIZE, ops.Conv((1,), 8)),
    "conv in groups": sequential(SIZE, ops.Conv((3,), 8, groups=2)),
    "depthwise": sequential(SIZE, ops.Depthwise((3,))),
    "depthwise with a stride": sequential(SIZE, ops.Depthwise((3,), stride=(2,))),
    "depthwise, two for each": sequential(SIZE, ops.Depthwise((3,), multiplier=2)),
    "conv_transpose": sequential(SIZE, ops.ConvTranspose((2,), 8, stride=(2,))),
    "dense": sequential((1600, 4), ops.Dense(8)),
    "prelu": sequential(SIZE, ops.Prelu()),
    "layer_scale": sequential(SIZE, ops.LayerScale()),
    "mul and add": scaled_net(),
    "attention": sequential((200, 8), ops.Attention(2)),
    "bn": sequential(SIZE, ops.BatchNorm()),
    "layer_norm": sequential(SIZE, ops.LayerNorm()),
    "group_norm": sequential(SIZE, ops.GroupNorm(2)),
    "embedding": sequential((1600,), ops.Embedding(3, 4), dtype="int"),
}


PLAIN_FORMS = ("conv", "depthwise", "dense", "mul and add", "attention", "bn", "layer_norm", "embedding")
"""Layers of each kind; what is another form of one of them is slow."""


@pytest.mark.parametrize(
    "name", [name if name in PLAIN_FORMS else pytest.param(name, marks=pytest.mark.slow) for name in NETS]
)
def test_gradients_are_float32s_to_rounding(name: str) -> None:
    graph = NETS[name].graph
    generator = np.random.default_rng(0)
    weights = {
        node: {
            short: array if short in ("mean", "variance") else generator.normal(0.5, 0.3, array.shape).astype("float32")
            for short, array in own.items()
        }
        for node, own in initialize(graph, 0).items()
    }
    (source,) = graph.inputs
    ((_, end),) = graph.outputs
    whole = isinstance(source.op, ops.Input) and source.op.dtype == "int"
    shape = (COUNT, *source.shape)
    x = generator.integers(0, 3, shape) if whole else generator.normal(0.5, 1, shape).astype("float32")
    slope = generator.normal(0.5, 1, (COUNT, *graph[end].shape)).astype("float32")
    for table in (PLAIN, chosen()):
        exact = gradients_of(graph, weights, {source.name: x}, slope, "f32", PLAIN)
        found = gradients_of(graph, weights, {source.name: x}, slope, "bf16", table)
        for node, own in exact.items():
            for short, array in own.items():
                if short in ("mean", "variance", "key_bias"):  # a key's bias moves all shares alike: no gradient
                    continue
                assert found[node][short].dtype == np.float32
                error = np.linalg.norm(found[node][short] - array) / np.linalg.norm(array)
                assert error < 0.03, f"{node}.{short}: {error}"


def gradients_of(graph: Any, weights: Any, inputs: Any, slope: Any, precision: Any, table: Table) -> Any:
    def objective(weights: Any, inputs: Any, slope: Any) -> Any:
        outputs, _ = apply(graph, weights, inputs, train=True, precision=precision, table=table)
        return (outputs["output"] * slope).sum()

    return jax.tree.map(np.asarray, jax.jit(jax.grad(objective))(weights, inputs, slope))


def network() -> Net:
    return sequential(
        (16, 16, 4),
        ops.Conv((3,), 8, bias=False),
        ops.BatchNorm(),
        ops.Relu(),
        ops.Depthwise((3,)),
        ops.Conv((1,), 16),
        ops.MaxPool((2,)),
        ops.Conv((3,), 16, stride=(2,)),
        ops.GroupNorm(2),
        ops.GlobalPool(),
        ops.Dense(10),
    )


def lowered(precision: Any, table: Table, recipe: Recipe) -> tuple[Any, Any, Any]:
    """The step, its first state, and the text of its program before XLA changes it."""
    net = network()
    own = Recipe(optimizer=recipe.optimizer, precision=precision, ema=0.9, clip=1.0, accumulate=2)
    step: Any = training_step(net.graph, own, (Criterion(CrossEntropy(), has_classes=True),), table=table)
    state = first_state(net.graph, own, initialize(net.graph, 0))
    text = step.lower(state, *batch(), np.float32(0.1)).as_text()
    return step, state, text


def batch() -> tuple[dict[str, Any], tuple[Any]]:
    generator = np.random.default_rng(0)
    pictures = generator.normal(size=(6, 16, 16, 4)).astype(np.float32)
    return {"input": pictures}, (generator.integers(0, 10, 6).astype(np.int32),)


@pytest.mark.parametrize(
    "optimizer",
    [Sgd(0.9, True, 1e-4), Adam(), *(pytest.param(each, marks=pytest.mark.slow) for each in (Lars(), Lion()))],
    ids=repr,
)
def test_all_that_a_step_keeps_is_in_float32(optimizer: Optimizer) -> None:
    step, state, _ = lowered("bf16", PLAIN, Recipe(optimizer=optimizer))
    for update in (False, True):
        found = step.lower(state, *batch(), np.float32(0.1), update=update).out_info
        for leaf in jax.tree.leaves(found):
            assert leaf.dtype in (jnp.float32, jnp.int32, jnp.bool_), leaf


@pytest.mark.parametrize("is_plain", [True, False])
def test_bf16_turns_no_array_over_that_float32_does_not(is_plain: bool) -> None:
    table = PLAIN if is_plain else chosen()
    found = {}
    for precision in ("f32", "bf16"):
        _, _, text = lowered(precision, table, Recipe())
        shapes = re.findall(r"stablehlo\.transpose.*?: \(tensor<([0-9x]+)x\w+>\)", text)
        assert len(shapes) == text.count("stablehlo.transpose")
        found[precision] = Counter(shapes)
    assert found["bf16"] == found["f32"]
    # What is turned over are weights of matrix products and their gradients, never a batch of pictures.
    assert not [shape for shape in found["f32"] if shape.count("x") > 1], found["f32"]


def test_norms_are_computed_in_float32() -> None:
    _, _, text = lowered("bf16", PLAIN, Recipe())
    kinds = re.findall(r"stablehlo\.rsqrt .*: tensor<(?:[0-9x]+x)?(\w+)>", text)
    assert set(kinds) == {"f32"}
    convolutions = re.findall(r"stablehlo\.convolution.*: \(tensor<[0-9x]+x(\w+)>", text)
    assert set(convolutions) == {"bf16"}
