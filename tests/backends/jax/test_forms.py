"""Every form of a layer is the plain one in value and gradient: in float64 to rounding, in float32 loosely."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnc import ops
from cnnc.backends.jax.apply import apply
from cnnc.backends.jax.forms import convolution, depthwise
from cnnc.backends.jax.forms.choice import PLAIN, Layer, Table
from cnnc.backends.jax.forms.lower import batch_norm_tuned, lower_tuned
from cnnc.backends.jax.layers.lower import lower
from cnnc.backends.jax.layers.normalization import batch_norm_of_batch
from cnnc.ops import Op
from tests.support.networks import sequential
from tests.support.strategies import Case, cases, random_inputs, random_weights

QUICK = {"xla_backend_optimization_level": 0}
default = settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
thorough = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**32 - 1)


class Always(Table):
    """Chooses one form of a part, where it is possible, and the plain form of every other."""

    def choose(self, layer: Layer, possible: Iterable[str]) -> str:
        part, name = self.machine.split("=")
        names = list(possible)
        return name if layer.part == part and name in names else names[0]


def forms_of(module: Any, kind: str) -> list[str]:
    parts = ("forward", "input_gradient", "weight_gradient")
    return [f"{kind}.{part}={name}" for part in parts for name in list(getattr(module, part.upper()))[1:]]


FORMS = [
    *((ops.Conv, form) for form in forms_of(convolution, "conv")),
    *((ops.Depthwise, form) for form in forms_of(depthwise, "depthwise")),
    (ops.MaxPool, "max_pool=cells"),
]
IDS = [form for _, form in FORMS]


@pytest.mark.parametrize(("cls", "form"), FORMS, ids=IDS)
@given(data=st.data(), seed=seeds)
@default
def test_a_form_is_the_plain_one_in_value_and_gradient(
    cls: type[Op], form: str, data: st.DataObject, seed: int
) -> None:
    assert_same(data.draw(cases(cls)), form, seed)


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "form"), FORMS, ids=IDS)
@given(data=st.data(), seed=seeds)
@thorough
def test_a_form_is_the_plain_one_at_length(cls: type[Op], form: str, data: st.DataObject, seed: int) -> None:
    assert_same(data.draw(cases(cls)), form, seed)


def test_the_forms_are_more_than_the_plain_ones() -> None:
    assert len(FORMS) >= 6
    for cls, form in FORMS:
        op, shape = SIMPLE[cls]
        case = Case(op, (shape,))
        weights = {short: jnp.zeros(weight.shape) for short, weight in op.weights(shape).items()}

        def plain(x: Any, op: Op = op, weights: Any = weights) -> Any:
            return lower_tuned(op, PLAIN, weights, x)

        def tuned(x: Any, op: Op = op, weights: Any = weights, form: str = form) -> Any:
            return lower_tuned(op, Always(form, ()), weights, x)

        x = jnp.zeros((9, *case.shapes[0]))
        assert str(jax.make_jaxpr(plain)(x)) != str(jax.make_jaxpr(tuned)(x)), form


SIMPLE: dict[type[Op], tuple[Op, tuple[int, ...]]] = {
    ops.Conv: (ops.Conv((3, 3), 4, (1, 1), dilation=(1, 1)), (5, 5, 2)),
    ops.Depthwise: (ops.Depthwise((3, 3), (2, 2), dilation=(1, 1)), (5, 5, 2)),
    ops.MaxPool: (ops.MaxPool((2, 2), (2, 2), "valid"), (5, 5, 2)),
}
SHAPES = [
    (size, kernel, stride, padding)
    for size, kernel, stride, padding in product([(7, 6), (8, 8)], [3, 5], [1, 2], ["same", "valid", ((1, 1), (1, 1))])
]


@pytest.mark.parametrize(("cls", "form"), FORMS[:-1], ids=IDS[:-1])
@pytest.mark.slow
def test_a_form_is_the_plain_one_in_float32_at_common_shapes(cls: type[Op], form: str) -> None:
    for size, kernel, stride, padding in SHAPES:
        shape = (*size, 3)
        dims: Any = {"kernel": (kernel, kernel), "stride": (stride, stride), "dilation": (1, 1), "padding": padding}
        op = ops.Conv(filters=4, **dims) if cls is ops.Conv else ops.Depthwise(**dims)
        assert_same(Case(op, (shape,)), form, 0, batch=19, dtype=np.float32)


def test_batch_norm_by_hand_is_the_plain_one() -> None:
    by_hand = Always("batch_norm=by_hand", ())
    rng = np.random.default_rng(0)
    for op in (ops.BatchNorm(), ops.BatchNorm(scale=False), ops.BatchNorm(center=False, epsilon=0.1)):
        for shape in [(5, 3), (2, 4, 4, 3), (2, 2, 3, 2, 1)]:
            weights = {short: rng.uniform(0.5, 2, weight.shape) for short, weight in op.weights(shape[1:]).items()}
            x, slope = rng.standard_normal(shape) * 3 + 5, rng.standard_normal(shape)

            def both(batch_norm: Any, op: Any = op, weights: Any = weights, x: Any = x, slope: Any = slope) -> Any:
                (y, statistics), pull = jax.vjp(lambda w, x: batch_norm(op, w, x), weights, x)
                # The running statistics are constants: whatever is asked of them, nothing comes.
                return y, statistics, pull((slope, jax.tree.map(jnp.ones_like, statistics)))

            with jax.enable_x64(True):
                found = jax.jit(lambda both=both: both(lambda *a: batch_norm_tuned(a[0], by_hand, *a[1:])))()
                expected = jax.jit(lambda both=both: both(batch_norm_of_batch))()
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10), found, expected)


def test_batch_norm_by_hand_is_exact_far_from_zero() -> None:
    x = 1000 + np.random.default_rng(0).standard_normal((64, 5, 5, 2)).astype(np.float32)
    weights = {"gamma": np.ones(2), "beta": np.zeros(2), "mean": np.zeros(2), "variance": np.ones(2)}
    narrow = jax.tree.map(jnp.float32, weights)
    found, _ = batch_norm_tuned(ops.BatchNorm(), Always("batch_norm=by_hand", ()), narrow, jnp.float32(x))
    exact = x.astype(float) - x.astype(float).mean((0, 1, 2))
    np.testing.assert_allclose(found, exact / np.sqrt(exact.var((0, 1, 2)) + ops.BatchNorm().epsilon), atol=1e-3)


def test_where_values_tie_the_first_of_a_cell_gets_the_slope() -> None:
    op = ops.MaxPool((2, 2), (2, 2), "valid")
    x = jnp.array([[1.0, 1, 0, 2], [1, 1, 2, 2]])[None, :, :, None]
    _, pull = jax.vjp(lambda x: lower_tuned(op, Always("max_pool=cells", ()), {}, x), x)
    (slope,) = pull(jnp.array([3.0, 5.0])[None, None, :, None])
    np.testing.assert_array_equal(slope[0, :, :, 0], [[3, 0, 0, 5], [0, 0, 0, 0]])


def test_a_maximum_that_is_no_number_stays_none() -> None:
    op = ops.MaxPool((2, 2), (2, 2), "valid")
    x = jnp.array([[1.0, np.nan], [1, 1]])[None, :, :, None]
    assert np.isnan(lower_tuned(op, Always("max_pool=cells", ()), {}, x)).all()


@pytest.mark.parametrize(("cls", "form"), FORMS, ids=IDS)
def test_a_form_keeps_bfloat16(cls: type[Op], form: str) -> None:
    op, shape = SIMPLE[cls]
    weights = {short: jnp.ones(weight.shape, jnp.bfloat16) for short, weight in op.weights(shape).items()}
    x = jnp.ones((9, *shape), jnp.bfloat16)

    def value_and_slopes(weights: Any, x: Any) -> Any:
        y, pull = jax.vjp(lambda w, x: lower_tuned(op, Always(form, ()), w, x), weights, x)
        return y, pull(y)

    found = jax.tree.leaves(jax.eval_shape(value_and_slopes, weights, x))
    assert {leaf.dtype for leaf in found} == {jnp.dtype(jnp.bfloat16)}


def test_inference_is_plain_whatever_the_table() -> None:
    net, x = sequential((8, 8, 3), ops.Conv((3, 3), 4), ops.MaxPool((2, 2))), np.ones((2, 8, 8, 3), np.float32)
    weights = net.init(0)

    def program(table: Table, train: bool) -> str:
        name = net.graph.inputs[0].name
        return str(jax.make_jaxpr(lambda w, x: apply(net.graph, w, {name: x}, train=train, table=table))(weights, x))

    table = Always("conv.weight_gradient=chunks", ())
    assert program(table, False) == program(PLAIN, False)
    assert program(table, True) != program(PLAIN, True)


def assert_same(case: Case, form: str, seed: int, batch: int = 3, dtype: Any = np.float64) -> None:
    """Value, and the slopes of weights and inputs for random slopes of the result."""
    op = case.op
    weights, inputs = random_weights(case, seed), random_inputs(case, seed, batch=batch)
    weights, inputs = jax.tree.map(lambda array: np.asarray(array, dtype), (weights, inputs))
    shape = (batch, *op.infer(*case.shapes))
    slope = np.random.default_rng(seed).standard_normal(shape).astype(dtype)

    def both(function: Any) -> Any:
        y, pull = jax.vjp(lambda weights, inputs: function(weights, *inputs), weights, inputs)
        return y, pull(slope)

    with jax.enable_x64(True):
        compile: Any = {"compiler_options": QUICK}
        found = jax.jit(lambda: both(lambda w, *xs: lower_tuned(op, Always(form, ()), w, *xs)), **compile)()
        expected = jax.jit(lambda: both(lambda w, *xs: lower(op, w, *xs)), **compile)()
    tight = dtype == np.float64
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == dtype
        size = 1 + float(np.max(np.abs(theirs), initial=0))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=(1e-12 if tight else 2e-5) * size)
