"""The constants of a TFLite program as real numbers, and what to call the layers that own them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.tflite_file.program import ABSENT, DTYPES, Operator, Program, Tensor
from cnnc.weights.importing.layers.file_errors import fault

_COPIES = ("DEQUANTIZE", "RESHAPE", "CAST", "DENSIFY")
"""Operators whose values are those of their first input: half-precision weights stand behind DEQUANTIZE, and sparse
ones, which are read as dense, behind DENSIFY."""


def stored(program: Program, name: str) -> Tensor | None:
    """The constant that a tensor is, or is a copy of; None when it is computed from inputs."""
    while program[name].data is None:
        operator = producer(program, name)
        if operator is None or operator.kind not in _COPIES or operator.inputs[:1] in ((), (ABSENT,)):
            return None
        name = operator.inputs[0]
    return program[name]


def producer(program: Program, name: str) -> Operator | None:
    """The operator that writes a tensor."""
    return program.operators[program.producers[name]] if name in program.producers else None


def numbers(path: Path, program: Program, name: str, step: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
    """The real numbers of a constant, in the shape that its reader sees.

    Args:
        path: the file, for messages.
        program: what holds it.
        name: the tensor.
        step: what integers are multiples of where their tensor does not say it.
    """
    found = stored(program, name)
    assert found is not None, name
    if found.type not in DTYPES:
        raise fault(path, f"the tensor `{found.name}` is of {found.type.lower()}, which is not read")
    values = dequantized(found, step)
    if values.size != program[name].size:
        raise fault(path, f"the tensor `{name}` has {program[name].size} values, and `{found.name}` {values.size}")
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(values.reshape(program[name].shape), np.float32)


def dequantized(tensor: Tensor, step: NDArray[np.float64] | None = None) -> NDArray[Any]:
    """The scale times the stored less the zero point, per slice of the quantised axis where there are several."""
    assert tensor.data is not None, tensor.name
    with np.errstate(all="ignore"):  # damaged values are told of with their tensor's name
        values = tensor.data.astype(np.float64)
    if tensor.data.dtype.kind == "f":
        return values
    found = tensor.quantization
    if found is None:
        return values if step is None else np.asarray(values * step)
    along = [1] * values.ndim
    if found.per_channel:
        along[found.axis] = len(found.scale)
    scale, zero = np.array(found.scale).reshape(along), np.array(found.zero_point).reshape(along)
    return np.asarray((values - zero) * scale)


def scales(tensor: Tensor) -> NDArray[np.float64]:
    """A tensor's scales, 1 for one that is not quantised."""
    return np.array(tensor.quantization.scale if tensor.quantization is not None else (1.0,))


def is_weight(tensor: Tensor) -> bool:
    """Whether a constant holds numbers and not indices, axes or sizes."""
    return tensor.type not in ("INT64", "BOOL", "INT32", "STRING") or tensor.quantization is not None


def layer_name(operator: Operator) -> str:
    """The name of a layer, from the name of the tensor that it computes.

    TensorFlow's converter joins the names of all that it fused, `a/relu/Relu;a/batch_norm/...;other/Conv2D;a/Conv2D`,
    among them those of other layers that shared a constant: the scope that the first has in common with another one.
    """
    (*names,) = dict.fromkeys(name.removeprefix("StatefulPartitionedCall/") for name in operator.outputs[0].split(";"))
    first = names[0].split("/")
    shared = max((_shared(first, name.split("/")) for name in names[1:]), default=0)
    if shared == 0 and len(first) > 1:
        shared = len(first) - 1 if first[-1].rstrip("0123456789_") in _OPERATORS else len(first)
    return "/".join(first[:shared] if shared else first)


_OPERATORS = ("Conv2D", "Conv3D", "Relu", "Relu6", "BiasAdd", "depthwise", "MatMul", "FusedBatchNormV3", "add", "mul")


def _shared(first: list[str], second: list[str]) -> int:
    count = 0
    for mine, other in zip(first[:-1], second[:-1], strict=False):
        if mine != other:
            break
        count += 1
    return count


def inputs(operator: Operator) -> list[str]:
    """The tensors that an operator reads, but absent ones."""
    return [name for name in operator.inputs if name != ABSENT]
