"""Writes a float program operator by operator: tensors, constants and operators with names that do not clash."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.tflite_file.program import Operator, Program, Tensor

_TYPES = {"f": "FLOAT32", "i": "INT32"}


class Emitter:
    """A program in the making. `float_only` names the tensors whose operators have no int8 form."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []
        self.float_only: set[str] = set()
        self.origin = ""
        self.islands = False
        """While true, what is emitted has no int8 form."""

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def tensor(self, name: str, shape: Sequence[int], kind: str = "FLOAT32") -> str:
        """A tensor of that name, or of that name with a number where it is taken."""
        free, number = name, 2
        while free in self.tensors:
            free, number = f"{name}:{number}", number + 1
        self.tensors[free] = Tensor(free, tuple(shape), kind)
        return free

    def constant(self, name: str, value: Any) -> str:
        """A constant: float32 of floats, int32 of whole numbers."""
        array: NDArray[Any] = np.asarray(value)
        free = self.tensor(name, array.shape, _TYPES[array.dtype.kind])
        array = np.ascontiguousarray(array, np.float32 if array.dtype.kind == "f" else np.int32).reshape(array.shape)
        self.tensors[free] = Tensor(free, array.shape, _TYPES[array.dtype.kind], data=array)
        return free

    def emit(self, kind: str, inputs: Sequence[str], shape: Sequence[int], name: str, **options: Any) -> str:
        """An operator of one output, whose name comes back."""
        output = self.tensor(name, shape, self.tensors[inputs[0]].type if kind == "RESHAPE" else "FLOAT32")
        self.operators.append(Operator(kind, tuple(inputs), (output,), options, origin=self.origin))
        if self.islands:
            self.float_only.add(output)
        return output

    def split(self, x: str, count: int, axis: int, name: str) -> list[str]:
        """Equal parts of a tensor along an axis."""
        shape = list(self.shape(x))
        shape[axis] //= count
        outputs = tuple(self.tensor(f"{name}:part", shape) for _ in range(count))
        where = self.constant(f"{name}:axis", axis)
        self.operators.append(Operator("SPLIT", (where, x), outputs, {"splits": count}, origin=self.origin))
        return list(outputs)

    def reshape(self, x: str, shape: Sequence[int], name: str) -> str:
        """The same values in another shape; nothing is emitted where it is the shape they have."""
        if self.shape(x) == tuple(shape):
            return x
        assert prod(self.shape(x)) == prod(shape), (x, self.shape(x), shape)
        return self.emit(
            "RESHAPE", (x, self.constant(f"{name}:shape", list(shape))), shape, name, new_shape=tuple(shape)
        )

    def program(self, name: str, inputs: Sequence[str], outputs: Sequence[str], labels: Sequence[str]) -> Program:
        return Program(
            name,
            self.tensors,
            tuple(self.operators),
            tuple(inputs),
            tuple(outputs),
            tuple(inputs),
            tuple(labels),
        )
