"""Leaving out what does nothing or is not needed, and padding written as TensorFlow's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc import ops
from cnnc.ir.model import Model, Pass
from cnnc.ops import Op
from cnnc.ops.window import window
from cnnc.passes.drop_dead import drop_dead
from cnnc.passes.drop_identities import drop_identities
from cnnc.passes.merge_pad import merge_pad
from cnnc.passes.padding import zeros_read
from cnnc.passes.pipelines import run
from cnnc.passes.prefer_same import prefer_same
from tests.support.models import assert_same_function, random_model
from tests.support.networks import Builder, sequential
from tests.support.strategies import Case, cases


def after(model: Model, *passes: Pass) -> Model:
    result = run(model, passes)
    assert_same_function(model, result)
    return result


def operators(model: Model) -> list[str]:
    return [node.op.name for node in model.graph]


IDENTITIES: list[tuple[tuple[int, ...], Op]] = [
    ((4, 5, 3), ops.Dropout(0.5)),
    ((4, 5, 3), ops.DropPath(0.5)),
    ((4, 5, 3), ops.Reshape((4, 5, 3))),
    ((7,), ops.Flatten()),
    ((4, 5, 3), ops.Resize(size=(4, 5), method="bilinear")),
    ((4, 5, 3), ops.Resize(scale=(1,))),
    ((4, 5, 3), ops.Pad(((0, 0),), 3.0)),
    ((4, 5, 3), ops.Crop(((0, 0),))),
    ((4, 5, 3), ops.Concat()),
    ((4, 5, 3), ops.MaxPool((1,))),
    ((4, 5, 3), ops.AvgPool((1,), padding="valid", count_padding=True)),
    ((1, 1, 3), ops.GlobalPool(keepdims=True)),
    ((4, 5, 3), ops.SpaceToDepth(1)),
    ((4, 5, 6), ops.Slice()),
    ((4, 5, 6), ops.ChannelShuffle(1)),
    ((4, 5, 6), ops.ChannelShuffle(6)),
    ((4, 5, 3), ops.Normalize(mean=(0.0,), std=(1.0, 1.0, 1.0))),
]
OTHERS: list[tuple[tuple[int, ...], Op]] = [
    ((4, 5, 3), ops.Reshape((5, 4, 3))),
    ((4, 4, 3), ops.Resize(scale=(2,))),
    ((4, 5, 3), ops.Pad(((0, 1),))),
    ((4, 5, 3), ops.Crop(((1, 0),))),
    ((4, 5, 3), ops.MaxPool((1,), (2,))),
    ((4, 5, 3), ops.MaxPool((2,), (1,))),
    ((1, 1, 3), ops.GlobalPool()),
    ((2, 1, 3), ops.GlobalPool(keepdims=True)),
    ((4, 4, 3), ops.SpaceToDepth(2)),
    ((4, 4, 6), ops.Slice(1)),
    ((4, 4, 6), ops.ChannelShuffle(2)),
    ((4, 5, 3), ops.Normalize(mean=(0.0, 0.0, 1.0))),
    ((4, 5, 3), ops.BatchNorm()),
]


@pytest.mark.parametrize(("shape", "op"), IDENTITIES, ids=lambda each: getattr(each, "name", ""))
def test_what_changes_nothing_leaves(shape: tuple[int, ...], op: Op) -> None:
    assert operators(after(random_model(sequential(shape, ops.Relu(), op, op).graph), drop_identities)) == [
        "input",
        "relu",
    ]


@pytest.mark.parametrize(("shape", "op"), OTHERS, ids=lambda each: getattr(each, "name", ""))
def test_what_changes_something_stays(shape: tuple[int, ...], op: Op) -> None:
    model = random_model(sequential(shape, ops.Relu(), op).graph)
    assert after(model, drop_identities) is model


def test_an_output_is_no_input_even_if_nothing_is_computed() -> None:
    model = random_model(sequential((4,), ops.Dropout(), ops.Flatten(), ops.Dropout()).graph)
    result = after(model, drop_identities)
    assert [(node.name, node.inputs) for node in result.graph] == [("input", ()), ("dropout2", ("input",))]
    assert after(result, drop_identities) is result


def test_several_outputs_of_one_value_and_an_input_beside_them() -> None:
    builder = Builder()
    x = builder.input("x", (4, 4, 3))
    first = builder.add("first", ops.Dropout(), x)
    relu = builder.add("relu", ops.Relu(), first)
    last = builder.add("last", ops.DropPath(), relu)
    model = random_model(builder.net(first=first, relu=relu, last=last).graph)
    result = after(model, drop_identities)
    assert result.graph.outputs == (("first", "first"), ("relu", "relu"), ("last", "relu"))
    assert [node.name for node in result.graph] == ["x", "first", "relu"]


def test_what_no_output_needs_leaves_with_its_weights() -> None:
    builder = Builder()
    x, unused = builder.input("x", (4, 4, 3)), builder.input("unused", (2,))
    dense = builder.add("dense", ops.Dense(2, bias=True), unused)
    builder.add("dead", ops.Relu(), dense)
    relu = builder.add("relu", ops.Relu(), x)
    builder.add("aside", ops.Conv((3,), 4, bias=True), relu)
    result = after(random_model(builder.net(y=relu).graph), drop_dead)
    assert [node.name for node in result.graph] == ["x", "unused", "relu"]
    assert result.weights.keys() <= {"x", "unused", "relu"}


SAME: list[tuple[int, int, int, int, Any, Any]] = [
    # size, kernel, stride, dilation, explicit zeros, as written after
    (8, 3, 1, 1, (1, 1), "same"),
    (7, 3, 2, 1, (1, 1), "same"),
    (8, 3, 2, 1, (1, 1), ((1, 0),)),  # PyTorch's ResNet: not TensorFlow's SAME, which pads the end
    (8, 3, 2, 1, (0, 1), "same"),
    (224, 7, 2, 1, (3, 3), ((3, 2),)),
    (224, 7, 2, 1, (2, 3), "same"),
    (8, 5, 1, 1, (2, 2), "same"),
    (8, 3, 1, 2, (2, 2), "same"),
    (8, 3, 1, 2, (1, 1), ((1, 1),)),
    (8, 2, 1, 1, (0, 1), "same"),
    (8, 2, 1, 1, (1, 0), ((1, 0),)),
    (8, 3, 1, 1, (0, 0), "valid"),
    (8, 2, 2, 1, (0, 1), "valid"),  # no window reads the zero
]


@pytest.mark.parametrize(("size", "kernel", "stride", "dilation", "zeros", "expected"), SAME)
def test_explicit_padding_is_written_as_tensorflow_does(
    size: int, kernel: int, stride: int, dilation: int, zeros: tuple[int, int], expected: Any
) -> None:
    layers: list[Op] = [
        ops.Conv((kernel,), 2, (stride,), (zeros,), (dilation,), bias=True),
        ops.Depthwise((kernel,), (stride,), (zeros,), (dilation,), bias=False),
    ]
    if dilation == 1:
        layers += [ops.MaxPool((kernel,), (stride,), (zeros,)), ops.AvgPool((kernel,), (stride,), (zeros,))]
        layers.append(ops.AvgPool((kernel,), (stride,), (zeros,), count_padding=True))
    for op in layers:
        found: Any = after(random_model(sequential((size, 3), op).graph), prefer_same).graph.nodes[-1].op
        assert found.padding == expected


windowed = st.one_of([cases(cls) for cls in (ops.Conv, ops.Depthwise, ops.MaxPool, ops.AvgPool, ops.ConvTranspose)])


@given(windowed)
@settings(max_examples=100)
def test_padding_is_explicit_only_where_it_has_to_be(case: Case) -> None:
    op: Any = case.op
    result: Any = after(random_model(sequential(case.shapes[0], op).graph), prefer_same).graph.nodes[-1].op
    if isinstance(op, ops.ConvTranspose) or isinstance(result.padding, str):
        return
    assert zeros_read(result, case.shapes[0]) == result.padding
    same = [
        window(size, kernel, stride, dilation, "same")
        for size, kernel, stride, dilation in zip(
            case.shapes[0], op.kernel, op.stride, getattr(op, "dilation", (1, 1, 1)), strict=False
        )
    ]
    assert tuple(each[1:] for each in same) != result.padding


@pytest.mark.parametrize(
    ("explicit", "named"), [(((1, 0),), "same"), (((0, 0),), "valid"), (((0, 1),), ((0, 1),)), (((1, 1),), ((1, 1),))]
)
def test_padding_of_a_transposed_convolution(explicit: Any, named: Any) -> None:
    # A kernel of 3 with stride 2 makes 9 of 4, of which Keras's SAME keeps 8: it cuts (3 - 2) // 2 off before.
    op = ops.ConvTranspose((3,), 2, (2,), explicit, bias=True)
    expected = {"same": (0, 1), "valid": (0, 0)}
    found: Any = after(random_model(sequential((4, 3), op).graph), prefer_same).graph.nodes[-1].op
    names = [name for name, cut in expected.items() if (cut,) == explicit]
    assert found.padding == (names[0] if names else explicit)


MERGED: list[tuple[Op, Op, Any]] = [
    (ops.Pad(((1, 1),)), ops.Conv((3,), 4, padding="valid", bias=True), "same"),
    (ops.Pad(((0, 1),)), ops.Conv((3,), 4, (2,), padding="valid", bias=True), "same"),
    (ops.Pad(((3, 3),)), ops.Conv((7,), 4, (2,), padding="valid", bias=False), ((3, 2), (3, 2))),
    (ops.Pad(((1, 0), (0, 2))), ops.Depthwise((3,), padding=((0, 1),), bias=True), ((1, 1), (0, 3))),
    (ops.Pad(((1, 1),)), ops.Depthwise((3,), bias=True), ((2, 2), (2, 2))),
]


@pytest.mark.parametrize(("pad", "conv", "padding"), MERGED)
def test_a_frame_of_zeros_becomes_the_padding_of_a_convolution(pad: Op, conv: Op, padding: Any) -> None:
    result = after(random_model(sequential((8, 8, 3), pad, conv).graph), merge_pad, prefer_same)
    assert operators(result) == ["input", conv.name]
    found: Any = result.graph.nodes[-1].op
    assert found.padding == padding


def test_a_frame_stays_of_other_values_before_pools_and_for_several_layings() -> None:
    valid = ops.Conv((3,), 4, padding="valid", bias=True)
    for layers in ((ops.Pad(((1, 1),), 0.5), valid), (ops.Pad(((1, 1),)), ops.MaxPool((2,))), (ops.Pad(((1, 1),)),)):
        model = random_model(sequential((8, 8, 3), *layers).graph)
        assert after(model, merge_pad) is model
    for second, merges in ((valid, True), (ops.Conv((2,), 4, padding="valid", bias=True), False)):
        builder = Builder()
        frame = builder.add("frame", ops.Pad(((1, 1),)), builder.input("x", (8, 8, 3)))
        one, two = (builder.add(name, op, frame) for name, op in (("one", valid), ("two", second)))
        model = random_model(builder.net(one=one, two=two).graph)
        assert (after(model, merge_pad) is not model) == merges


@given(cases(ops.Pad, 2), st.data())
@settings(max_examples=60)
def test_merging_keeps_the_function(case: Case, data: st.DataObject) -> None:
    assert isinstance(case.op, ops.Pad)
    assert not isinstance(case.op.amount, str)
    shape = case.op.infer(*case.shapes)
    kernel = tuple(data.draw(st.integers(1, min(3, size))) for size in shape[:-1])
    padding: Any = data.draw(st.sampled_from(["same", "valid", ((1, 0), (0, 2))]))
    conv = ops.Conv(kernel, 2, (data.draw(st.integers(1, 2)),), padding, bias=True)
    layers = (ops.Pad(case.op.amount, 0.0), conv)
    result = after(random_model(sequential(case.shapes[0], *layers).graph), merge_pad, prefer_same)
    assert operators(result) == ["input", "conv"]


def test_zeros_read_are_those_that_windows_meet() -> None:
    conv = ops.Conv((3, 3), 2, (2, 2), ((1, 1), (1, 1)), (1, 1))
    assert zeros_read(conv, (8, 7, 3)) == ((1, 0), (1, 1))
    assert zeros_read(conv, (8, 7, 3), "same") == ((0, 1), (1, 1))
