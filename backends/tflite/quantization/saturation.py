"""Readers of a tensor as a function of one of its values: where that is flat, an error of the value does no harm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from cnnc.tflite_file.program import Array, Operator, Program, Tensor

_ACTIVATIONS: Final[Mapping[str, Callable[[Array], Array]]] = {
    "NONE": lambda x: x,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "ELU": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "LOGISTIC": lambda x: (1 + np.tanh(x / 2)) / 2,
    "TANH": np.tanh,
}
_BINARY: Final[Mapping[str, Callable[[Array, Array], Array]]] = {
    "ADD": np.add,
    "MUL": np.multiply,
    "SUB": np.subtract,
}


def read_as(program: Program, name: str, points: Array) -> Array | None:
    """The function that a float program applies to the values of a tensor, at points of the line.

    It is the value of the first tensor that all which is made of the named one passes through: of the `x` of
    `x * sigmoid(x)` that is the product, of the `x` of `sigmoid(x) * y` the sigmoid. None where there is no such
    tensor, as where a convolution reads the named one or a sum keeps it.
    """
    if name in program.outputs:
        return None
    values = {name: points}
    readers = set(program.consumers[name])
    while readers:
        index = min(readers)
        readers.remove(index)
        operator = program.operators[index]
        found = _pointwise(operator, [values.get(each, _number(program[each])) for each in operator.inputs])
        if found is None:
            return None
        (result,) = operator.outputs
        if not readers:
            return found
        if result in program.outputs:
            return None
        values[result] = found
        readers.update(program.consumers[result])
    return None


def _pointwise(operator: Operator, inputs: list[Array | None]) -> Array | None:
    """The result of an operator that makes of each value another one; None for others, and of values not known."""
    known = [value for value in inputs if value is not None]
    if len(known) < len(inputs):
        return None
    if operator.kind == "LEAKY_RELU":
        (x,) = known
        return np.where(x > 0, x, x * operator.options["alpha"])
    if operator.kind in _ACTIVATIONS:
        return _ACTIVATIONS[operator.kind](*known)
    if operator.kind in _BINARY:
        return _ACTIVATIONS[operator.options["activation"]](_BINARY[operator.kind](*known))
    return None


def _number(tensor: Tensor) -> Array | None:
    return tensor.data.reshape(()) if tensor.data is not None and tensor.data.size == 1 else None
