"""Operators that keep the real values and change what stands for them."""

from __future__ import annotations

from typing import Final

from cnnc.tflite_file.program import ABSENT, Operator, Program, Tensor

CONVERSIONS: Final = ("QUANTIZE", "DEQUANTIZE")


def is_conversion(program: Program, operator: Operator) -> bool:
    """Whether an operator only gives its input another type or scale: a product with the constant 1 does so as well."""
    if operator.kind in CONVERSIONS:
        return True
    if operator.kind != "MUL" or operator.options.get("activation", "NONE") != "NONE":
        return False
    return len(operator.inputs) == 2 and operator.inputs[1] != ABSENT and _is_one(program[operator.inputs[1]])


def _is_one(tensor: Tensor) -> bool:
    if tensor.data is None or tensor.data.size != 1:
        return False
    code, found = tensor.data.item(), tensor.quantization
    if found is None:
        return bool(code == 1)
    return len(found.scale) == 1 and bool((code - found.zero_point[0]) * found.scale[0] == 1)
