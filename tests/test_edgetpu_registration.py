"""Models that the Edge TPU's compiler refuses whole, in its own words where they are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnnc.backends.edgetpu.check import check, to_json
from cnnc.backends.edgetpu.render import render
from cnnc.tflite.program import File, Operator, Program, Quantization, Tensor
from tests.tflite_programs import constant, one_operator, tensor

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
    assert not report.is_whole
    assert any(refusal.message.startswith(message) for refusal in report.refused), report.refused
    assert all(refusal.remedy and refusal.source for refusal in report.refused)
    assert message in render(report)
    assert to_json(report)["compiles"] is False


def test_several_subgraphs_are_refused() -> None:
    report = check(File((RELU, RELU)))
    assert "2 subgraphs" in report.refused[0].message


def test_an_open_batch_is_taken_as_one() -> None:
    """The pairs `dense_*` have one, and edgetpu_compiler 16.0 compiled them."""
    report = check(File((with_tensor(RELU, replace(X, signature=(-1, 8))),)))
    assert report.compiles
    assert any("open batch" in warning.message for warning in report.warnings)


def test_a_version_of_tensorflow_2_6_is_a_warning() -> None:
    z = tensor("z", (1, 8), "INT8", 0.5)
    program = one_operator("MUL", [X, z], Y)
    report = check(File((replace(program, operators=(replace(program.operators[0], version=5),)),)))
    assert report.compiles
    assert "MUL version 5" in report.warnings[-1].message
