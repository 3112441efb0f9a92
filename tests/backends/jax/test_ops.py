"""Every JAX lowering against the NumPy reference: values, and gradients by differences, in float64."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import lax

from cnnc import ops
from cnnc.backends import reference
from cnnc.backends.jax.layers import convolution, pooling
from cnnc.backends.jax.layers.lower import FLOAT32, lower
from cnnc.backends.jax.layers.normalization import batch_norm_of_batch
from cnnc.ops import Op
from cnnc.ops.window import windows
from tests.support.strategies import Case, cases, random_inputs, random_weights

Arrays = dict[str, Any]


def class_name(cls: type[Op]) -> str:
    return cls.__name__


COMPUTED = [op for op in Op.__subclasses__() if op is not ops.Input]
# Compiling is what these tests spend their time on; what XLA's optimiser does is not what they ask.
QUICK = {"xla_backend_optimization_level": 0}
default = settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
thorough = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("cls", COMPUTED, ids=class_name)
def test_every_operator_has_a_lowering(cls: type[Op]) -> None:
    assert lower.dispatch(cls) is not lower.dispatch(Op)


@pytest.mark.parametrize("cls", COMPUTED, ids=class_name)
@given(data=st.data(), seed=seeds)
@default
def test_lowering_is_the_reference_in_value_and_gradient(cls: type[Op], data: st.DataObject, seed: int) -> None:
    assert_agrees(data.draw(cases(cls)), seed)


@pytest.mark.slow
@pytest.mark.parametrize("cls", COMPUTED, ids=class_name)
@given(data=st.data(), seed=seeds)
@thorough
def test_lowering_is_the_reference_at_length(cls: type[Op], data: st.DataObject, seed: int) -> None:
    assert_agrees(data.draw(cases(cls)), seed)


@given(case=cases(ops.BatchNorm), seed=seeds)
@default
def test_batch_norm_of_a_batch_is_the_reference_in_value_gradient_and_statistics(case: Case, seed: int) -> None:
    op = case.op
    assert isinstance(op, ops.BatchNorm)

    def by_reference(weights: Arrays, inputs: list[Any]) -> Any:
        return reference.evaluate(op, {**weights, **reference.batch_statistics(inputs[0])}, *inputs)

    def by_jax(weights: Arrays, inputs: list[Any]) -> Any:
        return batch_norm_of_batch(op, weights, *inputs)[0]

    weights, inputs = random_weights(case, seed), random_inputs(case, seed, batch=4)
    assert_same_function(by_jax, by_reference, weights, inputs, seed)
    with jax.enable_x64(True):
        compiled = jax.jit(lambda weights, x: batch_norm_of_batch(op, weights, x)[1], compiler_options=QUICK)
        statistics = compiled(weights, inputs[0])
    expected = reference.updated_statistics(op, weights, inputs[0])
    assert statistics.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(statistics[name], expected[name], rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("cls", [cls for cls in COMPUTED if cls is not ops.Embedding], ids=class_name)
@given(data=st.data())
@default
def test_lowering_keeps_the_type_it_computes_in(cls: type[Op], dtype: Any, data: st.DataObject) -> None:
    case = data.draw(cases(cls))
    own = jnp.float32 if cls in FLOAT32 else dtype
    weights = {name: np.zeros(weight.shape, own) for name, weight in case.op.weights(*case.shapes).items()}
    inputs = [np.zeros((2, *shape), dtype) for shape in case.shapes]
    result = jax.eval_shape(lambda weights, inputs: lower(case.op, weights, *inputs), weights, inputs)
    assert result.shape == (2, *case.op.infer(*case.shapes))
    assert result.dtype == (jnp.float32 if cls is ops.Softmax else dtype)


@given(case=cases(ops.Depthwise), seed=seeds)
@default
def test_a_depthwise_convolution_of_a_large_kernel_is_the_reference(case: Case, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "_MOST_TERMS", 0)
        assert_agrees(case, seed)


@pytest.mark.parametrize("cls", [ops.MaxPool, ops.AvgPool], ids=class_name)
@given(data=st.data(), seed=seeds)
@default
def test_a_pool_of_large_windows_is_the_reference(cls: type[Op], data: st.DataObject, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooling, "_MOST_TERMS", 0)
        assert_agrees(data.draw(cases(cls)), seed)


def test_max_pool_has_the_gradient_of_xlas_windowed_maximum() -> None:
    x = np.random.default_rng(0).standard_normal((2, 9, 8, 3)).astype(np.float32)
    found = windows(x.shape[1:], (3, 3), (2, 2), (1, 1), ((1, 1), (1, 1)))

    def ours(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(pooling.max_pool(x, (3, 3), found, (2, 2))))

    def xlas(x: jax.Array) -> jax.Array:
        pads = ((0, 0), (1, 1), (1, 1), (0, 0))
        return jnp.sum(jnp.sin(lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)))

    np.testing.assert_allclose(jax.jit(jax.grad(ours))(x), jax.jit(jax.grad(xlas))(x), rtol=1e-6)


def test_batch_norm_of_a_batch_is_exact_far_from_zero() -> None:
    x = 1000 + np.random.default_rng(0).standard_normal((64, 5, 5, 2))
    op = ops.BatchNorm()
    weights = {"gamma": np.ones(2), "beta": np.zeros(2), "mean": np.zeros(2), "variance": np.ones(2)}
    exact = reference.evaluate(op, {**weights, **reference.batch_statistics(x.astype(np.float32).astype(float))}, x)
    found, _ = batch_norm_of_batch(op, jax.tree.map(jnp.float32, weights), jnp.float32(x))
    np.testing.assert_allclose(found, exact, atol=1e-3)


def test_an_index_beyond_the_table_gives_no_number() -> None:
    table = jnp.ones((3, 2))
    found = lower(ops.Embedding(3, 2), {"table": table}, jnp.array([[0, 3]]))
    np.testing.assert_array_equal(np.isnan(found), [[[False, False], [True, True]]])


def assert_agrees(case: Case, seed: int) -> None:
    assert_same_function(
        lambda weights, inputs: lower(case.op, weights, *inputs),
        lambda weights, inputs: reference.evaluate(case.op, weights, *inputs),
        random_weights(case, seed),
        random_inputs(case, seed),
        seed,
    )


def assert_same_function(found: Any, expected: Any, weights: Arrays, inputs: list[Any], seed: int) -> None:
    """Equal values; and equal slopes of a random weighting of them, along random directions of each array."""
    rng = np.random.default_rng([seed, 2])
    value = expected(weights, inputs)
    weighting = rng.standard_normal(value.shape)

    def loss(floats: list[Any]) -> tuple[Any, Any]:
        result = found(*merge(floats))
        return (result * weighting).sum(), result

    leaves, structure = jax.tree.flatten((weights, inputs))
    variable = [np.issubdtype(leaf.dtype, np.floating) for leaf in leaves]

    def merge(floats: list[Any]) -> Any:
        given = iter(floats)
        return jax.tree.unflatten(structure, [next(given) if v else x for v, x in zip(variable, leaves, strict=True)])

    points = [leaf for v, leaf in zip(variable, leaves, strict=True) if v]
    with jax.enable_x64(True):
        compiled = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=QUICK)
        (_, result), slopes = compiled(points)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, value, rtol=1e-9, atol=1e-11)
    for index, slope in enumerate(slopes):
        direction = rng.standard_normal(slope.shape)
        step = 1e-6
        sides = []
        for sign in (1, -1):
            moved = [p + sign * step * direction if i == index else p for i, p in enumerate(points)]
            sides.append(float((expected(*merge(moved)) * weighting).sum()))
        difference = (sides[0] - sides[1]) / (2 * step)
        size = 1 + np.abs(np.asarray(slope) * direction).sum()
        assert abs(float((np.asarray(slope) * direction).sum()) - difference) < 1e-6 * size
