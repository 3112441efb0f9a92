"""What the operators say of themselves: names, shapes, weights, costs, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from math import prod
from typing import Any, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc import ops
from cnnc.backends.reference import evaluate
from cnnc.ops import OPS, Op, Shape
from cnnc.ops.signature import REQUIRED, signature_of, type_of
from cnnc.ops.window import transposed_window, window
from cnnc.recipe import Entry
from cnnc.recipe.entry import entries
from tests.support.strategies import Case, cases, random_inputs, random_weights

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


@pytest.mark.parametrize("cls", [*CLASSES, *entries(Entry).values()])
def test_the_types_of_parameters_are_those_of_evaluated_annotations(cls: type) -> None:
    hints = get_type_hints(cls, include_extras=True)
    assert all(p.type == type_of(hints[p.name]) for p in signature_of(cls))


def test_operators_without_attributes_compare_by_class() -> None:
    assert ops.Relu() == ops.Relu()
    assert len({ops.Relu(), ops.Relu(), ops.Relu6()}) == 2


def test_importing_the_operators_leaves_numpy_out() -> None:
    code = "import sys, cnnc.ops; print([m for m in ('numpy', 'jax') if m in sys.modules])"
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


@pytest.mark.fault("Q3")
def test_every_way_to_write_a_depthwise_convolution_gives_one_operator() -> None:
    shape = (9, 9, 8)
    grouped = ops.Conv((3,), 16, (2,), "half", groups=8, bias=False, init="normal")
    written = ops.Depthwise((3,), (2,), "half", multiplier=2, bias=False, init="normal")
    assert grouped.resolve(shape) == written.resolve(shape)
    assert grouped.resolve(shape).resolve(shape) == written.resolve(shape)
    for conv, channels in ((ops.Conv((3,), 16), 1), (ops.Conv((3,), 16, groups=8), 16), (ops.Conv((3,), 16), 16)):
        assert isinstance(conv.resolve((9, 9, channels)), ops.Conv)


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


def test_a_gate_counts_a_product_for_each_value() -> None:
    assert ops.Mul().macs((7, 7, 32), (7, 7, 32), (1, 1, 32)) == 7 * 7 * 32
    assert ops.Add().macs((7, 7, 32), (7, 7, 32), (7, 7, 32)) == 0
