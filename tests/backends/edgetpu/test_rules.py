"""The Edge TPU's rules, one by one: a small program on either side of each, and the words of the compiler."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cnnc.backends.edgetpu import facts
from cnnc.backends.edgetpu.operator_view import Site
from cnnc.backends.edgetpu.prediction import check
from cnnc.backends.edgetpu.rules import RULES, Rule, first_broken
from cnnc.tflite_file.program import File, Operator, Program, Tensor
from cnnc.tflite_file.schema import OPERATORS
from tests.support.tflite_programs import constant, one_operator, tensor


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
    "posenet": (
        facts.DATA_TYPE,
        replace(
            one_operator("CUSTOM", [act(1, 8)], out(1, 8)),
            operators=(Operator("CUSTOM", ("x",), ("y",), custom="PosenetDecoderOp"),),
        ),
    ),
    "abs": (facts.NOT_SUPPORTED, one_operator("ABS", [act(1, 8)], out(1, 8))),
    "sizes": (facts.DATA_TYPE, one_operator("SHAPE", [act(1, 8)], out(2, type="INT32"))),
    "island": (
        facts.DATA_TYPE,
        replace(
            one_operator("MUL", [tensor("x", (1, 8)), tensor("z", (1, 8))], tensor("y", (1, 8))),
            operators=(Operator("MUL", ("x", "z"), ("y",), origin="layer_norm1"),),
        ),
    ),
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
    assert report.compiles, report.refused
    assert all(verdict.mapped for verdict in report.operators)


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


def test_every_rule_keeps_something_off() -> None:
    """A rule that never holds, or that another always comes before, is none."""
    broken = [first_broken(Site(program, program.operators[0])) for _, program in UNMAPPED.values()]
    assert [rule.remedy for rule in RULES if rule not in broken] == []


def resized(before: int, after: int) -> Program:
    x, y = act(1, before, before, 4), out(1, after, after, 4)
    return one_operator("RESIZE_BILINEAR", [x, ints(after, after)], y)


def reduced(channels: int, *axes: int) -> Program:
    return one_operator("MEAN", [act(1, 4, 4, channels), ints(*axes)], out(1, 1, 1, 1))


def dilated(down: int, across: int) -> Program:
    return conv(act(1, 8, 8, 3), weights(4, 3, 3, 3), out(1, 8, 8, 4), dilation_h=down, dilation_w=across)


def cut(strides: tuple[int, ...], **masks: int) -> Program:
    x, y = act(1, 8, 8, 4), out(1, 4, 4, 4)
    return one_operator("STRIDED_SLICE", [x, *SLICE, ints(*strides, name="s")], y, **masks)


def padded(*amounts: tuple[int, int]) -> Program:
    return one_operator("PAD", [act(1, 8, 8, 4), constant("k", np.array(amounts, np.int32))], out(1, 10, 10, 4))


def transposed(x: tuple[int, ...], y: tuple[int, ...]) -> Program:
    return one_operator("TRANSPOSE_CONV", [ints(*y), weights(y[-1], 2, 2, x[-1]), act(*x)], out(*y))


def dense(*inputs: Tensor | None) -> Program:
    return one_operator("FULLY_CONNECTED", [act(1, 8), *inputs], out(1, 4))


NO, YES = False, True
LIMITS = {
    "resize by 16": (resized(1, 16), YES),
    "resize by 17": (resized(1, 17), NO),
    "resize to 128": (resized(64, 128), YES),
    "resize to 129": (resized(64, 129), NO),
    "resize of 128 columns": (one_operator("RESIZE_BILINEAR", [act(1, 64, 128, 4)], out(1, 64, 129, 4)), NO),
    "resize by 17 across": (one_operator("RESIZE_BILINEAR", [act(1, 8, 4, 4)], out(1, 8, 68, 4)), NO),
    "resize of a volume": (one_operator("RESIZE_BILINEAR", [act(1, 8, 4)], out(1, 8, 4)), NO),
    "softmax of 16385": (one_operator("SOFTMAX", [act(1, 16385)], out(1, 16385)), NO),
    "mean of 16384": (one_operator("MEAN", [act(1, 128, 128, 3), ints(1, 2)], out(1, 3)), YES),
    "mean of 16385": (one_operator("MEAN", [act(1, 145, 113, 3), ints(1, 2)], out(1, 3)), NO),
    "mean of 16512": (one_operator("MEAN", [act(1, 129, 128, 3), ints(1, 2)], out(1, 3)), NO),
    "mean of 4 channels": (reduced(4, 3), YES),
    "mean of 6 channels": (reduced(6, -1), NO),
    "mean of rows with 6 channels": (reduced(6, 1), YES),
    "mean of the batch too": (reduced(4, 0, 1), NO),
    "mean of the batch, from behind": (reduced(4, -4), NO),
    "mean of computed axes": (one_operator("MEAN", [act(1, 4, 4, 4), act(1, name="a", type="INT32")], out(1, 4)), NO),
    "mean of a vector": (one_operator("MEAN", [act(4), ints(0)], out(1)), YES),
    "sum of 6 channels": (one_operator("SUM", [act(1, 4, 4, 6), ints(3)], out(1, 4, 4)), NO),
    "dilation of 2 by 2": (dilated(2, 2), YES),
    "dilation of 1 by 2": (dilated(1, 2), NO),
    "kernel of 63x64": (conv(act(1, 64, 64, 1), weights(4, 63, 64, 1), out(1, 1, 1, 4)), YES),
    "steps of 1": (cut((1, 1, 1, 1)), YES),
    "steps back": (cut((1, -1, 1, 1)), NO),
    "a new axis": (cut((1, 1, 1, 1), new_axis_mask=1), NO),
    "an ellipsis": (cut((1, 1, 1, 1), ellipsis_mask=1), NO),
    "a shrunk axis": (cut((1, 1, 1, 1), shrink_axis_mask=2), YES),
    "pad of channels": (padded((0, 0), (0, 0), (0, 0), (0, 2)), YES),
    "pad after the batch": (padded((0, 1), (0, 0), (0, 0), (0, 0)), NO),
    "transpose of the batch": (one_operator("TRANSPOSE", [act(1, 1, 8, 4), ints(1, 2, 3, 0)], out(1, 8, 4, 1)), NO),
    "transpose of three axes": (one_operator("TRANSPOSE", [act(1, 8, 4), ints(1, 0, 2)], out(8, 1, 4)), YES),
    "transposed, just under 3 MiB": (transposed((1, 64, 64, 127), (1, 128, 128, 160)), YES),
    "transposed, 3 MiB": (transposed((1, 64, 64, 128), (1, 128, 128, 160)), NO),
    "dense without a bias": (dense(weights(4, 8)), YES),
    "dense with a bias": (dense(weights(4, 8), constant("b", np.zeros(4, np.int32))), YES),
    "dense with a computed bias": (dense(weights(4, 8), act(4, name="b", type="INT32")), NO),
    "dense without weights": (dense(None), NO),
    "computed slopes": (one_operator("PRELU", [act(1, 8, 8, 4), act(1, 1, 4, name="a")], out(1, 8, 8, 4)), NO),
    "slopes of each channel": (
        one_operator("PRELU", [act(1, 8, 8, 4), constant("a", np.ones((1, 1, 4), np.int8), 0.5)], out(1, 8, 8, 4)),
        YES,
    ),
    "slopes of each row": (
        one_operator("PRELU", [act(1, 8, 8, 4), constant("a", np.ones((8, 1, 4), np.int8), 0.5)], out(1, 8, 8, 4)),
        NO,
    ),
    "vectors joined end to end": (
        one_operator("CONCATENATION", [act(4), act(4, name="z")], out(8), axis=0),
        YES,
    ),
    "three sizes above 1": (one_operator("RELU", [act(1, 1, 8, 8, 4)], out(1, 1, 8, 8, 4)), YES),
    "four sizes above 1": (one_operator("RELU", [act(1, 2, 8, 8, 4)], out(1, 2, 8, 8, 4)), NO),
    "four sizes above 1 come out": (one_operator("RESHAPE", [act(1, 8, 8, 4), ints(2)], out(2, 4, 8, 4)), NO),
    "zeros among three": (
        one_operator("CONCATENATION", [act(1, 8, 8, 4), ZEROS, act(1, 8, 8, 4, name="u")], out(1, 8, 8, 12), axis=3),
        NO,
    ),
    "zeros at a zero point": (
        one_operator(
            "CONCATENATION",
            [act(1, 8, 8, 4), constant("z", np.full((1, 8, 8, 4), 3, np.int8), 0.5, 3)],
            out(1, 8, 8, 8),
            axis=3,
        ),
        YES,
    ),
    "joined along the batch, from behind": (
        one_operator("CONCATENATION", [act(1, 4), act(1, 4, name="z")], out(2, 4), axis=-2),
        NO,
    ),
    "pack along the batch": (one_operator("PACK", [act(4), act(4, name="z")], out(2, 4), axis=0), NO),
    "pack along rows": (one_operator("PACK", [act(1, 4), act(1, 4, name="z")], out(1, 2, 4), axis=1), YES),
    "split along the batch, from behind": (
        one_operator("SPLIT", [ints(-2), act(2, 4)], [out(1, 4), act(1, 4, name="v")]),
        NO,
    ),
    "split of a batch into one": (one_operator("SPLIT", [ints(0), act(1, 8, 8, 4)], out(1, 8, 8, 4)), YES),
    "max pool with an activation": (
        one_operator("MAX_POOL_2D", [act(1, 8, 8, 4)], out(1, 4, 4, 4), activation="RELU6"),
        NO,
    ),
    "joint with an activation": (
        one_operator("CONCATENATION", [act(1, 8, 8, 4), OTHER], out(1, 8, 8, 8), axis=3, activation="RELU"),
        NO,
    ),
}
"""The last that is mapped and the first that is not."""


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_where_it_is_said_to_be(name: str) -> None:
    program, mapped = LIMITS[name]
    assert (first_broken(Site(program, program.operators[0])) is None) is mapped


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
