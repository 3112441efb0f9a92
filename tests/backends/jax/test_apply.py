"""Whole networks in JAX: purity, statistics, randomness, precisions, inputs and outputs."""

from __future__ import annotations

import subprocess
import sys
from functools import partial, singledispatch
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnc import ops
from cnnc.backends import reference
from cnnc.backends.jax.apply import activations
from cnnc.diagnostics import CnnError
from cnnc.net import Net
from cnnc.ops import Op
from tests.support.networks import Builder, sequential
from tests.support.paths import ROOT


def pictures(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def residual_net() -> Net:
    """Every kind of edge: a residual, a gate, a concatenation, two outputs."""
    b = Builder()
    x = b.input("input", (8, 8, 3))
    stem = b.add("relu", ops.Relu(), b.add("bn", ops.BatchNorm(), b.add("conv", ops.Conv((3,), 8, bias=False), x)))
    branch = b.add("bn2", ops.BatchNorm(), b.add("depthwise", ops.Depthwise((3,), bias=False), stem))
    joined = b.add("add", ops.Add(), branch, stem)
    gate = b.add("sigmoid", ops.Sigmoid(), b.add("gap", ops.GlobalPool(keepdims=True), joined))
    gated = b.add("mul", ops.Mul(), joined, gate)
    flat = b.add("flatten", ops.Flatten(), b.add("pool", ops.MaxPool((2,)), gated))
    classes = b.add("softmax", ops.Softmax(), b.add("dense", ops.Dense(5), flat))
    value = b.add("tanh", ops.Tanh(), b.add("dense2", ops.Dense(1), b.add("concat", ops.Concat(), flat, flat)))
    return b.net(policy=classes, value=value)


@pytest.mark.parametrize("train", [False, True])
def test_a_network_is_the_reference_at_every_node(train: bool) -> None:
    net, x = residual_net(), pictures(4, 8, 8, 3)
    weights = net.init(0)
    expected = reference.run(net.graph, jax.tree.map(np.float64, weights), {"input": x.astype(np.float64)}, train=train)
    if train:
        outputs, statistics = net.apply(weights, x, train=True)
        assert statistics.keys() == {"bn", "bn2"}
    else:
        outputs = net.apply(weights, x)
        found = jax.jit(partial(activations, net.graph))(weights, {"input": x})
        assert found.keys() == expected.keys()
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)
    assert list(outputs) == ["policy", "value"]
    np.testing.assert_allclose(outputs["policy"], expected["softmax"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(outputs["value"], expected["tanh"], rtol=1e-4, atol=1e-5)


def test_apply_is_the_same_under_jit_vmap_and_alone() -> None:
    net, x = residual_net(), pictures(3, 8, 8, 3)
    weights = net.init(0)
    alone = net.apply(weights, x)["policy"]
    jitted = jax.jit(net.apply)(weights, x)["policy"]
    closed = jax.jit(lambda scale: scale * net.apply(weights, x)["policy"])(1.0)
    mapped = jax.vmap(lambda picture: net.apply(weights, picture[None])["policy"][0])(x)
    for other in (jitted, closed, mapped):
        np.testing.assert_allclose(alone, other, rtol=1e-4, atol=1e-6)


def test_apply_leaves_its_arguments_alone() -> None:
    net, x = residual_net(), pictures(3, 8, 8, 3)
    weights = net.init(0)
    before = jax.tree.map(np.array, weights)
    net.apply(weights, x, train=True)
    jax.tree.map(np.testing.assert_array_equal, weights, before)


def test_running_statistics_follow_the_batch_and_are_merged() -> None:
    net = sequential((4, 4, 2), ops.BatchNorm(momentum=0.75))
    x = 3 + 2 * pictures(16, 4, 4, 2)
    weights = net.init(0)
    y, statistics = net.apply(weights, x, train=True)
    np.testing.assert_allclose(np.mean(y, (0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(np.var(y, (0, 1, 2)), 1, atol=1e-4)
    np.testing.assert_allclose(statistics["bn0"]["mean"], 0.25 * x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(statistics["bn0"]["variance"], 0.75 + 0.25 * x.var((0, 1, 2)), rtol=1e-5)
    merged = net.merge(weights, statistics)
    assert merged["bn0"].keys() == weights["bn0"].keys()
    assert merged["bn0"]["mean"] is statistics["bn0"]["mean"]
    assert merged["bn0"]["gamma"] is weights["bn0"]["gamma"]


def test_running_statistics_get_no_gradient_in_training() -> None:
    net, x = sequential((5, 3), ops.BatchNorm(), ops.Swish()), pictures(4, 5, 3)

    def loss(weights: Any) -> Any:
        y, statistics = net.apply(weights, x, train=True)
        return jnp.sum(y**2) + jnp.sum(statistics["bn0"]["mean"]) + jnp.sum(statistics["bn0"]["variance"])

    slopes = jax.grad(loss)(net.init(0))["bn0"]
    assert {name: bool(np.any(slope)) for name, slope in slopes.items()} == {
        "gamma": True,
        "beta": True,
        "mean": False,
        "variance": False,
    }


@pytest.mark.parametrize("layer", [ops.Dropout(0.3), ops.DropPath(0.3)], ids=["dropout", "drop_path"])
def test_what_drops_keeps_the_expectation_and_follows_the_key(layer: Op) -> None:
    net = sequential((2, 5), layer)
    x = np.ones((8000, 2, 5), np.float32)
    first, _ = net.apply({}, x, train=True, key=jax.random.key(0))
    again, _ = net.apply({}, x, train=True, key=jax.random.key(0))
    other, _ = net.apply({}, x, train=True, key=jax.random.key(1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_allclose(np.unique(first), [0, 1 / 0.7], rtol=1e-6)
    # Five deviations of the share that is kept, sqrt(p (1 - p) / n) over n independent draws.
    draws = 8000 if isinstance(layer, ops.DropPath) else x.size
    assert abs(float(np.mean(first > 0)) - 0.7) < 5 * (0.21 / draws) ** 0.5
    np.testing.assert_array_equal(net.apply({}, x), x)


def test_drop_path_drops_whole_samples() -> None:
    y, _ = sequential((4, 3), ops.DropPath(0.5)).apply({}, np.ones((50, 4, 3)), train=True, key=jax.random.key(0))
    assert all(len(np.unique(sample)) == 1 for sample in np.asarray(y))


def test_a_layer_drops_by_its_own_name_and_key() -> None:
    x, rate, keys = np.ones((20, 3), np.float32), 0.5, jax.random.split(jax.random.key(0))
    b = Builder()
    b.input("input", (3,))
    both = b.net(one=b.add("a", ops.Dropout(rate), "input"), two=b.add("b", ops.Dropout(rate), "input"))
    b = Builder()
    b.input("input", (3,))
    alone = b.net(two=b.add("b", ops.Dropout(rate), "input"))
    pair, _ = both.apply({}, x, train=True, key=keys[0])
    single, _ = alone.apply({}, x, train=True, key=keys[0])
    assert not np.array_equal(pair["one"], pair["two"])
    np.testing.assert_array_equal(single, pair["two"])


def test_dropping_without_a_key_says_so() -> None:
    net = sequential((9,), ops.Dropout(0.5))
    with pytest.raises(
        ValueError, match=r"`dropout0` drops at random when train=True: pass key=jax.random.key\(seed\)"
    ):
        net.apply({}, np.ones((2, 9)), train=True)
    net.apply({}, np.ones((2, 9)))
    sequential((9,), ops.Dropout(0.0)).apply({}, np.ones((2, 9)), train=True)


def test_bfloat16_stays_near_float32_and_returns_float32() -> None:
    net, x = residual_net(), pictures(8, 8, 8, 3)
    weights = net.init(0)
    exact, _ = net.apply(weights, x, train=True)
    rounded, statistics = net.apply(weights, x, train=True, precision="bf16")
    for name, value in rounded.items():
        assert value.dtype == jnp.float32
        # bfloat16 keeps 8 bits: a relative error of 0.4 % an operation.
        np.testing.assert_allclose(value, exact[name], atol=0.06)
    assert not np.array_equal(rounded["policy"], exact["policy"])
    assert {array.dtype for arrays in statistics.values() for array in arrays.values()} == {jnp.dtype("float32")}


def test_bfloat16_gives_float32_gradients() -> None:
    net, x = sequential((5, 5, 3), ops.Conv((3,), 8), ops.BatchNorm(), ops.Swish()), pictures(4, 5, 5, 3)

    def loss(weights: Any, precision: Any) -> Any:
        return jnp.mean(net.apply(weights, x, train=True, precision=precision)[0] ** 2)

    weights = net.init(0)
    exact, rounded = (jax.grad(loss)(weights, precision) for precision in ("f32", "bf16"))
    assert {array.dtype for array in jax.tree.leaves(rounded)} == {jnp.dtype("float32")}
    a, b = (np.asarray(slopes["bn1"]["gamma"]) for slopes in (exact, rounded))
    np.testing.assert_allclose(a, b, rtol=0.05)


def test_bfloat16_does_not_round_pixels_before_they_are_normalised() -> None:
    net = sequential((1,), ops.Normalize(mean=(1000.0,), std=(1.0,)))
    y = net.apply({}, np.array([[1001.5]], np.float32), precision="bf16")  # bfloat16 has only multiples of 8 here
    assert y.tolist() == [[1.5]]


def test_softmax_of_bfloat16_sums_to_one() -> None:
    net = sequential((1000,), ops.Softmax())
    y = net.apply({}, pictures(4, 1000), precision="bf16")
    np.testing.assert_allclose(np.sum(y, -1), 1, rtol=1e-5)


def test_logits_are_what_enters_the_last_softmax_or_sigmoid() -> None:
    x = pictures(4, 6)
    for last, function in ((ops.Softmax(), jax.nn.softmax), (ops.Sigmoid(), jax.nn.sigmoid)):
        net = sequential((6,), ops.Dense(3), last)
        weights = net.init(0)
        logits = net.apply(weights, x, logits=True)
        np.testing.assert_allclose(logits, x @ weights["dense0"]["kernel"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(function(logits), net.apply(weights, x), rtol=1e-5)
    net = sequential((6,), ops.Dense(3), ops.Tanh())
    weights = net.init(0)
    np.testing.assert_array_equal(net.apply(weights, x, logits=True), net.apply(weights, x))


def test_pixels_and_indices_keep_their_meaning() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3) * 20
    y = sequential((2, 2, 3), ops.Normalize("unit")).apply({}, pixels)
    np.testing.assert_allclose(y, pixels / 255, rtol=1e-6)
    net = sequential((3,), ops.Embedding(7, 2), dtype="int")
    weights = net.init(0)
    indices = np.array([[0, 6, 3]])
    np.testing.assert_array_equal(net.apply(weights, indices), np.asarray(weights["embedding0"]["table"])[indices])


def two_inputs() -> Net:
    b = Builder()
    b.input("global", (4,))
    b.input("local", (2,))
    return b.net(output=b.add("concat", ops.Concat(), "global", "local"))


def test_several_inputs_come_by_name_or_in_order() -> None:
    net, x, y = two_inputs(), pictures(3, 4), pictures(3, 2)
    expected = np.concatenate([x, y], -1)
    np.testing.assert_array_equal(net.apply({}, {"local": y, "global": x}), expected)
    np.testing.assert_array_equal(net.apply({}, (x, y)), expected)
    np.testing.assert_array_equal(net.apply({}, [x, y]), expected)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 4)), "one array is given for 2 inputs: `global`, `local`"),
        ((np.zeros((3, 4)),), "1 arrays are given for 2 inputs: `global`, `local`"),
        ({"global": np.zeros((3, 4))}, "no array is given for input `local`"),
        ({"globl": np.zeros((3, 4)), "local": np.zeros((3, 2))}, "did you mean `global`?"),
        ((np.zeros((3, 4)), np.zeros((2, 2))), "input `local` holds 2 samples, but `global` holds 3"),
        ((np.zeros((3, 4)), np.zeros((3, 3))), r"input `local` takes \(batch, 2\), found \(3, 3\)"),
    ],
)
def test_inputs_that_do_not_fit_say_what_does(x: Any, message: str) -> None:
    with pytest.raises(CnnError, match=message):
        two_inputs().apply({}, x)


def test_one_picture_without_a_batch_says_how_to_make_one() -> None:
    net = sequential((8, 8, 3), ops.Flatten())
    with pytest.raises(CnnError, match=r"input `input` takes \(batch, 8, 8, 3\), found \(8, 8, 3\)") as caught:
        net.apply({}, pictures(8, 8, 3))
    assert caught.value.diagnostics[0].code == "shape"
    assert caught.value.diagnostics[0].help == "one sample is a batch of one: `x[None]`"


def test_an_embedding_takes_integers_only() -> None:
    net = sequential((3,), ops.Embedding(7, 2), dtype="int")
    with pytest.raises(CnnError, match="input `input` takes integers, found float32"):
        net.apply(net.init(0), np.zeros((1, 3), np.float32))


def test_weights_that_do_not_fit_are_named() -> None:
    net = sequential((4,), ops.Dense(3))
    with pytest.raises(CnnError, match=r"`dense0.kernel` must be \(4, 3\), found \(5, 3\)"):
        net.apply({"dense0": {"kernel": np.zeros((5, 3)), "bias": np.zeros(3)}}, pictures(2, 4))
    with pytest.raises(CnnError, match=r"`dense0.bias` is missing"):
        net.apply({"dense0": {"kernel": np.zeros((4, 3))}}, pictures(2, 4))


def test_masks_follow_the_papers() -> None:
    net = residual_net()
    params = net.init(0)
    assert net.trainable_mask(params)["bn"] == {"gamma": True, "beta": True, "mean": False, "variance": False}
    decayed = net.decay_mask(params)
    assert decayed["bn"] == {"gamma": False, "beta": False, "mean": False, "variance": False}
    assert decayed["conv"] == {"kernel": True}
    assert decayed["dense"] == {"kernel": True, "bias": False}


def test_it_fits_an_optax_loop() -> None:
    net = sequential((6,), ops.Dense(16), ops.BatchNorm(), ops.Relu(), ops.Dropout(0.1), ops.Dense(2), ops.Softmax())
    x = pictures(256, 6)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int32)

    params = net.init(seed=0)
    optimizer = optax.masked(optax.adamw(0.01, mask=net.decay_mask), net.trainable_mask)
    state = optimizer.init(params)

    @jax.jit
    def step(params: Any, state: Any, key: Any) -> Any:
        def loss(params: Any) -> Any:
            logits, statistics = net.apply(params, x, train=True, key=key, logits=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), statistics

        (value, statistics), slopes = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(slopes, state, params)
        return net.merge(optax.apply_updates(params, updates), statistics), state, value

    for i in range(150):
        params, state, value = step(params, state, jax.random.key(i))
    assert float(value) < 0.35
    assert np.mean(np.argmax(net.apply(params, x), -1) == y) > 0.9


def test_unused_nodes_are_not_computed() -> None:
    b = Builder()
    x = b.input("input", (4,))
    b.add("bn", ops.BatchNorm(), x)
    net = b.net(output=b.add("relu", ops.Relu(), x))
    _, statistics = net.apply(net.init(0), pictures(2, 4), train=True)
    assert statistics == {}


def test_an_operator_without_a_lowering_names_itself_and_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    @singledispatch
    def nothing(op: Op, weights: Any, *inputs: Any) -> Any:
        raise AssertionError(op)

    monkeypatch.setattr("cnnc.backends.jax.nodes.lower", nothing)
    net = sequential((2,), ops.Mish())
    with pytest.raises(CnnError, match="the backend `jax` has no operator `mish`, which `mish0` needs") as caught:
        net.apply({}, pictures(1, 2))
    assert caught.value.diagnostics[0].code == "backend"


def test_importing_the_network_leaves_jax_alone() -> None:
    program = "import sys; import cnnc.net; assert not {'jax', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_without_jax_the_error_says_what_to_install() -> None:
    program = """
import sys
sys.modules["jax"] = None
from cnnc.diagnostics import CnnError
from tests.support.networks import sequential
from cnnc import ops
try:
    sequential((2,), ops.Relu()).init(0)
except CnnError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True, text=True)
    assert "error[install]" in done.stdout
    assert 'pip install "cnnc[train]"' in done.stdout
