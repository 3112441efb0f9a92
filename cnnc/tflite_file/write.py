"""Programs to the bytes of a TFLite file: the same bytes for the same programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.tflite_file import flatbuffer
from cnnc.tflite_file.program import ABSENT, File, Program, Quantization, Tensor
from cnnc.tflite_file.schema import ENUMS, OPERATORS, OPTIONS_OF, TENSOR_TYPES, UNIONS

IDENTIFIER = "TFL3"
_COMPARED = 1 << 10
"""Constants whose first bytes, so many, are the same are compared as a whole."""
_OLD_CODES = 127
"""Codes above this one do not fit the first field for them, which old readers look at."""
_NUMBERS = {name: number for number, name in UNIONS["Options"].items()}


def write_file(file: File) -> bytes:
    """The file's bytes. Constants that are equal are stored once; buffer 0 is empty, as readers expect."""
    buffers = _Buffers()
    codes: dict[tuple[str, str, int], int] = {}
    subgraphs = [_subgraph(program, buffers, codes) for program in file.programs]
    metadata = [
        {"name": name, "buffer": buffers.add(np.frombuffer(data, np.uint8))}
        for name, data in sorted(file.metadata.items())
    ]
    signatures = [_signature(program, i) for i, program in enumerate(file.programs) if program.input_names]
    table = {
        "version": file.version,
        "codes": [_code(kind, custom, version) for kind, custom, version in codes],
        "subgraphs": subgraphs,
        "description": file.description,
        "buffers": [{"data": data} if len(data) else {} for data in buffers.held],
        "metadata": metadata or None,
        "signatures": signatures or None,
    }
    return flatbuffer.write("Model", table, IDENTIFIER)


class _Buffers:
    def __init__(self) -> None:
        self.held: list[NDArray[np.uint8]] = [np.zeros(0, np.uint8)]
        self.known: dict[tuple[int, bytes], list[int]] = {}

    def add(self, data: NDArray[np.uint8]) -> int:
        alike = self.known.setdefault((data.nbytes, data[:_COMPARED].tobytes()), [])
        for index in alike:
            if np.array_equal(self.held[index], data):
                return index
        self.held.append(data)
        alike.append(len(self.held) - 1)
        return alike[-1]


def _subgraph(program: Program, buffers: _Buffers, codes: dict[tuple[str, str, int], int]) -> dict[str, Any]:
    index = {name: i for i, name in enumerate(program.tensors)}
    index[ABSENT] = -1
    operators = []
    for operator in program:
        code = codes.setdefault((operator.kind, operator.custom, operator.version), len(codes))
        entry: dict[str, Any] = {
            "code_index": code,
            "inputs": [index[name] for name in operator.inputs],
            "outputs": [index[name] for name in operator.outputs],
        }
        table = OPTIONS_OF.get(operator.kind)
        if table is not None:
            entry |= {"options_type": _NUMBERS[table], "options": _encoded(operator.options)}
        else:
            assert not operator.options, operator
        operators.append(entry)
    return {
        "tensors": [_tensor(tensor, buffers) for tensor in program.tensors.values()],
        "inputs": [index[name] for name in program.inputs],
        "outputs": [index[name] for name in program.outputs],
        "operators": operators,
        "name": program.name,
    }


def _tensor(tensor: Tensor, buffers: _Buffers) -> dict[str, Any]:
    buffer = 0
    if tensor.data is not None:
        assert tensor.data.shape == tensor.shape, tensor
        buffer = buffers.add(np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint8))
    return {
        "shape": tensor.shape,
        "type": TENSOR_TYPES.index(tensor.type),
        "buffer": buffer,
        "name": tensor.name,
        "quantization": None if tensor.quantization is None else _quantization(tensor.quantization),
    }


def _quantization(found: Quantization) -> dict[str, Any]:
    return {"scale": found.scale, "zero_point": found.zero_point, "axis": found.axis}


def _encoded(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: ENUMS[name].index(value) if name in ENUMS else value for name, value in options.items()}


def _code(kind: str, custom: str, version: int) -> dict[str, Any]:
    code = OPERATORS.index(kind)
    return {
        "deprecated_code": min(code, _OLD_CODES),
        "code": code,
        "version": version,
        "custom_code": custom or None,
    }


def _signature(program: Program, subgraph: int) -> dict[str, Any]:
    index = {name: i for i, name in enumerate(program.tensors)}

    def entries(names: tuple[str, ...], tensors: tuple[str, ...]) -> list[dict[str, Any]]:
        return [{"name": name, "tensor": index[tensor]} for name, tensor in zip(names, tensors, strict=True)]

    return {
        "inputs": entries(program.input_names, program.inputs),
        "outputs": entries(program.output_names, program.outputs),
        "key": "serving_default",
        "subgraph": subgraph,
    }
