"""What a training step does beside descending: it gathers, clips, averages, and keeps the state from bad batches."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.typing import NDArray

from cnnc import ops
from cnnc.backends.jax.init import initialize
from cnnc.backends.jax.training.nonfinite import first_nonfinite
from cnnc.backends.jax.training.state import State, first_state
from cnnc.backends.jax.training.step import training_step
from cnnc.backends.protocols import Criterion, Nonfinite, TrainingStep
from cnnc.net import Net
from cnnc.recipe import Adam, CrossEntropy, Lion, MeanSquaredError, Optimizer, Recipe, RmsProp, Sgd
from tests.support.networks import Builder, sequential

CRITERIA = (Criterion(CrossEntropy(), has_classes=True),)
RATE = 0.05


def plain_net() -> Net:
    """Without batch norm: what a picture does depends on it alone."""
    return sequential((6, 6, 2), ops.Conv((3,), 4), ops.GroupNorm(2), ops.Relu(), ops.GlobalPool(), ops.Dense(3))


def normed_net(rate: float = 0.0) -> Net:
    dropped = (ops.Dropout(rate),) if rate else ()
    return sequential(
        (6, 6, 2), ops.Conv((3,), 4), ops.BatchNorm(), ops.Relu(), ops.GlobalPool(), *dropped, ops.Dense(3)
    )


def batch(seed: int, count: int = 8) -> tuple[dict[str, NDArray[np.float32]], tuple[NDArray[np.int32]]]:
    generator = np.random.default_rng(seed)
    pictures = generator.normal(size=(count, 6, 6, 2)).astype(np.float32)
    return {"input": pictures}, (generator.integers(0, 3, count).astype(np.int32),)


def poisoned(seed: int) -> tuple[dict[str, NDArray[np.float32]], tuple[NDArray[np.int32]]]:
    inputs, targets = batch(seed)
    inputs["input"][3, 2, 2, 1] = np.inf
    return inputs, targets


def on_host(tree: Any) -> Any:
    """A copy that outlives the next step."""
    return jax.tree.map(np.array, tree)


def assert_same(found: Any, wanted: Any) -> None:
    """Bit for bit, with the same structure, or else jax refuses."""

    def check(one: Any, other: Any) -> None:
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype

    jax.tree.map(check, found, wanted)


def start(net: Net, recipe: Recipe) -> tuple[TrainingStep[State], State]:
    return training_step(net.graph, recipe, CRITERIA), first_state(net.graph, recipe, initialize(net.graph, 0))


# Accumulation


@pytest.mark.parametrize("optimizer", [pytest.param(Sgd(0.9, True, 1e-3), marks=pytest.mark.slow), Adam()], ids=repr)
def test_steps_that_gather_are_one_step_of_the_whole_batch(optimizer: Optimizer) -> None:
    net = plain_net()
    one, whole = start(net, Recipe(optimizer=optimizer))
    few, parts = start(net, Recipe(optimizer=optimizer, accumulate=4))
    for number in range(3):
        inputs, targets = batch(number, 16)
        whole, _ = one(whole, inputs, targets, RATE)
        for part in range(4):
            rows = slice(4 * part, 4 * part + 4)
            own = {"input": inputs["input"][rows]}, (targets[0][rows],)
            parts, _ = few(parts, *own, RATE, part == 3)
    assert (int(whole.step), int(whole.updates)) == (3, 3)
    assert (int(parts.step), int(parts.updates), int(parts.waiting)) == (12, 3, 0)
    for node, arrays in parts.weights.items():
        for short, array in arrays.items():
            np.testing.assert_allclose(array, whole.weights[node][short], rtol=2e-5, atol=2e-6)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(parts.gathered))


def test_gathering_changes_batch_norms_statistics_and_no_weight() -> None:
    net = normed_net()
    step, state = start(net, Recipe(accumulate=2))
    before = on_host(state)
    state, _ = step(state, *batch(0), RATE, False)
    assert_same(state.trainable, before.trainable)
    assert_same(state.optimizer, before.optimizer)
    assert not np.allclose(state.statistics["bn1"]["mean"], before.statistics["bn1"]["mean"])
    assert int(state.waiting) == 1


def test_an_epochs_last_update_takes_the_mean_of_what_was_gathered() -> None:
    net = plain_net()
    few, parts = start(net, Recipe(optimizer=Sgd(), accumulate=4))
    one, whole = start(net, Recipe(optimizer=Sgd()))
    inputs, targets = batch(0, 8)
    for part in range(2):
        rows = slice(4 * part, 4 * part + 4)
        parts, _ = few(parts, {"input": inputs["input"][rows]}, (targets[0][rows],), RATE, part == 1)
    whole, _ = one(whole, inputs, targets, RATE)
    for found, wanted in zip(jax.tree.leaves(parts.weights), jax.tree.leaves(whole.weights), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


# Clipping


@pytest.mark.parametrize("clip", [0.1, 1e3])
def test_gradients_are_clipped_as_optax_clips_them(clip: float) -> None:
    net = plain_net()
    free, state = start(net, Recipe(optimizer=Sgd()))
    before = on_host(state.trainable)
    state, loose = free(state, *batch(0), 1.0)
    gradients = jax.tree.map(lambda old, new: old - new, before, on_host(state.trainable))
    clipped, _ = optax.clip_by_global_norm(clip).update(gradients, optax.EmptyState())
    step, state = start(net, Recipe(optimizer=Sgd(), clip=clip))
    state, measured = step(state, *batch(0), 1.0)
    found = jax.tree.map(lambda old, new: old - new, before, on_host(state.trainable))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(clipped), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-7)
    norm = np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(gradients)))
    assert float(measured.norm) == float(loose.norm) == pytest.approx(norm, rel=1e-5)


def test_the_norm_is_of_all_groups_together() -> None:
    net = plain_net()
    recipe = Recipe(optimizer=Sgd(), clip=0.05)
    names = [node.name for node in net.graph if net.graph.weights(node)]
    groups = [{names[0]: 1.0}, {name: 1.0 for name in names[1:]}]
    step = training_step(net.graph, recipe, CRITERIA, groups)
    state, measured = step(first_state(net.graph, recipe, initialize(net.graph, 0), groups), *batch(0), RATE)
    together, whole = start(net, recipe)
    whole, at_once = together(whole, *batch(0), RATE)
    assert float(measured.norm) == pytest.approx(float(at_once.norm), rel=1e-6)
    for found, wanted in zip(jax.tree.leaves(state.weights), jax.tree.leaves(whole.weights), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)


# Average


def test_the_average_is_that_of_the_formula() -> None:
    net = normed_net()
    step, state = start(net, Recipe(ema=0.6))
    wanted = jax.tree.map(lambda array: np.asarray(array, np.float64), on_host(state.weights))
    assert_same(state.evaluation_weights, state.weights)
    for number in range(12):
        state, _ = step(state, *batch(number), RATE)
        share = min(0.6, (2 + number) / (11 + number))
        wanted = jax.tree.map(lambda a, w, d=share: d * a + (1 - d) * np.asarray(w), wanted, state.weights)
    for found, formula in zip(jax.tree.leaves(state.evaluation_weights), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(found, formula, rtol=1e-5, atol=1e-6)
    assert "mean" in state.evaluation_weights["bn1"]


def test_without_an_average_the_weights_are_evaluated() -> None:
    net = normed_net()
    step, state = start(net, Recipe())
    state, _ = step(state, *batch(0), RATE)
    assert state.average == {}
    assert_same(state.evaluation_weights, state.weights)


def test_the_average_moves_at_updates_only() -> None:
    net = normed_net()
    step, state = start(net, Recipe(ema=0.9, accumulate=2))
    before = on_host(state.average)
    state, _ = step(state, *batch(0), RATE, False)
    assert_same(state.average, before)
    state, _ = step(state, *batch(1), RATE, True)
    assert int(state.updates) == 1
    assert not np.allclose(state.average["dense4"]["kernel"], before["dense4"]["kernel"])


def test_what_is_frozen_has_itself_for_an_average_and_thaws_with_it() -> None:
    net = normed_net()
    recipe = Recipe(ema=0.9, accumulate=2)
    groups = [{"dense4": 1.0}]
    step = training_step(net.graph, recipe, CRITERIA, groups)
    state = first_state(net.graph, recipe, initialize(net.graph, 0), groups)
    before = on_host(state.weights)
    for number in range(4):
        state, _ = step(state, *batch(number), RATE, number % 2 == 1)
    for name in ("conv0", "bn1"):
        assert_same(state.evaluation_weights[name], before[name])
    average = on_host(state.average)
    groups.append({"conv0": 1.0, "bn1": 1.0})
    state = state.unfreeze(net.graph, recipe, groups[-1])
    assert_same(state.average, average)
    assert_same(jax.tree.map(jnp.zeros_like, state.trainable), state.gathered)
    step = training_step(net.graph, recipe, CRITERIA, groups)
    state, _ = step(state, *batch(5), RATE, True)
    assert not np.allclose(state.evaluation_weights["conv0"]["kernel"], before["conv0"]["kernel"])


# Bad batches


@pytest.mark.parametrize(
    ("on_nan", "update", "optimizer"),
    [
        ("stop", True, Adam()),
        pytest.param("stop", False, Sgd(0.9), marks=pytest.mark.slow),
        pytest.param("skip", True, RmsProp(momentum=0.9), marks=pytest.mark.slow),
        ("skip", False, Lion()),
    ],
    ids=repr,
)
def test_a_bad_batch_changes_no_bit(on_nan: Any, update: bool, optimizer: Optimizer) -> None:
    net = normed_net()
    recipe = Recipe(optimizer=optimizer, ema=0.9, accumulate=2, clip=1.0, on_nan=on_nan)
    step, state = start(net, recipe)
    for number in range(3):
        state, measured = step(state, *batch(number), RATE, number == 1)
        assert bool(measured.good)
    before = on_host(state)
    state, measured = step(state, *poisoned(3), RATE, update)
    assert not bool(measured.good)
    assert_same(on_host(state), before._replace(step=np.int32(4), halted=np.bool_(on_nan == "stop")))
    after = on_host(state)
    state, measured = step(state, *batch(4), RATE, True)
    assert bool(measured.good)
    if on_nan == "stop":
        assert_same(on_host(state), after)
    else:
        assert (int(state.step), int(state.updates), int(state.waiting)) == (5, 2, 0)


def test_skipping_is_as_if_the_batch_had_never_been() -> None:
    net = normed_net()
    step, state = start(net, Recipe(on_nan="skip"))
    for each in (batch(0), poisoned(1), batch(2)):
        state, _ = step(state, *each, RATE)
    other, without = start(net, Recipe(on_nan="skip"))
    for each in (batch(0), batch(2)):
        without, _ = other(without, *each, RATE)
    assert_same(state.weights, without.weights)


def test_weights_that_overflow_halt_at_the_last_good_ones() -> None:
    net = plain_net()
    step, state = start(net, Recipe(optimizer=Sgd()))
    goods = []
    for number in range(10):
        state, measured = step(state, *batch(number), 1e37)
        goods.append(bool(measured.good))
    assert not goods[-1]
    assert int(state.step) == goods.index(False) + 1
    assert int(state.updates) == goods.index(False)


# What was bad


def explained(net: Net, recipe: Recipe, state: State, inputs: Any, targets: Any, criteria: Any = CRITERIA) -> Any:
    return first_nonfinite(net.graph, recipe, criteria, None, state, inputs, targets)


def test_nothing_is_wrong_with_a_good_step() -> None:
    net = normed_net(0.3)
    _, state = start(net, Recipe())
    assert explained(net, Recipe(), state, *batch(0)) is None


def test_data_that_is_no_number_is_told_apart() -> None:
    net = normed_net()
    _, state = start(net, Recipe())
    assert explained(net, Recipe(), state, *poisoned(0)) == Nonfinite("input", "input")
    criteria = (Criterion(MeanSquaredError(), has_classes=False),)
    inputs, _ = batch(0)
    targets = (np.full((8, 3), np.nan, np.float32),)
    assert explained(net, Recipe(), state, inputs, targets, criteria) == Nonfinite("dense4", "target")


@pytest.mark.parametrize("precision", ["f32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_the_first_layer_that_overflows_is_found(precision: Any) -> None:
    net = normed_net()
    recipe = Recipe(precision=precision)
    weights = initialize(net.graph, 0)
    weights["dense4"]["kernel"] = jnp.full_like(weights["dense4"]["kernel"], 3e38)
    state = first_state(net.graph, recipe, weights)
    assert explained(net, recipe, state, *batch(0)) == Nonfinite("dense4", "value")
    weights["conv0"]["kernel"] = jnp.full_like(weights["conv0"]["kernel"], 3e38)
    state = first_state(net.graph, recipe, weights)
    assert explained(net, recipe, state, *batch(0)) == Nonfinite("conv0", "value")


def test_a_loss_that_overflows_is_found_at_its_output() -> None:
    builder = Builder()
    pixels = builder.input("input", (4,))
    first, second = builder.add("a", ops.Dense(2), pixels), builder.add("b", ops.Dense(2), pixels)
    net = builder.net(one=first, two=second)
    criteria = (Criterion(MeanSquaredError(), False), Criterion(MeanSquaredError(), False))
    targets = (np.zeros((8, 2), np.float32), np.full((8, 2), 1e30, np.float32))
    state = first_state(net.graph, Recipe(), initialize(net.graph, 0))
    inputs = {"input": np.ones((8, 4), np.float32)}
    assert explained(net, Recipe(), state, inputs, targets, criteria) == Nonfinite("b", "loss")


def test_a_gradient_that_overflows_is_found_nearest_to_the_output() -> None:
    # All values are 0, as the first layer's weights are; on the way back one huge weight after the other multiplies.
    net = sequential((4,), ops.Dense(3), ops.Dense(3), ops.Dense(2))
    weights = initialize(net.graph, 0)
    zeros = {node: jax.tree.map(jnp.zeros_like, dict(own)) for node, own in weights.items()}
    zeros["dense2"]["kernel"] += 3e38
    zeros["dense1"]["kernel"] += 3e38
    criteria = (Criterion(MeanSquaredError(), has_classes=False),)
    recipe = Recipe()
    state = first_state(net.graph, recipe, zeros)
    found = explained(
        net, recipe, state, {"input": np.ones((8, 4), np.float32)}, (np.full((8, 2), 10, np.float32),), criteria
    )
    assert found == Nonfinite("dense1", "gradient")
