"""Folding batch norms, normalisation and bgr into kernels: exact where it happens, left where it would not be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc import ops
from cnnc.backends import reference
from cnnc.ir import Graph, Node
from cnnc.ir.model import Model, Pass
from cnnc.ops import Op
from cnnc.passes.fold_batch_norm import fold_batch_norm, fold_batch_norm_forward
from cnnc.passes.fold_bgr import fold_bgr
from cnnc.passes.fold_normalize import (
    fold_channel_normalize_mean,
    fold_channel_normalize_scale,
    fold_normalize_mean,
    fold_normalize_scale,
)
from cnnc.passes.pipelines import run
from tests.support.models import assert_same_function, random_model
from tests.support.networks import Builder, sequential
from tests.support.strategies import Case, cases

LINEAR = (ops.Conv, ops.ConvTranspose, ops.Dense, ops.Depthwise)
linear_cases = st.one_of([cases(cls) for cls in LINEAR])


def folded(model: Model, *passes: Pass) -> Model:
    after = run(model, passes)
    assert_same_function(model, after)
    return after


def chain(*layers: Op, shape: tuple[int, ...] = (5, 6, 3), seed: int = 0) -> Model:
    return random_model(sequential(shape, *layers).graph, seed)


def operators(model: Model) -> list[str]:
    return [node.op.name for node in model.graph]


def around(case: Case, before: Op | None = None, after: Op | None = None) -> Model:
    """A case's operator between two others."""
    return chain(*(op for op in (before, case.op, after) if op is not None), shape=case.shapes[0])


def reads_padding(op: Op, shape: tuple[int, ...]) -> bool:
    """By counting: whether a convolution of ones over ones is not everywhere the number of its taps."""
    kernel = np.ones(op.weights(shape)["kernel"].shape)
    taps = kernel[..., 0].size // (kernel.shape[-2] if isinstance(op, ops.Depthwise) else 1)
    return bool(np.any(reference.evaluate(op, {"kernel": kernel}, np.ones((1, *shape))) != taps))


@given(linear_cases, st.booleans(), st.booleans(), st.integers(0, 99))
@settings(max_examples=80)
def test_batch_norm_folds_into_what_it_reads(case: Case, scale: bool, center: bool, seed: int) -> None:
    norm = ops.BatchNorm(epsilon=1e-3, scale=scale, center=center)
    model = random_model(sequential(case.shapes[0], case.op, norm).graph, seed)
    after = folded(model, fold_batch_norm)
    assert [node.name for node in after.graph] == [node.name for node in model.graph][:2]
    assert after.graph.outputs == (("output", after.graph.nodes[1].name),)


@given(st.one_of([cases(cls) for cls in (ops.Conv, ops.Dense, ops.Depthwise)]), st.integers(0, 99))
@settings(max_examples=80)
def test_batch_norm_folds_forward_where_no_padding_is_read(case: Case, seed: int) -> None:
    model = random_model(sequential(case.shapes[0], ops.Relu(), ops.BatchNorm(), case.op).graph, seed)
    after = folded(model, fold_batch_norm_forward)
    assert ("bn" in operators(after)) == reads_padding(case.op, case.shapes[0])


def test_batch_norm_stays_where_the_convolution_is_read_twice_or_an_output() -> None:
    builder = Builder()
    conv = builder.add("conv", ops.Conv((3,), 4, bias=False), builder.input("x", (5, 5, 3)))
    norm = builder.add("norm", ops.BatchNorm(), conv)
    model = random_model(builder.net(conv=conv, norm=norm).graph)
    assert folded(model, fold_batch_norm) is model
    builder.add("sum", ops.Add(), norm, conv)
    model = random_model(builder.net(sum="sum").graph)
    assert folded(model, fold_batch_norm) is model


def test_batch_norm_stays_before_an_activation_an_output_and_a_transposed_convolution() -> None:
    for layers in (
        (ops.BatchNorm(), ops.Relu()),
        (ops.BatchNorm(),),
        (ops.BatchNorm(), ops.ConvTranspose((2,), 3, (2,), bias=True)),
    ):
        model = chain(ops.Relu(), *layers)
        assert folded(model, fold_batch_norm, fold_batch_norm_forward) is model


def test_batch_norm_folds_forward_into_all_its_readers_or_none() -> None:
    def model(second: Op) -> Model:
        builder = Builder()
        norm = builder.add("norm", ops.BatchNorm(), builder.add("relu", ops.Relu(), builder.input("x", (5, 5, 3))))
        one = builder.add("one", ops.Conv((1,), 4, bias=False), norm)
        return random_model(builder.net(one=one, two=builder.add("two", second, norm)).graph)

    sound = model(ops.Depthwise((3,), padding="valid", bias=True))
    after = folded(sound, fold_batch_norm_forward)
    assert "norm" not in after.graph.by_name
    assert after.graph["one"].op == ops.Conv((1, 1), 4, (1, 1), "same", (1, 1), bias=True)
    padded = model(ops.Depthwise((3,), bias=True))
    assert folded(padded, fold_batch_norm_forward) is padded


def test_a_zero_gamma_and_a_zero_variance_fold() -> None:
    model = chain(ops.Conv((3,), 2, bias=True), ops.BatchNorm())
    gamma, variance = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    own = {**model.weights["bn1"], "gamma": gamma, "variance": variance}
    after = folded(Model(model.graph, {**model.weights, "bn1": own}), fold_batch_norm)
    assert np.all(after.weights["conv0"]["kernel"][..., 0] == 0)
    assert after.weights["conv0"]["bias"][0] == own["beta"][0]


@given(linear_cases, st.data())
@settings(max_examples=120)
def test_normalisation_folds_as_far_as_it_is_exact(case: Case, data: st.DataObject) -> None:
    channels = case.shapes[0][-1]
    several = st.lists(st.floats(0.5, 2), min_size=channels, max_size=channels).map(tuple)
    mean, std = (data.draw(st.one_of(st.tuples(st.floats(0.5, 2)), several)) for _ in range(2))
    model = around(case, before=ops.Normalize(mean=mean, std=std))
    after = folded(model, fold_normalize_scale, fold_normalize_mean)
    kept = isinstance(case.op, ops.ConvTranspose) or reads_padding(case.op, case.shapes[0])
    assert after.graph["normalize0"].op == ops.Normalize(mean=mean if kept else (0.0,), std=(1.0,))
    assert_same_function(model, run(model, [fold_normalize_mean, fold_normalize_scale]))


PADDED: list[tuple[int, int, int, Any, bool]] = [
    # size, kernel, stride, padding, exact
    (6, 3, 2, "same", False),  # one zero at the end
    (7, 3, 2, "same", False),
    (6, 2, 2, "same", True),
    (5, 2, 2, "same", False),
    (6, 1, 2, "same", True),
    (6, 1, 1, ((0, 0), (0, 0)), True),
    (6, 3, 1, "valid", True),
    (6, 2, 2, ((0, 1), (0, 1)), True),  # the stride leaps over the zero
    (7, 2, 2, ((0, 1), (0, 1)), False),
    (6, 2, 2, ((1, 0), (1, 0)), False),
    (6, 3, 1, ((0, 0), (0, 1)), False),  # along one axis only
]


@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "exact"), PADDED)
def test_the_mean_folds_only_where_no_window_reads_padding(
    size: int, kernel: int, stride: int, padding: Any, exact: bool
) -> None:
    for layer in (
        ops.Conv((kernel,), 4, (stride,), padding, bias=False),
        ops.Depthwise((kernel,), (stride,), padding, bias=True),
    ):
        model = chain(ops.Normalize(preset="imagenet"), layer, shape=(size, size, 3))
        after = folded(model, fold_normalize_mean)
        assert (after is not model) == exact
        assert reads_padding(model.graph.nodes[-1].op, (size, size, 3)) != exact


def test_normalisation_stays_where_something_else_reads_it() -> None:
    for layer in (ops.MaxPool((2,)), ops.BatchNorm(), ops.Relu()):
        model = chain(ops.Normalize(preset="imagenet"), layer)
        assert folded(model, fold_normalize_scale, fold_normalize_mean) is model


def test_int8_leaves_what_the_quantisation_of_an_input_absorbs() -> None:
    def after(*layers: Op) -> Model:
        return folded(chain(*layers), fold_channel_normalize_scale, fold_channel_normalize_mean)

    conv = ops.Conv((3,), 4, padding="valid", bias=True)
    for op in (ops.Normalize(preset="unit"), ops.Normalize(mean=(0.5,) * 3, std=(2.0,))):
        model = chain(op, conv)
        assert folded(model, fold_channel_normalize_scale, fold_channel_normalize_mean) is model
    gone = ops.Normalize(mean=(0.0,), std=(1.0,))
    assert after(ops.Normalize(preset="imagenet"), conv).graph["normalize0"].op == gone
    assert after(ops.Normalize(std=(1.0, 1.0, 2.0)), conv).graph["normalize0"].op == gone
    # Not the input's own: nothing absorbs it.
    assert after(ops.Relu(), ops.Normalize(preset="unit"), conv).graph["normalize1"].op == gone


def test_bgr_is_the_reversal_of_a_kernel() -> None:
    model = chain(ops.Bgr(), ops.Conv((3,), 4, bias=True))
    after = folded(model, fold_bgr)
    assert operators(after) == ["input", "conv"]
    np.testing.assert_array_equal(after.weights["conv1"]["kernel"], model.weights["conv1"]["kernel"][:, :, ::-1])


@pytest.mark.parametrize(
    "layers",
    [
        (ops.Bgr(), ops.Dense(4, bias=True)),
        (ops.Bgr(), ops.ConvTranspose((3,), 4, (2,), bias=False)),
        (ops.Bgr(), ops.Normalize(preset="imagenet"), ops.Conv((3,), 4, bias=False)),
        (ops.Normalize(preset="imagenet"), ops.Bgr(), ops.Conv((3,), 4, bias=False)),
        (ops.Bgr(), ops.Normalize(mean=(1.0, 2.0, 3.0), std=(2.0,)), ops.Pad(((1, 2),), 0.5), ops.Conv((3,), 4)),
        (ops.Bgr(), ops.MaxPool((2,)), ops.Resize(scale=(2,)), ops.GlobalPool(), ops.Dense(2)),
    ],
)
def test_bgr_folds_through_what_treats_channels_alike(layers: tuple[Op, ...]) -> None:
    assert "bgr" not in operators(folded(chain(*layers), fold_bgr))


@pytest.mark.parametrize(
    "layers",
    [
        (ops.Bgr(),),
        (ops.Bgr(), ops.Normalize(preset="imagenet")),
        (ops.Bgr(), ops.Depthwise((3,), bias=True)),
        (ops.Bgr(), ops.Conv((3,), 6, groups=3, bias=True)),
        (ops.Bgr(), ops.Flatten(), ops.Dense(4)),
    ],
)
def test_bgr_stays_where_a_reader_cannot_undo_it(layers: tuple[Op, ...]) -> None:
    model = chain(*layers)
    assert folded(model, fold_bgr) is model


def test_bgr_folds_into_all_its_readers_or_none() -> None:
    builder = Builder()
    bgr = builder.add("bgr", ops.Bgr(), builder.input("x", (5, 5, 3)))
    normal = builder.add("normal", ops.Normalize(preset="imagenet"), bgr)
    convs = [builder.add(f"conv{i}", ops.Conv((3,), 4), source) for i, source in enumerate((bgr, normal, normal))]
    model = random_model(builder.net(y=builder.add("sum", ops.Add(), *convs)).graph)
    assert "bgr" not in operators(folded(model, fold_bgr))
    seen = random_model(builder.net(y="sum", normal=normal).graph)
    assert folded(seen, fold_bgr) is seen


def test_a_folded_node_is_the_convolution_with_a_bias() -> None:
    node = Node("c", ops.Conv((1, 1), 2, (1, 1), "same", (1, 1), 1, False), ("x",), (2, 2, 2))
    norm = Node("n", ops.BatchNorm(), ("c",), (2, 2, 2))
    graph = Graph("g", (Node("x", ops.Input((2, 2, 3)), (), (2, 2, 3)), node, norm), (("y", "n"),))
    after = folded(random_model(graph), fold_batch_norm)
    assert after.graph["c"].op == ops.Conv((1, 1), 2, (1, 1), "same", (1, 1), 1, True)
    assert after.graph.outputs == (("y", "c"),)
