"""Which operators only change what stands for a value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.tflite_file.conversion import is_conversion
from cnnc.tflite_file.program import Tensor
from tests.support.tflite_programs import constant, one_operator, tensor

X = tensor("x", (1, 2), "INT8", 0.5, 3)
Y = tensor("y", (1, 2), "INT8", 0.3, -7)


@pytest.mark.parametrize(
    "factor",
    [
        constant("c", np.array(64, np.int8), 1 / 64),
        constant("c", np.array([3], np.int8), 0.25, -1),
        constant("c", np.array(1, np.float32)),
    ],
    ids=["code 64", "zero point", "float"],
)
def test_a_product_with_one_converts(factor: Tensor) -> None:
    program = one_operator("MUL", [X, factor], Y, activation="NONE")
    assert is_conversion(program, program.operators[0])


@pytest.mark.parametrize(
    ("kind", "factor", "activation"),
    [
        ("MUL", constant("c", np.array(63, np.int8), 1 / 64), "NONE"),
        ("MUL", constant("c", np.array(64, np.int8), 1 / 64), "RELU"),
        ("MUL", constant("c", np.array([64, 64], np.int8), 1 / 64), "NONE"),
        ("MUL", tensor("c", (1, 2), "INT8", 1), "NONE"),
        ("MUL", None, "NONE"),
        ("ADD", constant("c", np.array(64, np.int8), 1 / 64), "NONE"),
    ],
    ids=["nearly one", "activation", "vector", "computed", "absent", "sum"],
)
def test_what_computes_does_not_convert(kind: str, factor: Tensor | None, activation: Any) -> None:
    program = one_operator(kind, [X, factor], Y, activation=activation)
    assert not is_conversion(program, program.operators[0])


@pytest.mark.parametrize("kind", ["QUANTIZE", "DEQUANTIZE"])
def test_a_change_of_type_converts(kind: str) -> None:
    program = one_operator(kind, [X], Y)
    assert is_conversion(program, program.operators[0])
