"""The bytes of any TFLite file, ours or not, to programs. Whatever the bytes are, it ends with a file or a CnnError."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc import files
from cnnc.diagnostics import CnnError
from cnnc.tflite_file import flatbuffer
from cnnc.tflite_file.program import ABSENT, BITS, DTYPES, File, Operator, Program, Quantization, Tensor
from cnnc.tflite_file.schema import ENUMS, OPERATORS, OPTIONS_OF, TENSOR_TYPES, UNIONS
from cnnc.tflite_file.sparsity import densify
from cnnc.tflite_file.verify import faults
from cnnc.tflite_file.write import IDENTIFIER
from cnnc.wording import reason_of

_MOST_BYTES = 2 << 30
"""Of a file: places in a flatbuffer are numbers of 32 bits, the upper half of which it does not use."""
_LARGEST = 2**40
"""Values of a tensor; one with more is damage, and arithmetic on its size would mislead."""


def open_file(path: Path) -> File:
    """The TFLite file at a path. Raises CnnError("tflite") when it cannot be read or is none."""
    return read_file(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """The bytes at a path. Raises CnnError("tflite") when they cannot be read."""
    try:
        return files.read_bytes(path, _MOST_BYTES)
    except FileNotFoundError:
        raise CnnError.of("tflite", f"there is no file `{path}`") from None
    except OSError as error:
        raise CnnError.of("tflite", f"`{path}` cannot be read: {reason_of(error)}") from None


def read_file(data: bytes, what: str = "<bytes>") -> File:
    """The file that the bytes are.

    Raises:
        CnnError: `tflite`, when the bytes are no TFLite file, or one that refers to what it does not hold.
    """
    if not data:
        raise CnnError.of("tflite", f"`{what}` is empty")
    table = flatbuffer.read(data, "Model", IDENTIFIER, what)
    maker = _Maker(table, data, what)
    programs = tuple(maker.program(subgraph, i) for i, subgraph in enumerate(table.get("subgraphs", [])))
    if not programs:
        raise CnnError.of("tflite", f"`{what}` holds no graph")
    metadata = {m.get("name", ""): maker.buffer(int(m["buffer"])).tobytes() for m in table.get("metadata", [])}
    return File(programs, metadata, table.get("description", ""), int(table["version"]))


class _Maker:
    def __init__(self, table: flatbuffer.Table, data: bytes, what: str) -> None:
        self.codes: Sequence[flatbuffer.Table] = table.get("codes", [])
        self.buffers: Sequence[flatbuffer.Table] = table.get("buffers", [])
        self.signatures: Sequence[flatbuffer.Table] = table.get("signatures", [])
        self.data = data
        self.what = what

    def fail(self, reason: str) -> CnnError:
        return CnnError.of(
            "tflite", f"`{self.what}` is damaged: {reason}", help="the file is cut short or was changed; make it again"
        )

    def buffer(self, index: int) -> NDArray[np.uint8]:
        if not 0 <= index < len(self.buffers):
            raise self.fail(f"it refers to buffer {index} of {len(self.buffers)}")
        entry = self.buffers[index]
        offset, size = int(entry.get("offset", 0)), int(entry.get("size", 0))
        if offset > 1:  # large files keep buffers behind the tables
            if offset + size > len(self.data):
                raise self.fail(f"buffer {index} ends at byte {offset + size}, and the file has {len(self.data)}")
            return np.frombuffer(self.data, np.uint8, size, offset)
        found: NDArray[np.uint8] = entry.get("data", np.zeros(0, np.uint8))
        return found

    def program(self, subgraph: flatbuffer.Table, index: int) -> Program:
        names: list[str] = []
        tensors: dict[str, Tensor] = {}
        for i, entry in enumerate(subgraph.get("tensors", [])):
            name = entry.get("name") or f"tensor_{i}"
            while name in tensors:
                name = f"{name}#{i}"
            tensors[name] = self.tensor(entry, name)
            names.append(name)

        def named(indices: Any, role: str) -> tuple[str, ...]:
            return tuple(self.name(int(i), names, role) for i in indices)

        operators = tuple(self.operator(entry, i, named) for i, entry in enumerate(subgraph.get("operators", [])))
        inputs, outputs = named(subgraph.get("inputs", ()), "an input"), named(subgraph.get("outputs", ()), "an output")
        if ABSENT in (*inputs, *outputs):
            raise self.fail("an input or output of the graph is absent")
        program = Program(subgraph.get("name", ""), tensors, operators, inputs, outputs)
        for reason in faults(program):
            raise self.fail(reason)
        return self.with_signature(program, index, names)

    def name(self, index: int, names: list[str], role: str) -> str:
        if index == -1:
            return ABSENT
        if not 0 <= index < len(names):
            raise self.fail(f"{role} is tensor {index} of {len(names)}")
        return names[index]

    def tensor(self, entry: flatbuffer.Table, name: str) -> Tensor:
        number = int(entry["type"])
        if not 0 <= number < len(TENSOR_TYPES):
            raise self.fail(f"tensor `{name}` is of an unknown type, number {number}")
        kind = TENSOR_TYPES[number]
        shape = tuple(int(size) for size in entry.get("shape", ()))
        values = 1
        for size in shape:
            values *= max(size, 1)
            if size < 0 or values > _LARGEST:
                raise self.fail(f"tensor `{name}` has a size of {size}")
        signature = entry.get("signature")
        return Tensor(
            name,
            shape,
            kind,
            self.quantization(entry.get("quantization", {}), name, shape),
            self.constant(entry, shape, kind, name),
            None if signature is None or not len(signature) else tuple(int(size) for size in signature),
            bool(entry["is_variable"]),
            "shape" in entry,
        )

    def constant(self, entry: flatbuffer.Table, shape: tuple[int, ...], kind: str, name: str) -> NDArray[Any] | None:
        raw = self.buffer(int(entry["buffer"]))
        if not len(raw):
            return None
        bits = BITS.get(kind)
        if bits is None:
            return raw
        count = int(np.prod(shape, dtype=np.int64))
        sparsity = entry.get("sparsity")
        if sparsity is not None and kind in DTYPES:
            try:
                return densify(raw.view(DTYPES[kind]), shape, sparsity)
            except ValueError as error:
                raise self.fail(f"the sparse tensor `{name}` {error}") from error
        wanted = (count * bits + 7) // 8
        if wanted != len(raw):
            raise self.fail(f"tensor `{name}` wants {wanted} bytes, and has {len(raw)}")
        return raw.view(DTYPES[kind]).reshape(shape) if kind in DTYPES else raw

    def quantization(self, entry: flatbuffer.Table, name: str, shape: tuple[int, ...]) -> Quantization | None:
        scale = entry.get("scale", np.zeros(0, np.float32))
        zero = entry.get("zero_point", np.zeros(0, np.int64))
        if not len(scale):
            return None
        if not len(zero):
            zero = np.zeros(len(scale), np.int64)
        axis = int(entry.get("axis", 0)) if len(shape) > 1 else 0  # some converters give biases that of their kernel
        if len(scale) > 1 and (not 0 <= axis < len(shape) or shape[axis] != len(scale)):
            raise self.fail(f"tensor `{name}` has {len(scale)} scales along axis {axis} of shape {list(shape)}")
        if len(zero) not in (1, len(scale)):
            raise self.fail(f"tensor `{name}` has {len(scale)} scales and {len(zero)} zero points")
        zeros = zero if len(zero) == len(scale) else np.repeat(zero, len(scale))
        return Quantization(tuple(map(float, scale)), tuple(map(int, zeros)), axis)

    def operator(self, entry: flatbuffer.Table, index: int, named: Any) -> Operator:
        number = int(entry["code_index"])
        if not 0 <= number < len(self.codes):
            raise self.fail(f"operator {index} is of code {number} of {len(self.codes)}")
        code = self.codes[number]
        builtin = max(int(code["deprecated_code"]), int(code["code"]))
        if builtin < 0:
            raise self.fail(f"operator {index} has the code {builtin}")
        kind = OPERATORS[builtin] if builtin < len(OPERATORS) else f"BUILTIN_{builtin}"
        custom = (code.get("custom_code") or "unnamed custom operator") if kind == "CUSTOM" else ""
        outputs = named(entry.get("outputs", ()), f"an output of operator {index}, {kind},")
        table = OPTIONS_OF.get(kind)
        given = UNIONS["Options"].get(int(entry["options_type"]), table)
        if table is not None and given != table:
            raise self.fail(f"operator {index}, {kind}, has {given}, and takes {table}")
        options = {key: self.word(key, value, index) for key, value in entry.get("options", {}).items()}
        inputs = named(entry.get("inputs", ()), f"an input of operator {index}, {kind},")
        return Operator(kind, inputs, outputs, options, int(code["version"]), custom=custom)

    def word(self, key: str, value: Any, index: int) -> Any:
        if key not in ENUMS:
            return value
        if not 0 <= int(value) < len(ENUMS[key]):
            raise self.fail(f"operator {index} has an unknown {key}, number {value}")
        return ENUMS[key][int(value)]

    def with_signature(self, program: Program, index: int, names: list[str]) -> Program:
        for entry in self.signatures:
            if int(entry["subgraph"]) != index:
                continue
            known = {
                self.name(int(each["tensor"]), names, "a signature's tensor"): each.get("name", "")
                for each in (*entry.get("inputs", ()), *entry.get("outputs", ()))
            }
            if all(name in known for name in (*program.inputs, *program.outputs)):
                inputs = tuple(known[name] for name in program.inputs)
                outputs = tuple(known[name] for name in program.outputs)
                if "" in (*inputs, *outputs) or len({*inputs}) < len(inputs) or len({*outputs}) < len(outputs):
                    continue  # names that tell nothing apart
                return Program(
                    program.name, program.tensors, program.operators, program.inputs, program.outputs, inputs, outputs
                )
        return program
