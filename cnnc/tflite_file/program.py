"""A TFLite program: tensors by name, operators in the order they run, inputs and outputs.

Backends make programs and change them; `write` makes bytes of one, and `read` makes one of bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Sample = Mapping[str, Array]
"""An array `(1, ...)` for every input of a program, by the input's name."""

ABSENT = ""
"""The name of an optional input that is not there."""

DTYPES: Mapping[str, Any] = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "INT32": np.int32,
    "UINT8": np.uint8,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "INT16": np.int16,
    "INT8": np.int8,
    "FLOAT64": np.float64,
    "UINT64": np.uint64,
    "UINT32": np.uint32,
    "UINT16": np.uint16,
}
"""NumPy's types of the tensor types that have one."""

BITS: Mapping[str, int] = {
    **{name: 8 * np.dtype(dtype).itemsize for name, dtype in DTYPES.items()},
    **{"COMPLEX64": 64, "COMPLEX128": 128, "BFLOAT16": 16, "INT4": 4, "INT2": 2, "UINT4": 4},
}
"""How many bits a value of a tensor type takes, of those that have a size."""


@dataclass(frozen=True)
class Quantization:
    """real = scale * (quantised - zero_point): one pair for the tensor, or one for every slice along `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0

    @property
    def per_channel(self) -> bool:
        return len(self.scale) > 1


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of static `shape`, the batch included. `data` makes it a constant, of `shape` and of `type`.

    `signature` is what a file says of sizes that change, with -1 for each; None where it says nothing.
    """

    name: str
    shape: tuple[int, ...]
    type: str = "FLOAT32"
    quantization: Quantization | None = None
    data: Array | None = field(default=None, repr=False)
    signature: tuple[int, ...] | None = None
    is_variable: bool = False
    shape_known: bool = True
    """False for a file's tensor without a shape, which is a scalar or unknown."""

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def dtype(self) -> Any:
        """NumPy's type of the values."""
        return DTYPES[self.type]

    @property
    def nbytes(self) -> int:
        """Bytes of the values; of types without a size, one a value."""
        return (self.size * BITS.get(self.type, 8) + 7) // 8


@dataclass(frozen=True)
class Operator:
    """An operator: a builtin's name, or `CUSTOM` with its own name in `custom`.

    `options` hold the fields of its table in `schema`, enumerations by their names (`padding="SAME"`). `origin` is the
    graph's node that it computes, or a part of it.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    origin: str = ""
    custom: str = ""

    @property
    def name(self) -> str:
        """The name that tools use: a custom operator's own, else the builtin's."""
        return self.custom or self.kind


@dataclass(frozen=True, eq=False)
class Program:
    """Operators in the order they run; `tensors` in the order of their indices, `inputs` and `outputs` by name.

    `input_names` and `output_names` are what the spec calls them, and what a signature in the file says.
    """

    name: str
    tensors: Mapping[str, Tensor]
    operators: tuple[Operator, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Operator]:
        return iter(self.operators)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    @cached_property
    def producers(self) -> Mapping[str, int]:
        """The index of the operator that writes each tensor which one writes."""
        return {name: i for i, operator in enumerate(self.operators) for name in operator.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[int, ...]]:
        """The indices of the operators that read each tensor, once each."""
        readers: dict[str, list[int]] = {name: [] for name in self.tensors}
        for i, operator in enumerate(self.operators):
            for name in dict.fromkeys(operator.inputs):
                if name != ABSENT:
                    readers[name].append(i)
        return {name: tuple(indices) for name, indices in readers.items()}

    def activations(self) -> Iterator[Tensor]:
        """Tensors that are no constants: inputs and what operators write."""
        return (tensor for tensor in self.tensors.values() if tensor.data is None)


def name_ends(program: Program) -> Program:
    """The program with the tensors of its inputs and outputs called as the spec calls them, as readers of a file see.

    A tensor within that had such a name gets another: `input:int8` is what an `input` of uint8 becomes first. An output
    that has an input's name keeps its own.
    """
    names: dict[str, str] = {}
    labels = (*program.input_names, *program.output_names)
    for tensor, label in zip((*program.inputs, *program.outputs), labels, strict=True):
        names[tensor] = tensor if label in names.values() else label
    ends = set(names.values())
    for name in [name for name in program.tensors if name in ends and name not in names]:
        names[name] = _free(f"{name}:{program[name].type.lower()}", {*program.tensors, *names.values()})

    def called(tensors: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.get(name, name) for name in tensors)

    tensors = {
        names.get(name, name): replace(each, name=names.get(name, name)) for name, each in program.tensors.items()
    }
    operators = tuple(replace(op, inputs=called(op.inputs), outputs=called(op.outputs)) for op in program)
    return replace(
        program, tensors=tensors, operators=operators, inputs=called(program.inputs), outputs=called(program.outputs)
    )


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "'"
    return name


@dataclass(frozen=True, eq=False)
class File:
    """All of a TFLite file: a program for each subgraph, the main one first, and byte strings by name."""

    programs: tuple[Program, ...]
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    description: str = ""
    version: int = 3

    @property
    def main(self) -> Program:
        return self.programs[0]
