"""First weights: the papers' variances, and independence of seed and name from everything else."""

from __future__ import annotations

import time
from math import sqrt

import numpy as np
import pytest

from cnnc import ops
from cnnc.diagnostics import CnnError
from cnnc.ir.initializers import draw
from cnnc.ops import Initializer, Weight
from tests.support.networks import sequential

FAN_IN, FAN_OUT = 300, 500


@pytest.mark.parametrize(
    ("initializer", "variance"),
    [
        ("he_normal", 2 / FAN_IN),
        ("he_uniform", 2 / FAN_IN),
        ("glorot_normal", 2 / (FAN_IN + FAN_OUT)),
        ("glorot_uniform", 2 / (FAN_IN + FAN_OUT)),
        ("lecun_normal", 1 / FAN_IN),
        ("normal", 0.02**2),
    ],
)
def test_the_variance_is_the_papers(initializer: Initializer, variance: float) -> None:
    count = FAN_IN * FAN_OUT
    drawn = draw(Weight((FAN_IN, FAN_OUT), initializer, FAN_IN, FAN_OUT), 0, "dense.kernel")
    assert drawn.dtype == np.float32
    # Five deviations of the estimates: of a mean sqrt(v / n), of a normal's variance v sqrt(2 / n).
    assert abs(drawn.mean()) < 5 * sqrt(variance / count)
    assert abs(drawn.var() - variance) < 5 * variance * sqrt(2 / count)
    if initializer.endswith("uniform"):
        assert sqrt(3 * variance) * 0.999 < np.abs(drawn).max() <= sqrt(3 * variance) * 1.000001
    else:
        assert np.abs(drawn).max() > 3.5 * sqrt(variance)


@pytest.mark.parametrize(("initializer", "value"), [("zeros", 0.0), ("ones", 1.0), ("quarter", 0.25)])
def test_constants_are_constant(initializer: Initializer, value: float) -> None:
    assert (draw(Weight((3, 2), initializer), 0, "x") == value).all()


def test_signals_keep_their_size_through_a_deep_relu_network() -> None:
    layers = [layer for _ in range(20) for layer in (ops.Conv((3,), 64, padding="same"), ops.Relu())]
    net = sequential((16, 16, 64), *layers)
    x = np.random.default_rng(0).standard_normal((2, 16, 16, 64)).astype(np.float32)
    size = float(np.square(net.apply(net.init(0), x)).mean())
    assert 0.02 < size < 5  # the borders of `same` lose a little; without He's factor 2 it would be 1e-6


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    net = sequential((8,), ops.Dense(16), ops.Relu(), ops.Dense(4))
    first, again, other = net.init(3), net.init(3), net.init(4)
    np.testing.assert_array_equal(first["dense0"]["kernel"], again["dense0"]["kernel"])
    assert not np.array_equal(first["dense0"]["kernel"], other["dense0"]["kernel"])


def test_weights_of_equal_shape_differ() -> None:
    weights = sequential((8,), ops.Dense(8), ops.Dense(8)).init(0)
    assert not np.array_equal(weights["dense0"]["kernel"], weights["dense1"]["kernel"])


def test_another_layer_leaves_the_rest_as_they_were() -> None:
    short = sequential((8,), ops.Dense(8), ops.Dense(8)).init(0)
    long = sequential((8,), ops.Dense(8), ops.Dense(8), ops.BatchNorm(), ops.Dense(3)).init(0)
    for name, arrays in short.items():
        for short_name, array in arrays.items():
            np.testing.assert_array_equal(array, long[name][short_name])


def test_every_array_is_float32_of_the_declared_shape() -> None:
    net = sequential((6, 6, 4), ops.Conv((3,), 8, groups=2), ops.BatchNorm(), ops.Depthwise((3,)), ops.Prelu())
    weights = net.init(0)
    assert {name: set(arrays) for name, arrays in weights.items()} == {
        "conv0": {"kernel", "bias"},
        "bn1": {"gamma", "beta", "mean", "variance"},
        "depthwise2": {"kernel", "bias"},
        "prelu3": {"alpha"},
    }
    assert weights["conv0"]["kernel"].shape == (3, 3, 2, 8)
    assert {str(array.dtype) for arrays in weights.values() for array in arrays.values()} == {"float32"}


def test_three_hundred_convolutions_are_drawn_in_seconds() -> None:
    net = sequential((8, 8, 64), *[ops.Conv((3,), 64)] * 300)
    net.init(0)
    start = time.perf_counter()
    net.init(1)
    assert time.perf_counter() - start < 5  # 0.3 s on an idle core; each compiled by itself they take a minute


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(CnnError, match="`seed` must be 0 or more, found -1"):
        sequential((8,), ops.Dense(8)).init(-1)
