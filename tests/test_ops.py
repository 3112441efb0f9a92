"""What the operators say of themselves: names, shapes, weights, costs, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc import ops
from cnnc.backends.reference import evaluate
from cnnc.ops import OPS, Op, OpError, Shape
from cnnc.ops.window import transposed_window, window
from cnnc.signature import REQUIRED, signature_of
from tests.strategies import Case, cases, random_inputs, random_weights

CLASSES = sorted(Op.__subclasses__(), key=lambda cls: cls.__name__)


def shape_of(op: Op, *inputs: Shape) -> Shape:
    """The shape of an operator as the builder finds it."""
    op.validate()
    return op.resolve(*inputs).infer(*inputs)


def test_every_operator_is_written_by_its_own_names() -> None:
    assert set(OPS.values()) == set(CLASSES) - {ops.Input}
    assert len(OPS) == sum(len(cls.names) for cls in CLASSES)
    assert all(OPS[name] is cls for cls in CLASSES for name in cls.names)


def test_every_operator_is_exported() -> None:
    assert {cls.__name__ for cls in CLASSES} <= set(ops.__all__)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_operator_is_a_value_with_a_signature(cls: type[Op]) -> None:
    required = [p.name for p in signature_of(cls) if p.default is REQUIRED]
    defaults = [p.name for p in signature_of(cls) if p.default is not REQUIRED]
    assert [p.name for p in signature_of(cls)] == required + defaults
    assert cls.__doc__


def test_operators_without_attributes_compare_by_class() -> None:
    assert ops.Relu() == ops.Relu()
    assert len({ops.Relu(), ops.Relu(), ops.Relu6()}) == 2


def test_importing_the_operators_leaves_numpy_out() -> None:
    code = "import sys, cnnc.ops; print([m for m in ('numpy', 'jax', 'lark') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "expected"),
    [
        (224, 3, 2, 1, (112, 0, 1)),  # MobileNet's first convolution in TensorFlow
        (224, 7, 2, 1, (112, 2, 3)),  # ResNet's
        (5, 3, 1, 1, (5, 1, 1)),
        (5, 2, 1, 1, (5, 0, 1)),
        (5, 3, 1, 2, (5, 2, 2)),
        (10, 2, 3, 1, (4, 0, 1)),
        (9, 1, 3, 1, (3, 0, 0)),
    ],
)
def test_same_padding_is_tensorflows(
    size: int, kernel: int, stride: int, dilation: int, expected: tuple[int, int, int]
) -> None:
    assert window(size, kernel, stride, dilation, "same") == expected


def test_explicit_padding_is_pytorchs() -> None:
    assert window(224, 7, 2, 1, (3, 3)).size == 112
    assert window(224, 11, 4, 1, (2, 2)).size == 55
    assert window(7, 3, 1, 2, (1, 1)).size == 5


@given(output=st.integers(1, 9), kernel=st.integers(1, 5), stride=st.integers(1, 4), dilation=st.integers(1, 3))
def test_transposed_same_is_the_gradient_of_same(output: int, kernel: int, stride: int, dilation: int) -> None:
    forward = window(output * stride, kernel, stride, dilation, "same")
    assert forward.size == output
    back = transposed_window(output, kernel, stride, dilation, "same")
    assert (back.size, back.before) == (output * stride, forward.before)


class _Recorder(dict[str, Any]):
    """Weights that remember which of them were read."""

    def __init__(self, weights: dict[str, Any]) -> None:
        super().__init__(weights)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_shape_rule_is_true_and_every_weight_is_used(cls: type[Op]) -> None:
    @settings(max_examples=60)
    @given(case=cases(cls), seed=st.integers(0, 2**32))
    def check(case: Case, seed: int) -> None:
        if isinstance(case.op, ops.Input):
            assert case.op.infer() == case.op.shape
            return
        weights = _Recorder(random_weights(case, seed))
        value = evaluate(case.op, weights, *random_inputs(case, seed))
        assert value.shape == (2, *case.op.infer(*case.shapes))
        assert value.dtype == np.float64
        assert np.isfinite(value).all()
        assert weights.read == set(weights)

    check()


@pytest.mark.parametrize("cls", CLASSES)
def test_resolving_twice_changes_nothing(cls: type[Op]) -> None:
    @settings(max_examples=20)
    @given(case=cases(cls))
    def check(case: Case) -> None:
        assert case.op.resolve(*case.shapes) == case.op

    check()


def _ones(case: Case) -> float:
    """The sum of an operator's output where inputs and kernels are all ones: its multiply-accumulates."""
    weights = {name: np.ones(w.shape) for name, w in case.op.weights(*case.shapes).items() if name != "bias"}
    return float(evaluate(case.op, weights, *(np.ones((1, *shape)) for shape in case.shapes)).sum())


@pytest.mark.parametrize("cls", [ops.Conv, ops.Depthwise, ops.ConvTranspose, ops.Dense])
def test_macs_count_the_products_where_nothing_is_padded(cls: type[Op]) -> None:
    @given(case=cases(cls))
    def check(case: Case) -> None:
        if getattr(case.op, "padding", "valid") == "valid":
            assert case.op.macs(case.op.infer(*case.shapes), *case.shapes) == _ones(case)

    check()


@pytest.mark.parametrize(
    ("op", "shape", "output", "params", "macs"),
    [
        # Krizhevsky et al. 2012, figure 2: conv1, and conv2 in its two groups.
        (ops.Conv((11,), 96, (4,), "valid"), (227, 227, 3), (55, 55, 96), 34_944, 105_415_200),
        (ops.Conv((5,), 256, groups=2), (27, 27, 96), (27, 27, 256), 307_456, 223_948_800),
        # He et al. 2016, table 1: the stem of every ImageNet ResNet.
        (ops.Conv((7,), 64, (2,), bias=False), (224, 224, 3), (112, 112, 64), 9_408, 118_013_952),
        # Howard et al. 2017, table 1: the first depthwise layer.
        (ops.Depthwise((3,), bias=False), (112, 112, 32), (112, 112, 32), 288, 3_612_672),
        # Simonyan & Zisserman 2015: VGG's first fully connected layer.
        (ops.Dense(4096), (25088,), (4096,), 102_764_544, 102_760_448),
        # Vaswani et al. 2017: d_model 512, 8 heads of 64, here over 49 positions.
        (ops.Attention(8), (7, 7, 512), (7, 7, 512), 1_050_624, 49 * 4 * 512 * 512 + 2 * 49 * 49 * 512),
        # Radford et al. 2015: DCGAN's first transposed convolution.
        (ops.ConvTranspose((5,), 512, (2,), bias=False), (4, 4, 1024), (8, 8, 512), 13_107_200, 209_715_200),
    ],
)
def test_layers_of_papers(op: Op, shape: Shape, output: Shape, params: int, macs: int) -> None:
    assert shape_of(op, shape) == output
    resolved = op.resolve(shape)
    assert sum(prod(weight.shape) for weight in resolved.weights(shape).values()) == params
    assert resolved.macs(output, shape) == macs


@pytest.mark.parametrize(
    ("op", "shape", "fans"),
    [
        (ops.Conv((3,), 128), (8, 8, 64), (576, 1152)),
        (ops.Conv((3,), 128, groups=4), (8, 8, 64), (144, 288)),
        (ops.Depthwise((3,), multiplier=2), (8, 8, 64), (9, 18)),
        (ops.ConvTranspose((3,), 128), (8, 64), (192, 384)),
        (ops.Dense(10), (512,), (512, 10)),
    ],
)
def test_fans_count_the_connections_of_a_unit(op: Op, shape: Shape, fans: tuple[int, int]) -> None:
    kernel = op.resolve(shape).weights(shape)["kernel"]
    assert (kernel.fan_in, kernel.fan_out) == fans


def test_weight_decay_and_training_leave_the_right_weights_alone() -> None:
    for op in (ops.Conv((3,), 4), ops.BatchNorm(), ops.LayerNorm(), ops.GroupNorm(2), ops.Prelu(), ops.Attention(2)):
        weights = op.resolve((8, 8, 4)).weights((8, 8, 4))
        assert {name for name, weight in weights.items() if weight.decay} == {n for n in weights if "kernel" in n}
        assert {name for name, weight in weights.items() if not weight.trainable} <= {"mean", "variance"}
    assert list(ops.BatchNorm().weights((4,))) == ["gamma", "beta", "mean", "variance"]
    assert list(ops.BatchNorm(scale=False).weights((4,))) == ["beta", "mean", "variance"]


def test_one_number_counts_for_every_axis() -> None:
    for shape in ((9, 3), (9, 9, 3), (9, 9, 9, 3)):
        rank = len(shape) - 1
        assert ops.Conv((3,), 8, padding=((1, 1),)).resolve(shape) == ops.Conv(
            (3,) * rank, 8, (1,) * rank, ((1, 1),) * rank, (1,) * rank
        )


def test_a_pool_steps_by_its_kernel() -> None:
    assert shape_of(ops.MaxPool((2,)), (26, 26, 32)) == (13, 13, 32)
    assert shape_of(ops.MaxPool((3,), (2,)), (112, 112, 64)) == (56, 56, 64)
    assert shape_of(ops.AvgPool((5,)), (2001, 16)) == (401, 16)


def test_presets_become_numbers() -> None:
    imagenet = ops.Normalize("imagenet")
    assert imagenet.resolve((8, 8, 3)) == ops.Normalize("none", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    grey = imagenet.resolve((8, 8, 1))
    assert grey.mean == pytest.approx([(123.675 + 116.28 + 103.53) / 3])
    assert ops.Normalize("symmetric").resolve((8, 8, 3)) == ops.Normalize("none", (127.5,), (127.5,))


def test_squeeze_and_excite_broadcasts() -> None:
    assert shape_of(ops.Mul(), (56, 56, 64), (1, 1, 64)) == (56, 56, 64)
    assert shape_of(ops.Mul(), (1, 1, 64), (56, 56, 1)) == (56, 56, 64)


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
        (ops.Bgr(), [(8, 8, 1)], "`bgr` reverses 3 channels, but its input 8x8x1 has 1", None, None),
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


@pytest.mark.parametrize("cls", CLASSES)
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
        written = type(case.op)(**{p.name: _unspread(getattr(case.op, p.name), p.type.kind) for p in signature_of(cls)})
        try:
            written.validate()
            output = written.resolve(*shapes).infer(*shapes)
        except OpError:
            return
        assert all(size >= 1 for size in output)

    check()


def _unspread(value: Any, kind: str) -> Any:
    return value[:1] if kind in ("dims", "padding") and isinstance(value, tuple) else value
