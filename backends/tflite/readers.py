"""What reads a tensor, as a function of one of its values: where that is flat, an error of the value does no harm."""

from __future__ import annotations

from typing import Any, Final

from numpy.typing import NDArray

from cnnc.backends.tflite.simulate_call import Call
from cnnc.backends.tflite.simulate_float import FUNCTIONS
from cnnc.tflite.program import Program, Tensor

Array = NDArray[Any]
_POINTWISE: Final = frozenset(
    ("ADD", "ELU", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "MUL", "RELU", "RELU6", "RELU_N1_TO_1", "SUB", "TANH")
)
"""Operators that make of each value another one."""


def read_as(program: Program, name: str, points: Array) -> Array | None:
    """What a float program makes of the values of a tensor, at points of the line.

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
        tensors = tuple(program[each] for each in operator.inputs)
        given = tuple(values.get(tensor.name, _number(tensor)) for tensor in tensors)
        if operator.kind not in _POINTWISE or any(value is None for value in given):
            return None
        (result,) = operator.outputs
        found: Array = FUNCTIONS[operator.kind](Call(operator, tensors, given, (program[result],)))
        if not readers:
            return found
        if result in program.outputs:
            return None
        values[result] = found
        readers.update(program.consumers[result])
    return None


def _number(tensor: Tensor) -> Array | None:
    return tensor.data.reshape(()) if tensor.data is not None and tensor.data.size == 1 else None
