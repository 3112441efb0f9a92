"""The lowest version of each operator that has what the program asks of it, so that old readers know it.

Source: the version tables of tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc, and what Google's
edgetpu_compiler 16 was seen to map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from cnnc.tflite_file.program import Operator, Program

_INT8: Final[Mapping[str, int]] = {
    "ADD": 2,
    "AVERAGE_POOL_2D": 2,
    "CONCATENATION": 2,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "DEQUANTIZE": 2,
    "FULLY_CONNECTED": 4,
    "GATHER": 2,
    "LEAKY_RELU": 2,
    "LOGISTIC": 2,
    "MAXIMUM": 2,
    "MAX_POOL_2D": 2,
    "MEAN": 2,
    "MINIMUM": 2,
    "MUL": 2,
    "PAD": 2,
    "PADV2": 2,
    "RELU": 2,
    "RELU6": 2,
    "RESIZE_BILINEAR": 2,
    "RESIZE_NEAREST_NEIGHBOR": 2,
    "SLICE": 2,
    "SOFTMAX": 2,
    "SPACE_TO_DEPTH": 2,
    "SPLIT": 2,
    "SUB": 2,
    "TANH": 2,
    "TRANSPOSE": 2,
    "TRANSPOSE_CONV": 2,
}
"""Versions whose news are signed 8-bit tensors; operators that are not here take them from version 1 on."""


def set_versions(program: Program) -> Program:
    """The program with every operator's version."""
    return replace(program, operators=tuple(replace(op, version=version(program, op)) for op in program))


def version(program: Program, operator: Operator) -> int:
    """The lowest version of an operator that reads and does what this one does."""
    first = operator.inputs[1] if operator.kind == "SPLIT" else operator.inputs[0]
    if operator.kind == "TRANSPOSE_CONV":
        first = operator.inputs[2]
    number = _INT8.get(operator.kind, 1) if program[first].type == "INT8" else 1
    if operator.options.get("half_pixel_centers"):
        return max(number, 3)
    if operator.kind == "CONV_2D" and program[operator.inputs[1]].shape[3] < program[operator.inputs[0]].shape[3]:
        return 6  # in groups
    if operator.kind == "DEPTHWISE_CONV_2D" and max(operator.options["dilation_h"], operator.options["dilation_w"]) > 1:
        return max(number, 2)
    return number
