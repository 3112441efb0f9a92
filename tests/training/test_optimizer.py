"""Optimizers against their papers' formulas in NumPy; what decay leaves alone; schedules at known points."""

from __future__ import annotations

from math import cos, pi, sqrt

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from cnnc import ops
from cnnc.backends.jax.init import initialize
from cnnc.backends.jax.training.state import first_state
from cnnc.backends.jax.training.step import training_step
from cnnc.backends.protocols import Criterion
from cnnc.net import Net
from cnnc.recipe import (
    Adam,
    AdamW,
    Constant,
    Cosine,
    Exponential,
    Lars,
    Linear,
    Lion,
    MeanSquaredError,
    OneCycle,
    Optimizer,
    OutOfRange,
    Recipe,
    RmsProp,
    Sgd,
    Step,
)
from cnnc.training.learning_rate import learning_rate
from tests.support.networks import sequential

Array = NDArray[np.float64]
RATES = (0.1, 0.2, 0.05, 0.01)
X: Array = np.random.default_rng(0).normal(size=(8, 3))
Y: Array = np.random.default_rng(1).normal(size=(8, 2))


def numpy_steps(optimizer: Optimizer, kernel: Array, bias: Array) -> tuple[Array, Array]:
    """Kernel and bias of a linear least-squares model after a step at each of RATES."""
    of_kernel, of_bias = Moments(), Moments()
    for count, rate in enumerate(RATES, start=1):
        error = 2 * (X @ kernel + bias - Y) / Y.size
        kernel, bias = (
            kernel - of_kernel.step(optimizer, X.T @ error, kernel, rate, count),
            bias - of_bias.step(optimizer, error.sum(axis=0), 0 * bias, rate, count),
        )
    return kernel, bias


class Moments:
    """What an optimizer remembers of one weight."""

    def __init__(self) -> None:
        self.first: Array = np.zeros(())
        self.second: Array = np.zeros(())

    def step(self, optimizer: Optimizer, gradient: Array, decayed: Array, rate: float, count: int) -> Array:
        """What is taken off the weight; `decayed` is the weight, or nothing where decay does not reach."""
        match optimizer:
            case Sgd(momentum=momentum, nesterov=nesterov, weight_decay=decay):
                gradient = gradient + decay * decayed
                self.first = momentum * self.first + gradient
                return rate * (gradient + momentum * self.first if nesterov else self.first)
            case Adam(weight_decay=decay):
                return rate * self._adam(
                    optimizer.b1, optimizer.b2, optimizer.epsilon, gradient + decay * decayed, count
                )
            case AdamW(weight_decay=decay):
                adam = self._adam(optimizer.b1, optimizer.b2, optimizer.epsilon, gradient, count)
                return rate * (adam + decay * decayed)
            case RmsProp(decay=share, momentum=momentum, epsilon=epsilon, weight_decay=decay):
                gradient = gradient + decay * decayed
                self.second = share * self.second + (1 - share) * gradient**2
                self.first = momentum * self.first + rate * gradient / np.sqrt(self.second + epsilon)
                return self.first
            case Lars(momentum=momentum, weight_decay=decay, trust=trust, nesterov=nesterov):
                gradient = gradient + decay * decayed
                is_scaled = bool(np.any(decayed))
                scale = trust * np.linalg.norm(decayed) / np.linalg.norm(gradient) if is_scaled else 1.0
                step = rate * scale * gradient
                self.first = momentum * self.first + step
                return step + momentum * self.first if nesterov else self.first
            case Lion(b1=b1, b2=b2, weight_decay=decay):
                sign = np.sign(b1 * self.first + (1 - b1) * gradient)
                self.first = b2 * self.first + (1 - b2) * gradient
                return rate * (sign + decay * decayed)
        raise AssertionError(optimizer)

    def _adam(self, b1: float, b2: float, epsilon: float, gradient: Array, count: int) -> Array:
        self.first = b1 * self.first + (1 - b1) * gradient
        self.second = b2 * self.second + (1 - b2) * gradient**2
        return (self.first / (1 - b1**count)) / (np.sqrt(self.second / (1 - b2**count)) + epsilon)


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(Sgd(), marks=pytest.mark.slow),
        pytest.param(Sgd(momentum=0.9, weight_decay=0.1), marks=pytest.mark.slow),
        Sgd(momentum=0.9, nesterov=True, weight_decay=0.1),
        Adam(weight_decay=0.1),
        AdamW(b1=0.8, weight_decay=0.1),
        pytest.param(RmsProp(epsilon=1e-3), marks=pytest.mark.slow),
        RmsProp(decay=0.8, momentum=0.9, epsilon=1e-3, weight_decay=0.1),
        pytest.param(Lars(trust=0.3), marks=pytest.mark.slow),
        pytest.param(Lars(momentum=0.0, weight_decay=0.0, trust=0.3), marks=pytest.mark.slow),
        Lars(momentum=0.8, weight_decay=0.1, trust=0.3, nesterov=True),
        pytest.param(Lion(), marks=pytest.mark.slow),
        Lion(b1=0.8, b2=0.95, weight_decay=0.1),
    ],
    ids=repr,
)
def test_steps_are_those_of_the_papers_formulas(optimizer: Optimizer) -> None:
    net = sequential((3,), ops.Dense(2))
    weights = initialize(net.graph, 0)
    recipe = Recipe(optimizer=optimizer)
    step = training_step(net.graph, recipe, (Criterion(MeanSquaredError(), has_classes=False),))
    state = first_state(net.graph, recipe, weights)
    (name,) = weights
    kernel, bias = (np.asarray(weights[name][short], np.float64) for short in ("kernel", "bias"))
    for rate in RATES:
        state, measured = step(state, {"input": X.astype(np.float32)}, (Y.astype(np.float32),), rate)
    assert np.isfinite(measured.total)
    found = state.weights[name]
    wanted = numpy_steps(optimizer, kernel, bias)
    np.testing.assert_allclose(found["kernel"], wanted[0], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(found["bias"], wanted[1], rtol=2e-5, atol=2e-6)


def decayed_net() -> Net:
    return sequential(
        (6, 6, 2), ops.Conv((3,), 4), ops.BatchNorm(), ops.Prelu(), ops.GroupNorm(2), ops.GlobalPool(), ops.Dense(3)
    )


@pytest.mark.parametrize(
    "optimizer", [Sgd(weight_decay=0.5), AdamW(weight_decay=0.5), Lion(weight_decay=0.5)], ids=repr
)
def test_decay_shrinks_kernels_and_leaves_norms_and_biases(optimizer: Optimizer) -> None:
    net = decayed_net()
    recipe = Recipe(optimizer=optimizer)
    weights = {
        node: {short: jnp.full(array.shape, 0.5, jnp.float32) for short, array in arrays.items()}
        for node, arrays in initialize(net.graph, 0).items()
    }
    # A loss that weighs nothing has no gradient: what moves is moved by decay.
    step = training_step(net.graph, recipe, (Criterion(MeanSquaredError(weight=0.0), has_classes=False),))
    pictures = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 2)).astype(np.uint8)
    state, _ = step(first_state(net.graph, recipe, weights), {"input": pictures}, (np.zeros((4, 3), np.float32),), 0.1)
    seen = set()
    for node, arrays in state.weights.items():
        for short, array in arrays.items():
            if short in ("mean", "variance"):
                continue
            seen.add(short)
            expected = 0.5 * (1 - 0.1 * 0.5) if short == "kernel" else 0.5
            np.testing.assert_allclose(array, expected, rtol=1e-6, err_msg=f"{node}.{short}")
    assert {"kernel", "bias", "gamma", "beta"} <= seen


def test_lars_scales_kernels_and_leaves_norms_and_biases_alone() -> None:
    # The layers' steps have the length trust * rate * |w| whatever their gradients; all else takes its gradient.
    net = decayed_net()
    weights = initialize(net.graph, 0)
    pictures = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 2)).astype(np.uint8)
    found = []
    for recipe in (Recipe(optimizer=Lars(0.0, 0.0, trust=0.01)), Recipe(optimizer=Sgd())):
        step = training_step(net.graph, recipe, (Criterion(MeanSquaredError(), has_classes=False),))
        batch = {"input": pictures}, (np.ones((4, 3), np.float32),)
        state, _ = step(first_state(net.graph, recipe, weights), *batch, 0.1)
        found.append(state.weights)
    scaled, plain = found
    for node, arrays in scaled.items():
        for short, array in arrays.items():
            if short == "kernel":
                before = np.asarray(weights[node][short])
                length = np.linalg.norm(np.asarray(array) - before)
                assert length == pytest.approx(0.001 * np.linalg.norm(before), rel=1e-3)
            else:
                np.testing.assert_array_equal(array, plain[node][short])


def test_running_statistics_follow_the_data_and_no_gradient() -> None:
    net = decayed_net()
    recipe = Recipe(optimizer=Sgd(weight_decay=0.5))
    step = training_step(net.graph, recipe, (Criterion(MeanSquaredError(), has_classes=False),))
    weights = initialize(net.graph, 0)
    norm = next(node.name for node in net.graph if isinstance(node.op, ops.BatchNorm))
    before = {short: np.array(array) for short, array in weights[norm].items()}
    inputs = {"input": np.random.default_rng(0).integers(0, 256, (4, 6, 6, 2)).astype(np.uint8)}
    state, _ = step(first_state(net.graph, recipe, weights), inputs, (np.zeros((4, 3), np.float32),), 0.0)
    after = state.weights[norm]
    assert not np.allclose(after["mean"], before["mean"])
    np.testing.assert_array_equal(after["gamma"], before["gamma"])


# Schedules


def test_schedules_at_known_points() -> None:
    assert learning_rate(Constant(0.1), 3.5, 10) == 0.1
    assert learning_rate(Cosine(0.1), 0, 10) == pytest.approx(0.1)
    assert learning_rate(Cosine(0.1), 5, 10) == pytest.approx(0.05)
    assert learning_rate(Cosine(0.1), 10, 10) == pytest.approx(0)
    assert learning_rate(Cosine(0.1, floor=0.2), 10, 10) == pytest.approx(0.02)
    assert learning_rate(Cosine(0.1, warmup=2), 4, 10) == pytest.approx(0.1 * (1 + cos(pi / 4)) / 2)
    step = Step(1.0, at=(2.0, 4.0), factor=0.1)
    assert [learning_rate(step, epoch, 9) for epoch in (1.99, 2, 3.9, 4)] == pytest.approx([1, 0.1, 0.1, 0.01])
    assert learning_rate(Linear(1.0, warmup=1, floor=0.2), 5, 9) == pytest.approx(0.6)
    assert learning_rate(Linear(1.0), 9, 9) == 0
    assert learning_rate(Exponential(1.0, factor=0.25, every=2), 1, 9) == pytest.approx(0.5)
    cycle = OneCycle(0.8, rise=0.25, start=0.1, end=0.05)
    # Up: 0.8 * (1 + 0.1) / 2 halfway; down: 0.8 * (1 + 0.05) / 2 halfway.
    wanted = [0.08, 0.44, 0.8, 0.42, 0.04, 0.04]
    assert [learning_rate(cycle, epoch, 8) for epoch in (0, 1, 2, 5, 8, 9)] == pytest.approx(wanted)
    assert learning_rate(Exponential(1.0, warmup=1, factor=0.25, every=2), 2, 9) == pytest.approx(sqrt(0.25))


@pytest.mark.parametrize(
    "schedule", [Constant(0.4, 2), Cosine(0.4, 2), Linear(0.4, 2), Step(0.4, 2), Exponential(0.4, 2)], ids=repr
)
def test_warm_up_rises_from_zero_in_a_line(schedule: Constant) -> None:
    assert [learning_rate(schedule, epoch, 10) for epoch in (0, 0.5, 1, 2)] == pytest.approx([0, 0.1, 0.2, 0.4])


@pytest.mark.parametrize(("rise", "start", "end"), [(0.3, 0.04, 4e-6), (0.25, 0.1, 0.01)])
def test_one_cycle_is_pytorchs(rise: float, start: float, end: float) -> None:
    torch = pytest.importorskip("torch")
    steps = 200
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.5, steps, pct_start=rise, div_factor=1 / start, final_div_factor=start / end, cycle_momentum=False
    )
    rates = []
    for _ in range(steps):
        rates.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step() if len(rates) < steps else None
    # PyTorch peaks in the step before the share `rise` is over and ends in the last one, ours right after them.
    top = rise * steps - 1
    for number, rate in enumerate(rates):
        share = rise * number / top if number <= top else rise + (1 - rise) * (number - top) / (steps - 1 - top)
        assert learning_rate(OneCycle(0.5, rise, start, end), share * 30, 30) == pytest.approx(rate, rel=1e-9)


def test_a_warm_up_longer_than_the_training_only_rises() -> None:
    assert learning_rate(Cosine(0.1, warmup=5), 1, 1) == pytest.approx(0.02)


@pytest.mark.parametrize(
    "entry",
    [
        Sgd(momentum=1.0),
        Sgd(nesterov=True),
        Sgd(weight_decay=-1),
        Adam(b1=1.0),
        AdamW(epsilon=0.0),
        RmsProp(decay=1.5),
        Cosine(0.0),
        Cosine(0.1, floor=2),
        Cosine(float("inf")),
        Step(0.1, at=(3.0, 1.0)),
        Exponential(0.1, factor=0.0),
        Linear(0.1, floor=1.5),
        Exponential(0.1, every=0.0),
        Constant(0.1, warmup=-1.0),
        OneCycle(0.0),
        OneCycle(rise=0.0),
        OneCycle(rise=1.0),
        OneCycle(start=1.5),
        OneCycle(end=-0.1),
        Lars(momentum=1.0),
        Lars(trust=0.0),
        Lars(momentum=0.0, nesterov=True),
        Lars(weight_decay=-1.0),
        Lion(b1=1.0),
        Lion(b2=-0.1),
        Lion(weight_decay=-0.1),
    ],
    ids=repr,
)
def test_values_outside_their_range_are_refused(entry: Sgd) -> None:
    with pytest.raises(OutOfRange):
        entry.validate()
