"""The Edge TPU's rules, one by one: a small program on either side of each, and the words of the compiler."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cnnc.backends.edgetpu import facts
from cnnc.backends.edgetpu.check import check
from cnnc.backends.edgetpu.rules import RULES, Rule
from cnnc.tflite.program import File, Operator, Program, Quantization, Tensor
from cnnc.tflite.schema import OPERATORS
from tests.tflite_programs import constant, one_operator, tensor


def act(*shape: int, name: str = "x", type: str = "INT8") -> Tensor:
    return tensor(name, shape, type, 0.5)


def out(*shape: int, type: str = "INT8") -> Tensor:
    return act(*shape, name="y", type=type)


def weights(*shape: int) -> Tensor:
    return constant("w", np.ones(shape, np.int8), 0.1)


def ints(*values: int, name: str = "k") -> Tensor:
    return constant(name, np.array(values, np.int32))


def conv(x: Tensor, w: Tensor, y: Tensor, **options: Any) -> Program:
    bias = constant("b", np.zeros(y.shape[-1], np.int32), 0.05)
    given = {"padding": "SAME", "stride_h": 1, "stride_w": 1, "activation": "NONE", "dilation_h": 1, "dilation_w": 1}
    return one_operator("CONV_2D", [x, w, bias], y, **{**given, **options})


def versioned(program: Program, version: int) -> Program:
    return replace(program, operators=tuple(replace(operator, version=version) for operator in program))


PADDINGS = constant("k", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
BATCH_PADDINGS = constant("k", np.array([[1, 0], [0, 0], [0, 0], [0, 0]], np.int32))
OTHER = act(1, 8, 8, 4, name="z")
ZEROS = constant("z", np.zeros((1, 8, 8, 4), np.int8), 0.5)
ONES = constant("z", np.ones((1, 8, 8, 4), np.int8), 0.5)
SLICE = [ints(0, 0, 0, 0), ints(1, 4, 4, 4, name="e")]

MAPPED = {
    "conv": conv(act(1, 8, 8, 3), weights(4, 3, 3, 3), out(1, 8, 8, 4), activation="RELU6"),
    "conv uint8": conv(act(1, 8, 8, 3, type="UINT8"), weights(4, 3, 3, 3), out(1, 8, 8, 4, type="UINT8")),
    "dilated conv": conv(act(1, 8, 8, 3), weights(4, 3, 3, 3), out(1, 8, 8, 4), dilation_h=2, dilation_w=2),
    "16x16 kernel": conv(act(1, 16, 16, 3), weights(4, 16, 16, 3), out(1, 1, 1, 4)),
    "dense": one_operator("FULLY_CONNECTED", [act(1, 8), weights(4, 8), None], out(1, 4)),
    "softmax of 16384": one_operator("SOFTMAX", [act(1, 16384)], out(1, 16384)),
    "concatenation": one_operator("CONCATENATION", [act(1, 8, 8, 4), OTHER], out(1, 8, 8, 8), axis=3),
    "zeros": one_operator("CONCATENATION", [act(1, 8, 8, 4), ZEROS], out(1, 8, 8, 8), axis=3),
    "pool": one_operator("AVERAGE_POOL_2D", [act(1, 33, 33, 8)], out(1, 1, 1, 8), activation="NONE"),
    "pad": one_operator("PAD", [act(1, 8, 8, 4), PADDINGS], out(1, 10, 10, 4)),
    "quantize": one_operator("QUANTIZE", [act(1, 8, 8, 3, type="UINT8")], out(1, 8, 8, 3)),
    "mean 64x128": one_operator("MEAN", [act(1, 64, 128, 3), ints(1, 2)], out(1, 3)),
    "resize by 2": one_operator("RESIZE_BILINEAR", [act(1, 64, 64, 4), ints(128, 128)], out(1, 128, 128, 4)),
    "prelu": one_operator("PRELU", [act(1, 8, 8, 4), weights(1, 1, 4)], out(1, 8, 8, 4)),
    "slice": one_operator("STRIDED_SLICE", [act(1, 8, 8, 4), *SLICE, ints(1, 1, 1, 1, name="s")], out(1, 4, 4, 4)),
    "transpose": one_operator("TRANSPOSE", [act(1, 8, 8, 4), ints(0, 3, 1, 2)], out(1, 4, 8, 8)),
    "split": one_operator("SPLIT", [ints(3), act(1, 8, 8, 4)], [out(1, 8, 8, 2), act(1, 8, 8, 2, name="v")]),
    "reshape": one_operator("RESHAPE", [act(1, 8, 8, 4), ints(1, 256)], out(1, 256)),
    "tanh": one_operator("TANH", [act(1, 8, 8, 4)], out(1, 8, 8, 4)),
    "small transposed": one_operator(
        "TRANSPOSE_CONV", [ints(1, 16, 16, 8), weights(8, 2, 2, 4), act(1, 8, 8, 4)], out(1, 16, 16, 8)
    ),
}
UNMAPPED = {
    "leaky_relu": (facts.NOT_SUPPORTED, one_operator("LEAKY_RELU", [act(1, 8, 8, 4)], out(1, 8, 8, 4), alpha=0.1)),
    "hard_swish": (facts.NOT_SUPPORTED, one_operator("HARD_SWISH", [act(1, 8, 8, 4)], out(1, 8, 8, 4))),
    "arg_max": (facts.NOT_SUPPORTED, one_operator("ARG_MAX", [act(1, 8), ints(1)], out(1, type="INT64"))),
    "new version": (
        facts.VERSION,
        versioned(conv(act(1, 8, 8, 3), weights(4, 3, 3, 3), out(1, 8, 8, 4)), 6),
    ),
    "float": (facts.DATA_TYPE, one_operator("RELU", [tensor("x", (1, 8))], tensor("y", (1, 8)))),
    "int16": (facts.DATA_TYPE, one_operator("RELU", [act(1, 8, type="INT16")], out(1, 8, type="INT16"))),
    "mixed": (facts.DATA_TYPE, one_operator("RELU", [act(1, 8, type="UINT8")], out(1, 8))),
    "dequantize": (facts.DATA_TYPE, one_operator("DEQUANTIZE", [act(1, 8)], tensor("y", (1, 8)))),
    "quantize of float": (facts.LIMITATION, one_operator("QUANTIZE", [tensor("x", (1, 8))], out(1, 8))),
    "batch": (facts.RANK, conv(act(3, 8, 8, 3), weights(4, 3, 3, 3), out(3, 8, 8, 4))),
    "computed weights": (
        facts.NOT_CONSTANT,
        one_operator("FULLY_CONNECTED", [act(1, 8), act(4, 8, name="w")], out(1, 4)),
    ),
    "dense of rows": (facts.TWO_D, one_operator("FULLY_CONNECTED", [act(5, 8), weights(4, 8)], out(5, 4))),
    "softmax of pixels": (facts.TWO_D, one_operator("SOFTMAX", [act(1, 8, 8, 4)], out(1, 8, 8, 4))),
    "dense format": (
        facts.LIMITATION,
        one_operator("FULLY_CONNECTED", [act(1, 8), weights(4, 8)], out(1, 4), weights_format=1),
    ),
    "fused pool": (
        facts.LIMITATION,
        one_operator("MAX_POOL_2D", [act(1, 8, 8, 4)], out(1, 4, 4, 4), activation="RELU"),
    ),
    "constant": (
        facts.LIMITATION,
        one_operator("CONCATENATION", [act(1, 8, 8, 4), ONES], out(1, 8, 8, 8), axis=3),
    ),
    "three with a constant": (
        facts.LIMITATION,
        one_operator("CONCATENATION", [act(1, 8, 8, 4), act(1, 8, 8, 4, name="u"), ZEROS], out(1, 8, 8, 12), axis=-1),
    ),
    "batch concatenation": (
        facts.LIMITATION,
        one_operator("CONCATENATION", [act(1, 4), act(1, 4, name="z")], out(2, 4), axis=0),
    ),
    "batch split": (
        facts.LIMITATION,
        one_operator("SPLIT", [ints(0), act(2, 4)], [out(1, 4), act(1, 4, name="v")]),
    ),
    "unequal dilation": (
        facts.LIMITATION,
        conv(act(1, 8, 8, 3), weights(4, 3, 3, 3), out(1, 8, 8, 4), dilation_h=2),
    ),
    "64x64 kernel": (facts.LIMITATION, conv(act(1, 64, 64, 1), weights(4, 64, 64, 1), out(1, 1, 1, 4))),
    "mean of batch": (facts.LIMITATION, one_operator("MEAN", [act(1, 8, 8, 4), ints(0)], out(8, 8, 4))),
    "mean of 3 channels": (facts.LIMITATION, one_operator("MEAN", [act(1, 8, 8, 3), ints(-1)], out(1, 8, 8))),
    "mean 256x128": (facts.LIMITATION, one_operator("MEAN", [act(1, 256, 128, 3), ints(1, 2)], out(1, 3))),
    "batch pad": (facts.LIMITATION, one_operator("PAD", [act(1, 8, 8, 4), BATCH_PADDINGS], out(1, 8, 8, 4))),
    "tall slopes": (facts.LIMITATION, one_operator("PRELU", [act(1, 8, 8, 4), weights(8, 8, 4)], out(1, 8, 8, 4))),
    "resize by 33": (
        facts.LIMITATION,
        one_operator("RESIZE_BILINEAR", [act(1, 1, 1, 4), ints(33, 33)], out(1, 33, 33, 4)),
    ),
    "resize to 512": (
        facts.LIMITATION,
        one_operator("RESIZE_NEAREST_NEIGHBOR", [act(1, 256, 256, 4), ints(512, 512)], out(1, 512, 512, 4)),
    ),
    "softmax of 20000": (facts.LIMITATION, one_operator("SOFTMAX", [act(1, 20000)], out(1, 20000))),
    "strides": (
        facts.LIMITATION,
        one_operator("STRIDED_SLICE", [act(1, 8, 8, 4), *SLICE, ints(1, 2, 2, 1, name="s")], out(1, 2, 2, 4)),
    ),
    "batch transpose": (
        facts.LIMITATION,
        one_operator("TRANSPOSE", [act(1, 1, 8, 4), ints(1, 0, 2, 3)], out(1, 1, 8, 4)),
    ),
    "large transposed": (
        facts.LIMITATION,
        one_operator(
            "TRANSPOSE_CONV",
            [ints(1, 64, 64, 512), weights(512, 2, 2, 1024), act(1, 32, 32, 1024)],
            out(1, 64, 64, 512),
        ),
    ),
}


@pytest.mark.parametrize("name", MAPPED)
def test_an_operator_within_the_limits_is_mapped(name: str) -> None:
    report = check(File((MAPPED[name],)))
    assert report.operators[0].status == facts.STATUS_MAPPED
    assert report.is_whole, report.refused


@pytest.mark.parametrize("name", UNMAPPED)
def test_an_operator_beyond_a_limit_stays_on_the_cpu(name: str) -> None:
    status, program = UNMAPPED[name]
    (found,) = check(File((program,))).operators
    assert found.status == status
    assert not found.mapped
    assert found.remedy
    assert found.source


def test_a_custom_operator_goes_by_its_own_name() -> None:
    operator = Operator("CUSTOM", ("x",), ("y",), custom="TFLite_Detection_PostProcess")
    tensors = {"x": act(1, 8), "y": tensor("y", (1, 8))}
    report = check(File((Program("main", tensors, (operator,), ("x",), ("y",)),)))
    assert report.operators[0].op == "TFLite_Detection_PostProcess"
    assert report.operators[0].status == facts.DATA_TYPE
    assert report.compiles


def test_every_rule_says_why_and_what_to_do() -> None:
    reasons = {facts.NOT_SUPPORTED, facts.VERSION, facts.DATA_TYPE, facts.RANK, facts.NOT_CONSTANT, facts.TWO_D}
    for rule in RULES:
        assert isinstance(rule, Rule)
        assert rule.reason in reasons | {facts.LIMITATION}
        assert rule.remedy
        assert rule.source
        assert all(kind in OPERATORS for kind in rule.kinds)


def test_facts_name_operators_of_the_schema() -> None:
    assert set(facts.REGISTERED) <= set(OPERATORS[: facts.BUILTIN_CODES])
    assert set(facts.REGISTERED) >= facts.MAPPED
    assert all(0 <= sure <= probable for sure, probable in facts.REGISTERED.values())


def chain(*kinds: str) -> Program:
    """Operators of one input each, one after the other."""
    names = [f"t{i}" for i in range(len(kinds) + 1)]
    operators = tuple(Operator(kind, (a,), (b,)) for kind, a, b in zip(kinds, names[:-1], names[1:], strict=True))
    return Program("main", {name: act(1, 8, 8, 4, name=name) for name in names}, operators, (names[0],), (names[-1],))


def test_the_graph_is_cut_at_the_first_operator_that_is_not_mapped() -> None:
    report = check(File((chain("RELU", "ELU", "RELU", "TANH"),)))
    assert [verdict.status for verdict in report.operators] == [
        facts.STATUS_MAPPED,
        facts.NOT_SUPPORTED,
        facts.SUBGRAPH,
        facts.SUBGRAPH,
    ]
    assert report.cut == 1


def test_operators_before_the_edge_tpu_cut_nothing() -> None:
    report = check(File((chain("ELU", "RELU", "TANH"),)))
    assert [verdict.mapped for verdict in report.operators] == [False, True, True]
    assert report.cut is None


def test_a_branch_beside_the_cut_stays_on_the_edge_tpu() -> None:
    """As the 256 filters beside the image pooling of the deeplab pairs."""
    names = ("x", "a", "b", "c", "d")
    operators = (
        Operator("ELU", ("a",), ("b",)),
        Operator("TANH", ("a",), ("c",)),
        Operator("ADD", ("b", "c"), ("d",)),
    )
    program = Program(
        "main",
        {name: act(1, 8, 8, 4, name=name) for name in names},
        (Operator("RELU", ("x",), ("a",)), *operators),
        ("x",),
        ("d",),
    )
    assert [verdict.mapped for verdict in check(File((program,))).operators] == [True, False, True, False]


def test_scales_that_differ_take_more_room_than_equal_ones() -> None:
    """The pairs `gabor_*` and `dense_*`: 4 bytes a channel for one scale, 8 for many."""

    def depthwise(scales: list[float]) -> int:
        w = constant("w", np.ones((1, 7, 7, 8), np.int8), scales, axis=3)
        bias = constant("b", np.zeros(8, np.int32))
        program = one_operator("DEPTHWISE_CONV_2D", [act(1, 64, 64, 1), w, bias], out(1, 64, 64, 8))
        return check(File((program,))).cached_bytes

    assert depthwise([0.1] * 8) == 16 * (7 * 7 * 4 + 4) == 3200
    assert depthwise([0.1 + i / 100 for i in range(8)]) == 16 * (7 * 7 * 4 + 8)


def test_a_layer_beyond_the_cache_is_streamed_and_slow() -> None:
    zero = np.broadcast_to(np.zeros((), np.int8), (8192, 8192))
    w = Tensor("w", (8192, 8192), "INT8", Quantization((0.1,), (0,)), zero)
    report = check(File((one_operator("FULLY_CONNECTED", [act(1, 8192), w], out(1, 8192)),)))
    assert report.streamed_bytes == 8192 * 8192
    assert report.latency.ms > 100
    assert report.latency.is_cpu_faster
    assert {"sent with every inference" in each.message for each in report.warnings} == {True, False}
