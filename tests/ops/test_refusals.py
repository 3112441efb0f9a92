"""What the operators refuse, in the field's words, with the attribute at fault and a way out."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc import ops
from cnnc.ops import Op, OpError, Shape
from cnnc.ops.base import LARGEST
from cnnc.ops.signature import signature_of
from tests.support.strategies import Case, cases


def shape_of(op: Op, *inputs: Shape) -> Shape:
    """The shape of an operator as the builder finds it."""
    op.validate()
    return op.resolve(*inputs).infer(*inputs)


VOLUME = (16, 16, 16, 8)
PICTURE = (56, 56, 32)
SIGNAL = (100, 8)
FLAT = (512,)


@pytest.mark.parametrize(
    ("op", "shapes", "message", "attribute", "help"),
    [
        (
            ops.Conv((3,), 64, groups=3, bias=False),
            [PICTURE],
            "64 filters do not split into 3 groups",
            "groups",
            None,
        ),
        (ops.Conv((3,), 63, groups=3), [PICTURE], "32 input channels do not split into 3 groups", "groups", "groups=1"),
        (
            ops.Conv((5,), 8, padding="valid"),
            [(3, 3, 64)],
            "a kernel of 5x5 does not fit its input 3x3x64",
            "kernel",
            "padding=same",
        ),
        (
            ops.Conv((3,), 8, padding="valid", dilation=(4,)),
            [(5, 8)],
            "a kernel of 3, dilated to 9, does not fit its input 5x8",
            "kernel",
            "padding=same",
        ),
        (
            ops.MaxPool((5,), padding=((1, 1),)),
            [(2, 2, 2, 8)],
            "a kernel of 5x5x5 does not fit its input 2x2x2x8, padded to 4x4x4",
            "kernel",
            "padding=same",
        ),
        (
            ops.Conv((3, 3), 8),
            [SIGNAL],
            "`kernel` has 2 axes, but the input 100x8 has 1",
            "kernel",
            "write one number",
        ),
        (
            ops.Conv((3, 3), 8),
            [VOLUME],
            "`kernel` has 2 axes, but the input 16x16x16x8 has 3",
            "kernel",
            "write one number for all axes, or 3 joined by `x`",
        ),
        (ops.Conv((3,), 8), [FLAT], "`conv` works along spatial axes, but its input 512 has none", None, None),
        (ops.GlobalPool(), [FLAT], "`globalpool` works along spatial axes, but its input 512 has none", None, None),
        (
            ops.MaxPool((2,)),
            [(2, 2, 2, 2, 3)],
            "`maxpool` works along at most 3 spatial axes, but its input 2x2x2x2x3 has 4",
            None,
            None,
        ),
        (
            ops.MaxPool((2,), padding=((2, 2),)),
            [PICTURE],
            "`padding` of a pool must be smaller than its kernel, or windows would hold nothing but padding",
            "padding",
            None,
        ),
        (
            ops.ConvTranspose((2,), 8, padding=((1, 1),)),
            [(1, 1, 8)],
            "the padding cuts all of the output off, which is 2x2 without it",
            "padding",
            "padding=same",
        ),
        (
            ops.Conv((1,), 2**31 - 1, groups=2**31 - 1),
            [(8, 8, 2**31)],
            "2147483648 input channels do not split into 2147483647 groups",
            "groups",
            "groups=1",
        ),
        (
            ops.GroupNorm(32),
            [(56, 56, 48)],
            "48 channels do not split into 32 groups",
            "groups",
            "groups=24",
        ),
        (
            ops.Add(),
            [(56, 56, 256), (56, 56, 64)],
            "the branches of add do not agree: 56x56x256 and 56x56x64",
            None,
            "project the shortcut: conv(1x1, 256) | bn",
        ),
        (
            ops.Add(),
            [(56, 56, 64), (56, 56, 256)],
            "the branches of add do not agree: 56x56x64 and 56x56x256",
            None,
            "project the shortcut: conv(1x1, 256) | bn",
        ),
        (
            ops.Add(),
            [(56, 56, 64), (28, 28, 128)],
            "the branches of add do not agree: 56x56x64 and 28x28x128",
            None,
            "project the shortcut: conv(1x1, 128, stride=2) | bn",
        ),
        (
            ops.Add(),
            [(50, 8), (100, 8)],
            "the branches of add do not agree: 50x8 and 100x8",
            None,
            "project the shortcut: conv(1, 8, stride=2) | bn",
        ),
        (
            ops.Add(),
            [FLAT, (256,)],
            "the branches of add do not agree: 512 and 256",
            None,
            "project the shortcut: dense(512)",
        ),
        (ops.Add(), [FLAT, PICTURE], "the branches of add do not agree: 512 and 56x56x32", None, None),
        (
            ops.Mul(),
            [(56, 56, 64), (64,)],
            "the branches of mul do not agree: 56x56x64 and 64",
            None,
            "globalpool(keepdims=true)",
        ),
        (ops.Mul(), [(8, 8, 64), (1, 1, 32)], "the branches of mul do not agree: 8x8x64 and 1x1x32", None, None),
        (ops.Concat(), [(8, 8, 64), (4, 4, 64)], "the branches of concat do not agree: 8x8x64 and 4x4x64", None, None),
        (
            ops.Concat(),
            [(8, 8, 64), FLAT],
            "the branches of concat do not agree: 8x8x64 and 512",
            None,
            "flatten the branches first: flatten",
        ),
        (ops.Reshape((10, 10)), [(7, 7, 2)], "7x7x2 holds 98 values, but 10x10 100", "shape", None),
        (ops.Crop(((2, 2),)), [(4, 4, 3)], "nothing of 4x4x3 is left after the crop", "amount", None),
        (ops.Crop("same"), [PICTURE], "`crop` takes a number of values, but `amount` is `same`", "amount", None),
        (ops.Resize(), [PICTURE], "`resize` takes either `size` or `scale`, but has neither", None, None),
        (
            ops.Resize((8,), (2,)),
            [PICTURE],
            "`resize` takes either `size` or `scale`, but has both",
            "scale",
            None,
        ),
        (ops.Slice(0, 33), [PICTURE], "56x56x32 has no channels up to 33", "stop", None),
        (ops.Slice(8, 8), [PICTURE], "no channel is from 8 up to, not including, 8", "start", None),
        (ops.ChannelShuffle(5), [PICTURE], "32 channels do not split into 5 groups", "groups", "groups=4"),
        (ops.SpaceToDepth(3), [PICTURE], "56x56x32 does not split into blocks of 3", "block", None),
        (
            ops.Normalize(mean=(1.0, 2.0)),
            [(8, 8, 3)],
            "`mean` has 2 numbers, but the input 8x8x3 has 3 channels",
            "mean",
            None,
        ),
        (
            ops.Normalize("unit", mean=(1.0,)),
            [(8, 8, 3)],
            "`normalize` takes either the preset `unit` or `mean` and `std`, but has both",
            "mean",
            None,
        ),
        (ops.Normalize(std=(0.0,)), [PICTURE], "`std` must be above 0, but is 0.0", "std", None),
        (ops.Bgr(), [(8, 8, 4)], "`bgr` reverses 3 channels, but its input 8x8x4 has 4", None, None),
        (ops.Attention(8), [(49, 100)], "100 channels do not split over 8 heads", "heads", None),
        (ops.Attention(8), [FLAT], "`attention` works between positions, but its input 512 has none", None, None),
        (ops.Dropout(1.0), [FLAT], "`rate` must be from 0 up to, not including, 1, but is 1.0", "rate", None),
        (ops.BatchNorm(momentum=1.5), [FLAT], "`momentum` must be from 0 to 1, but is 1.5", "momentum", None),
        (ops.BatchNorm(epsilon=0.0), [FLAT], "`epsilon` must be above 0, but is 0.0", "epsilon", None),
        (ops.LeakyRelu(float("nan")), [FLAT], "`slope` must be a finite number, but is nan", "slope", None),
        (ops.Dense(2**31 + 1), [FLAT], "`units` must not be above 2147483648", "units", None),
        (ops.Conv((3,), 8, padding="full"), [PICTURE], None, "padding", None),
        (ops.Pad(((-1, 0),)), [PICTURE], "`amount` must not be negative", "amount", None),
    ],
)
def test_what_does_not_fit_is_refused_in_the_fields_words(
    op: Op, shapes: list[Shape], message: str | None, attribute: str | None, help: str | None
) -> None:
    with pytest.raises(OpError) as caught:
        shape_of(op, *shapes)
    if message is not None:
        assert caught.value.message == message
    assert caught.value.attribute == attribute
    if help is not None:
        assert caught.value.help == help


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        (ops.Conv((3,), 8), ["kernel", "filters", "stride", "dilation", "groups"]),
        (ops.Depthwise((3,)), ["kernel", "stride", "dilation", "multiplier"]),
        (ops.ConvTranspose((3,), 8), ["kernel", "filters", "stride", "dilation"]),
        (ops.MaxPool((3,)), ["kernel", "stride"]),
        (ops.AvgPool((3,)), ["kernel", "stride"]),
        (ops.Dense(8), ["units"]),
        (ops.Embedding(8, 8), ["vocabulary", "features"]),
        (ops.Attention(), ["heads", "key_features"]),
        (ops.GroupNorm(), ["groups"]),
        (ops.Reshape((8,)), ["shape"]),
        (ops.Resize((8,)), ["size"]),
        (ops.SpaceToDepth(), ["block"]),
        (ops.ChannelShuffle(), ["groups"]),
        (ops.Input((8,)), ["shape"]),
    ],
)
def test_sizes_below_one_are_refused(op: Op, attributes: list[str]) -> None:
    op.validate()
    kinds = {parameter.name: parameter.type.kind for parameter in signature_of(type(op))}
    for attribute in attributes:
        for number in (0, -1, -(2**40), 2**40):
            broken = replace(op, **{attribute: (number,) if kinds[attribute] == "dims" else number})
            with pytest.raises(OpError) as caught:
                broken.validate()
            assert caught.value.code == "value"
            assert caught.value.attribute == attribute
            assert f"`{attribute}` must" in caught.value.message


@pytest.mark.parametrize("cls", Op.__subclasses__())
def test_any_shape_is_accepted_or_refused(cls: type[Op]) -> None:
    @settings(max_examples=50)
    @given(
        case=cases(cls), other=st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple), count=st.integers(1, 3)
    )
    def check(case: Case, other: Shape, count: int) -> None:
        low, high = cls.arity
        shapes = [*case.shapes[: count - 1], other][: high if high is not None else None]
        if len(shapes) < low:
            return
        kinds = {p.name: p.type.kind for p in signature_of(type(case.op))}
        written = type(case.op)(**{name: _unspread(getattr(case.op, name), kind) for name, kind in kinds.items()})
        try:
            written.validate()
            output = written.resolve(*shapes).infer(*shapes)
        except OpError:
            return
        assert all(size >= 1 for size in output)

    check()


def _unspread(value: Any, kind: str) -> Any:
    return value[:1] if kind in ("dims", "padding") and isinstance(value, tuple) else value


@pytest.mark.parametrize("cls", Op.__subclasses__())
@settings(max_examples=2)
@given(data=st.data())
def test_numbers_without_bound_are_refused(cls: type[Op], data: st.DataObject) -> None:
    op = data.draw(cases(cls)).op
    for parameter in signature_of(cls):
        value = getattr(op, parameter.name)
        beyond = (inf, -inf, nan) if isinstance(value, float) else (LARGEST + 1,) if type(value) is int else ()
        for number in beyond:
            with pytest.raises(OpError) as caught:
                replace(op, **{parameter.name: number}).validate()
            assert (caught.value.code, caught.value.attribute) == ("value", parameter.name)
