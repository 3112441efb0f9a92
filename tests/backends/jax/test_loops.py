"""Loops over alike segments and rematerialisation: values, gradients and statistics are those of the plain network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import cnnc
from cnnc.backends.jax import loops as looping
from cnnc.backends.jax.apply import apply
from cnnc.backends.jax.forms.choice import PLAIN, Entry, Layer, Table
from cnnc.backends.jax.training.state import first_state
from cnnc.backends.jax.training.step import training_step
from cnnc.backends.protocols import Criterion
from cnnc.net import Net
from cnnc.ops import Input
from cnnc.recipe import CrossEntropy, Recipe, Sgd
from tests.support.networks_of_texts import network
from tests.support.paths import ROOT
from tests.support.spec_texts import Random, random_specs

QUICK = {"xla_backend_optimization_level": 0}

RESIDUAL = """
input 4x4x3
conv(3x3, 4)
4 x add {
identity
conv(3x3, 4, bias=false) | bn | relu | dropout(0.2) | dense(4) | drop_path(0.1 * repeat)
}
globalpool | dense(3) | softmax
"""
SHARED = """
input 4x4x3
norm = shared(bn | relu)
dense(4) | norm | dense(4) | norm | 4 x (dense(4) | bn(scale=false) | tanh) | norm
globalpool | dense(3) | softmax
"""
TWO_ENDS = """
input 4x4x3
a: dense(4) | 3 x (dense(4) | bn | relu)
side: a | globalpool | dense(2) | sigmoid
main: a | 3 x (dense(4) | bn | relu) | globalpool | dense(3) | softmax
output side, main
"""
WORDS = """
input 6 int
embedding(20, 4) | 3 x (dense(4) | layer_norm | tanh | dropout(0.1)) | globalpool | dense(3) | softmax
"""


BY_HAND = Table(
    "",
    (
        Entry(Layer("conv.input_gradient", (3, 3), (1, 1), 4, 4, 4, 3), {"xla": 9.0, "turned": 1.0}),
        Entry(Layer("conv.weight_gradient", (3, 3), (1, 1), 4, 4, 4, 3), {"xla": 9.0, "columns": 1.0}),
        Entry(Layer("batch_norm", (), (), 4, 4, 4, 3), {"autodiff": 9.0, "by_hand": 1.0}),
    ),
)


def gradient(net: Net, **how: Any) -> Callable[[Any, Any], Any]:
    """Of weights and inputs: the gradient of a loss that weighs every output, with the outputs and statistics."""

    def both(weights: Any, inputs: Any) -> Any:
        def loss(weights: Any) -> Any:
            key = jax.random.key(7)
            outputs, statistics = apply(net.graph, weights, inputs, train=True, key=key, **how)
            sums = [jnp.sum(jnp.sin(place + output)) for place, output in enumerate(outputs.values())]
            return jnp.sum(jnp.stack(sums)), (outputs, statistics)

        return jax.grad(loss, has_aux=True)(weights)

    return both


def trained(net: Net, **how: Any) -> Any:
    """`gradient` in float64 of weights and inputs drawn at random."""
    rng = np.random.default_rng(0)
    weights = jax.tree.map(lambda array: np.float64(array) + 0.1 * rng.standard_normal(array.shape), net.init(0))
    inputs: dict[str, Any] = {}
    for node in net.graph.inputs:
        assert isinstance(node.op, Input)
        shape = (3, *node.shape)
        inputs[node.name] = rng.integers(4, size=shape) if node.op.dtype == "int" else rng.standard_normal(shape)
    with jax.enable_x64(True):
        return jax.jit(gradient(net, precision="f64", **how), compiler_options=QUICK)(weights, inputs)


def assert_same(found: Any, expected: Any) -> None:
    def compare(one: Any, other: Any) -> None:
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(other).max(initial=1.0))

    jax.tree.map(compare, found, expected)


HOWS: list[dict[str, Any]] = [{"scan": 2}, {"remat": True}, {"scan": 3, "remat": True}]


@pytest.mark.parametrize(
    "text",
    [
        RESIDUAL,
        pytest.param(SHARED, marks=pytest.mark.slow),
        pytest.param(TWO_ENDS, marks=pytest.mark.slow),
        pytest.param(WORDS, marks=pytest.mark.slow),
    ],
    ids=["residual", "shared", "two ends", "words"],
)
def test_training_is_the_same_however_it_is_computed(text: str) -> None:
    net = network(text.strip())
    expected = trained(net)
    for how in HOWS:
        assert_same(trained(net, **how), expected)


@pytest.mark.slow
@given(random_specs())
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
def test_random_networks_train_the_same_however_they_are_computed(spec: Random) -> None:
    net = cnnc.load_text(spec.text)
    expected = trained(net)
    for how in HOWS:
        assert_same(trained(net, **how), expected)


@pytest.mark.slow
def test_gradients_by_hand_are_the_same_in_loops_and_when_recomputed() -> None:
    net = network(RESIDUAL.strip())
    assert "custom_vjp" in program(net, table=BY_HAND)
    expected = trained(net)
    for how in HOWS:
        assert_same(trained(net, table=BY_HAND, **how), expected)


def test_frozen_layers_keep_their_statistics_in_a_loop() -> None:
    net = network("input 4x4x3\n5 x (dense(3) | bn)\nglobalpool")
    norms = [node.name for node in net.graph if node.op.name == "bn"]
    frozen = frozenset(norms[1:])
    assert lengths(net, frozen=frozen, scan=2) == [4]
    expected = trained(net, frozen=frozen)
    assert expected[1][1].keys() == {norms[0]}
    for how in HOWS:
        assert_same(trained(net, frozen=frozen, **how), expected)


def test_a_run_is_one_loop_of_as_many_turns_as_it_repeats() -> None:
    net = network(RESIDUAL.strip())
    assert lengths(net) == []
    assert lengths(net, scan=2) == lengths(net, scan=4) == [4]
    assert lengths(net, scan=5) == []
    assert lengths(network(TWO_ENDS.strip()), scan=2) == [3, 2]


def test_the_repeat_that_reads_float32_stands_before_a_loop_in_bfloat16() -> None:
    net = network("input 4x4x3\nnormalize(mean=1, std=2)\n5 x (dense(3) | tanh)\nglobalpool")
    assert lengths(net, scan=2, precision="f32") == [5]
    assert lengths(net, scan=2, precision="bf16") == [4]
    x, weights = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4, 4, 3))), net.init(0)
    plain, looped = (apply(net.graph, weights, {"input": x}, precision="bf16", scan=scan)[0] for scan in (0, 2))
    np.testing.assert_allclose(plain["output"], looped["output"], rtol=2e-2)


def test_a_loop_is_the_same_at_inference() -> None:
    net = network(RESIDUAL.strip())
    x, weights = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4, 4, 3))), net.init(0)
    plain, looped = (apply(net.graph, weights, {"input": x}, scan=scan)[0] for scan in (0, 2))
    np.testing.assert_allclose(plain["output"], looped["output"], rtol=1e-5)


def test_a_cpu_never_loops_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend, loops in (("cpu", False), ("gpu", True), ("tpu", True)):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert (looping.chosen() != looping.NEVER) == loops


@pytest.mark.slow
def test_off_the_cpu_jax_itself_computes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(RESIDUAL.strip())
    expected = trained(net)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "prevent_cse" in program(net, remat=True)
    assert_same(trained(net, remat=True), expected)


def test_what_is_no_number_stays_so_when_computed_again() -> None:
    net = network("input 4\n4 x (dense(4) | tanh)")
    x = np.array([[1, np.nan, 2, 3]], np.float32)
    for how in [{}, *HOWS]:
        gradients, _ = gradient(net, **how)(net.init(0), {"input": x})
        assert all(np.isnan(array).any() for array in jax.tree.leaves(gradients))


@pytest.mark.slow
@pytest.mark.parametrize("scan", [pytest.param(0, marks=pytest.mark.slow), 2], ids=["plain", "in a loop"])
def test_twice_the_depth_fits_in_the_memory_when_computed_again(scan: int) -> None:
    shallow, deep = (memory(blocks(count), remat=False) for count in (4, 8))
    assert deep > 1.5 * shallow
    assert memory(blocks(8), remat=True, scan=scan) < shallow


@pytest.mark.slow
def test_a_recipe_asks_for_it_and_trains_the_same_network_in_half_the_memory() -> None:
    net = blocks(8)
    criteria = (Criterion(CrossEntropy(), has_classes=True),)
    inputs = {"input": np.random.default_rng(0).standard_normal((16, 16, 16, 8)).astype(np.float32)}
    targets = (np.arange(16, dtype=np.int32) % 3,)
    held, losses = [], []
    for remat in (False, True):
        recipe = Recipe(optimizer=Sgd(momentum=0.9), remat=remat)
        state = first_state(net.graph, recipe, net.init(0))
        step: Any = training_step(net.graph, recipe, criteria, table=PLAIN)
        compiled = step.lower(state, inputs, targets, 0.05).compile()
        held.append(compiled.memory_analysis().temp_size_in_bytes)
        measured = []
        for _ in range(4):
            state, figures = compiled(state, inputs, targets, 0.05)
            measured.append(float(figures.total))
        losses.append(measured)
    assert held[1] < 0.5 * held[0]
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


ON_TWO_DEVICES = """
import re
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from tests.backends.jax.test_loops import blocks, gradient
mesh = jax.make_mesh((2,), ("data",))
shardings = tuple(NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
net = blocks(2)
computed = jax.jit(gradient(net, remat=True), in_shardings=shardings)
text = computed.lower(net.init(0), {"input": jnp.zeros((16, 16, 16, 8))}).compile().as_text()
print(*sorted(set(re.findall(r" (all-\\w+|collective-\\w+)(?:-start)?\\(", text))))
"""


@pytest.mark.slow
def test_computing_again_moves_no_pictures_between_devices() -> None:
    """Sums of gradients and of batch norm's statistics go from one to the other, and nothing else."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ON_TWO_DEVICES]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=True)
    assert done.stdout.split() == ["all-reduce"]


def blocks(count: int) -> Net:
    return network(f"input 16x16x8\nconv(3x3, 8)\n{count} x residual()\nglobalpool | dense(3) | softmax")


def memory(net: Net, **how: Any) -> int:
    """Bytes that a gradient of a batch of 16 holds at most, beside weights and pictures, as XLA plans it."""
    x = jnp.zeros((16, 16, 16, 8))
    compiled = jax.jit(gradient(net, **how)).lower(net.init(0), {"input": x}).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return int(analysis.temp_size_in_bytes)


def lengths(net: Net, **how: Any) -> list[int]:
    """The turns of every loop in the network's program."""
    return [int(turns) for turns in re.findall(r"\blength=(\d+)", program(net, **how))]


def program(net: Net, **how: Any) -> str:
    def run(weights: Any, inputs: Any) -> Any:
        return apply(net.graph, weights, inputs, train=True, key=jax.random.key(7), **how)

    inputs = {node.name: jnp.zeros((3, *node.shape)) for node in net.graph.inputs}
    return str(jax.make_jaxpr(run)(net.init(0), inputs))
