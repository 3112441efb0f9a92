"""What LiteRT makes of a program, in plain NumPy: the oracle that int8 files are held to.

Quantised operators round as LiteRT's default interpreter does: as XNNPACK where its delegate takes the operator, else
as LiteRT's own kernels. Accumulation is exact, so only rounding could differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnc.backends.tflite import simulate_float, simulate_int8, simulate_move, simulate_table
from cnnc.backends.tflite.simulate_call import Array, Call
from cnnc.diagnostics import CnnError
from cnnc.tflite.program import ABSENT, DTYPES, Operator, Program, Tensor

Function = Callable[[Call], Any]
"""The value of an operator, or a list of those of its outputs."""

QUANTIZED = ("INT8", "UINT8")
_FUNCTIONS: Mapping[bool, Mapping[str, Function]] = {
    False: {**simulate_move.FUNCTIONS, **simulate_float.FUNCTIONS},
    True: {**simulate_move.FUNCTIONS, **simulate_int8.FUNCTIONS, **simulate_table.FUNCTIONS},
}
"""By whether the output is quantised: one function for each operator."""

KEEPS_SCALE = frozenset(
    (
        *("AVERAGE_POOL_2D", "CONCATENATION", "EXPAND_DIMS", "GATHER", "MAX_POOL_2D", "MAXIMUM", "MINIMUM", "PAD"),
        *("PADV2", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SPACE_TO_DEPTH", "SPLIT"),
        *("SQUEEZE", "STRIDED_SLICE", "TILE", "TRANSPOSE"),
    )
)
"""Operators of stored values, of one scale and zero point on both sides: LiteRT refuses others, or changes what they
mean.
"""


def supports(kind: str, *, quantized: bool) -> bool:
    """Whether a builtin operator can be simulated with a float or with a quantised output."""
    return kind in _FUNCTIONS[quantized]


def simulate(program: Program, inputs: Mapping[str, Array], *, keep: bool = False) -> dict[str, Array]:
    """The outputs of a program by the names of their tensors; with `keep` all activations.

    Args:
        program: a program in float32, or quantised to int8 or uint8, or in parts.
        inputs: arrays of the tensors' shapes and types by their names. Where the program's batch is 1, any batch will
            do: the first axis of all activations grows with it.
        keep: whether to return every activation, which holds them all in memory.

    Raises:
        CnnError: `backend`, of an operator that is not known in float32 or in int8; `tflite`, when an operator gives
            another shape than its tensor has, or moves values between different scales.
    """
    values: dict[str, Array] = {name: each.data for name, each in program.tensors.items() if each.data is not None}
    for name in program.inputs:
        values[name] = _given(program[name], inputs[name])
    last = {name: indices[-1] for name, indices in program.consumers.items() if indices}
    for i, operator in enumerate(program):
        for name, value in zip(operator.outputs, _run(program, operator, values), strict=True):
            values[name] = value
        if not keep:
            for name in {*operator.inputs, *operator.outputs}:
                if name != ABSENT and last.get(name, -1) <= i and name not in program.outputs:
                    values.pop(name, None)
    if keep:
        return {each.name: values[each.name] for each in program.activations() if each.name in values}
    return {name: values[name] for name in program.outputs}


def _given(tensor: Tensor, value: Array) -> Array:
    dtype = np.dtype(DTYPES[tensor.type])
    assert dtype.kind == "f" or value.dtype == dtype, (tensor, value.dtype)
    return np.asarray(value, dtype)


def _run(program: Program, operator: Operator, values: Mapping[str, Array]) -> list[Array]:
    outputs = tuple(program[name] for name in operator.outputs)
    quantized = outputs[0].type in QUANTIZED
    function = _FUNCTIONS[quantized].get(operator.kind)
    if function is None:
        kind = outputs[0].type.lower()
        raise CnnError.of("backend", f"the simulation has no operator `{operator.name}` in {kind}")
    if quantized and operator.kind in KEEPS_SCALE:
        _require_one_scale(program, operator)
    tensors = tuple(None if name == ABSENT else program[name] for name in operator.inputs)
    given = tuple(None if name == ABSENT else values[name] for name in operator.inputs)
    result = function(Call(operator, tensors, given, outputs))
    results = result if isinstance(result, list) else [result]
    return [_checked(operator, *each) for each in zip(outputs, results, strict=True)]


def _require_one_scale(program: Program, operator: Operator) -> None:
    names = [name for name in (*operator.inputs, *operator.outputs) if name and program[name].type in QUANTIZED]
    for name in names[1:]:
        found, first = program[name].quantization, program[names[0]].quantization
        if found is None or first is None or (found.scale, found.zero_point) != (first.scale, first.zero_point):
            raise CnnError.of("tflite", f"`{names[0]}` and `{name}` of {operator.name} have different scales")


def _checked(operator: Operator, tensor: Tensor, value: Array) -> Array:
    if tensor.shape_known and value.shape[1:] != tensor.shape[1:]:
        found, said = (list(shape) for shape in (value.shape, tensor.shape))
        raise CnnError.of(
            "tflite", f"operator `{operator.name}` gives {found}, and its output `{tensor.name}` is said to be {said}"
        )
    return np.asarray(value, DTYPES[tensor.type])
