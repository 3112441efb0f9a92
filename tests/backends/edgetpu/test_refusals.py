"""Models that the Edge TPU's compiler refuses whole, in its own words where they are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnnc.backends.edgetpu.prediction import check, to_json
from cnnc.backends.edgetpu.render import render
from cnnc.tflite_file.program import File, Operator, Program, Quantization, Tensor
from tests.support.tflite_programs import constant, one_operator, tensor

X = tensor("x", (1, 8), "INT8", 0.5)
Y = tensor("y", (1, 8), "INT8", 0.5)
RELU = one_operator("RELU", [X], Y)


def version(kind: str, number: int) -> Program:
    return replace(RELU, operators=(Operator(kind, ("x",), ("y",), version=number),))


def with_tensor(program: Program, changed: Tensor) -> Program:
    return replace(program, tensors={**program.tensors, changed.name: changed})


FLOAT = one_operator(
    "FULLY_CONNECTED", [tensor("x", (1, 8)), constant("w", np.ones((4, 8), np.float32))], tensor("y", (1, 4))
)
COMPUTED_SHAPE = one_operator("RESHAPE", [X, tensor("s", (2,), "INT32")], Y)
GROUPED = one_operator(
    "CONV_2D",
    [tensor("x", (1, 4, 4, 8), "INT8", 0.5), constant("w", np.ones((8, 3, 3, 4), np.int8), 0.1)],
    tensor("y", (1, 4, 4, 8), "INT8", 0.5),
)

REFUSED = {
    "conv 6": (version("CONV_2D", 6), "Didn't find op for builtin opcode 'CONV_2D' version '6'"),
    "quantize 3": (version("QUANTIZE", 3), "Didn't find op for builtin opcode 'QUANTIZE' version '3'"),
    "transposed 4": (version("TRANSPOSE_CONV", 4), "Didn't find op for builtin opcode 'TRANSPOSE_CONV' version '4'"),
    "exp 2": (version("EXP", 2), "Didn't find op for builtin opcode 'EXP' version '2'"),
    "version 0": (version("RELU", 0), "Didn't find op for builtin opcode 'RELU' version '0'"),
    "gelu": (version("GELU", 1), "Op builtin_code out of range: GELU"),
    "unknown code": (version("BUILTIN_999", 1), "Op builtin_code out of range: BUILTIN_999"),
    "custom": (
        replace(RELU, operators=(Operator("CUSTOM", ("x",), ("y",), custom="FlexErf"),)),
        "Encountered unresolved custom op: FlexErf",
    ),
    "compiled": (
        replace(RELU, operators=(Operator("CUSTOM", ("x",), ("y",), custom="edgetpu-custom-op"),)),
        "the model is compiled for the Edge TPU already",
    ),
    "open size": (with_tensor(RELU, replace(X, signature=(1, -1))), "dynamic-sized tensor `x`"),
    "computed shape": (COMPUTED_SHAPE, "dynamic-sized tensor: RESHAPE"),
    "float": (FLOAT, "Model not quantized: FULLY_CONNECTED works on float32"),
    "nothing of 8 bits": (one_operator("RELU", [tensor("x", (1, 8))], tensor("y", (1, 8))), "Model not quantized"),
    "no scale": (with_tensor(RELU, tensor("x", (1, 8), "INT8")), "Model not quantized: tensor `x` has no scale"),
    "scale 0": (with_tensor(RELU, replace(X, quantization=Quantization((0.0,), (0,)))), "tensor `x` has a scale of 0"),
    "scale inf": (
        with_tensor(RELU, replace(X, quantization=Quantization((float("inf"),), (0,)))),
        "tensor `x` has a scale of inf",
    ),
    "int4": (with_tensor(RELU, Tensor("x", (1, 8), "INT4", X.quantization)), "tensor `x` is of type INT4"),
    "groups": (GROUPED, "CONV_2D of 8 channels with weights for 4"),
    "nothing": (replace(RELU, operators=()), "the model has no operators"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_is_refused(name: str) -> None:
    program, message = REFUSED[name]
    report = check(File((program,)))
    assert not report.compiles
    assert any(refusal.message.startswith(message) for refusal in report.refused), report.refused
    assert all(refusal.remedy and refusal.source for refusal in report.refused)
    assert message in render(report)
    assert to_json(report)["compiles"] is False


OPEN_BATCH = Program(
    "main",
    {
        "x": replace(tensor("x", (1, 4, 4, 8), "INT8", 0.5), signature=(-1, 4, 4, 8)),
        "shape": tensor("shape", (4,), "INT32"),
        "first": constant("first", np.array([0], np.int32)),
        "last": constant("last", np.array([1], np.int32)),
        "step": constant("step", np.array([1], np.int32)),
        "batch": tensor("batch", (), "INT32"),
        "size": constant("size", np.array(8, np.int32)),
        "sizes": tensor("sizes", (4,), "INT32"),
        "w": constant("w", np.ones((8, 2, 2, 8), np.int8), 0.1),
        "y": tensor("y", (1, 8, 8, 8), "INT8", 0.5),
    },
    (
        Operator("SHAPE", ("x",), ("shape",)),
        Operator("STRIDED_SLICE", ("shape", "first", "last", "step"), ("batch",), {"shrink_axis_mask": 1}),
        Operator("PACK", ("batch", "size", "size", "size"), ("sizes",)),
        Operator("TRANSPOSE_CONV", ("sizes", "w", "x"), ("y",), version=2),
    ),
    ("x",),
    ("y",),
)
"""As TensorFlow's converter writes a Conv2DTranspose of any batch."""


@pytest.mark.fault("E5")
def test_an_open_batch_that_sizes_are_worked_out_of_is_the_one_fault() -> None:
    """Its sizes are no activations: nothing is to be quantised, and no other operator is at fault."""
    report = check(File((OPEN_BATCH,)))
    (refusal,) = report.refused
    assert refusal.message == "dynamic-sized tensor: TRANSPOSE_CONV works its output's size out while it runs"
    text = render(report)
    assert "quanti" not in text
    assert text.count("convert the model for a batch of 1") == 1
    assert "Coral's table" not in text


SIZES = {
    "RESHAPE": "vs",
    "RESIZE_BILINEAR": "vs",
    "RESIZE_NEAREST_NEIGHBOR": "vs",
    "PAD": "vs",
    "PADV2": "vsv",
    "MIRROR_PAD": "vs",
    "TILE": "vs",
    "FILL": "sv",
    "BROADCAST_TO": "vs",
    "SLICE": "vss",
    "STRIDED_SLICE": "vsss",
    "EXPAND_DIMS": "vs",
    "TRANSPOSE": "vs",
    "TRANSPOSE_CONV": "svvv",
    "MEAN": "vs",
    "SUM": "vs",
    "REDUCE_MAX": "vs",
    "REDUCE_MIN": "vs",
    "SPLIT": "sv",
    "SPACE_TO_BATCH_ND": "vss",
    "BATCH_TO_SPACE_ND": "vss",
    "RELU": "v",
    "ADD": "vv",
    "GATHER": "vv",
}
"""Operands of TFLite's operators in order: values, and what gives the size of the result."""


@pytest.mark.parametrize("kind", SIZES)
def test_a_size_that_is_computed_is_refused_and_a_value_is_not(kind: str) -> None:
    for place, role in enumerate(SIZES[kind]):
        names = [f"k{i}" for i in range(len(SIZES[kind]))]
        tensors = {name: constant(name, np.zeros(4, np.int8), 0.5) for name in names} | {"y": Y}
        tensors[names[place]] = tensor(names[place], (4,), "INT8", 0.5)
        program = Program("main", tensors, (Operator(kind, tuple(names), ("y",)),), (names[place],), ("y",))
        refused = any("dynamic-sized" in each.message for each in check(File((program,))).refused)
        assert refused is (role == "s"), (kind, place)


def test_many_dynamic_operators_are_one_refusal() -> None:
    sizes, t = tensor("s", (2,), "INT32"), tensor("t", (1, 8), "INT8", 0.5)
    operators = (Operator("RESHAPE", ("x", "s"), ("t",)), Operator("RESHAPE", ("t", "s"), ("y",)))
    program = Program("main", {"x": X, "s": sizes, "t": t, "y": Y}, operators, ("x", "s"), ("y",))
    (refusal,) = check(File((program,))).refused
    assert refusal.message.endswith("while it runs (and 1 more like this)")


def test_several_subgraphs_are_refused() -> None:
    report = check(File((RELU, RELU)))
    assert "2 subgraphs" in report.refused[0].message


def test_an_open_batch_is_taken_as_one() -> None:
    """The pairs `dense_*` have one, and edgetpu_compiler 16.0 compiled them."""
    report = check(File((with_tensor(RELU, replace(X, signature=(-1, 8))),)))
    assert report.compiles
    assert any("open batch" in warning.message for warning in report.warnings)


def test_a_version_of_tensorflow_2_6_is_likely_to_be_known() -> None:
    z = tensor("z", (1, 8), "INT8", 0.5)
    program = one_operator("MUL", [X, z], Y)
    report = check(File((replace(program, operators=(replace(program.operators[0], version=5),)),)))
    assert report.compiles
    assert report.mapped == {"known": 0, "likely": 1, "unknown": 0}
    assert "MUL version 5" in str(report.operators[0].doubt)
