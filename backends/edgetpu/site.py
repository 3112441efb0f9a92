"""An operator and the tensors round it, as the rules look at them: what a damaged file lacks reads as absent."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnc.record import dataclass
from cnnc.tflite.program import ABSENT, Operator, Program, Tensor

EIGHT_BITS = ("INT8", "UINT8")


@dataclass(frozen=True)
class Site:
    """An operator of a program."""

    program: Program
    operator: Operator

    @property
    def kind(self) -> str:
        return self.operator.kind

    def input(self, index: int) -> Tensor | None:
        """An input by its place, None where the operator has none there."""
        names = self.operator.inputs
        if index >= len(names) or names[index] == ABSENT:
            return None
        return self.program[names[index]]

    @property
    def inputs(self) -> list[Tensor]:
        """Inputs that are computed: no constants, and no states that an operator keeps."""
        return [tensor for tensor in self.operands if tensor.data is None and not tensor.is_variable]

    @property
    def operands(self) -> list[Tensor]:
        """Inputs, constant ones included."""
        return [self.program[name] for name in self.operator.inputs if name != ABSENT]

    @property
    def outputs(self) -> list[Tensor]:
        return [self.program[name] for name in self.operator.outputs if name != ABSENT]

    @property
    def activations(self) -> list[Tensor]:
        """Computed inputs, and outputs."""
        return [*self.inputs, *self.outputs]

    @property
    def first(self) -> tuple[int, ...]:
        """The shape of the first computed input; `()` without one."""
        return next((tensor.shape for tensor in self.inputs), ())

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of the first output; `()` without one."""
        return next((tensor.shape for tensor in self.outputs), ())

    def option(self, name: str, default: Any = None) -> Any:
        return self.operator.options.get(name, default)

    def numbers(self, index: int) -> list[int] | None:
        """The values of a constant input of integers; None where it is none."""
        tensor = self.input(index)
        if tensor is None or tensor.data is None or tensor.data.dtype.kind not in "iu":
            return None
        return [int(value) for value in np.ravel(tensor.data)[:64]]

    def axes(self, index: int) -> list[int] | None:
        """A constant list of axes, counted from the front; None where it is none."""
        found = self.numbers(index)
        rank = len(self.first)
        return None if found is None or not rank else [axis % rank for axis in found]
