"""An operator and the tensors round it, as the rules look at them: what a damaged file lacks reads as absent."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from cnnc.frozen import dataclass
from cnnc.tflite_file.program import ABSENT, Operator, Program, Tensor

EIGHT_BITS: Final = ("INT8", "UINT8")
SIZES: Final = {
    "RESHAPE": (1,),
    "RESIZE_BILINEAR": (1,),
    "RESIZE_NEAREST_NEIGHBOR": (1,),
    "PAD": (1,),
    "PADV2": (1,),
    "MIRROR_PAD": (1,),
    "TILE": (1,),
    "FILL": (0,),
    "BROADCAST_TO": (1,),
    "RANGE": (0, 1, 2),
    "SLICE": (1, 2),
    "STRIDED_SLICE": (1, 2, 3),
    "EXPAND_DIMS": (1,),
    "TRANSPOSE": (1,),
    "TRANSPOSE_CONV": (0,),
    "MEAN": (1,),
    "SUM": (1,),
    "REDUCE_MAX": (1,),
    "REDUCE_MIN": (1,),
    "SPLIT": (0,),
    "SPACE_TO_BATCH_ND": (1, 2),
    "BATCH_TO_SPACE_ND": (1, 2),
}
"""Inputs that give the size of an operator's output: where they are not constant, it is known only when it runs."""


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
        """Values that are computed: no constants, no sizes, and no states that an operator keeps."""
        sizes = SIZES.get(self.kind, ())
        values = [self.input(place) for place in range(len(self.operator.inputs)) if place not in sizes]
        return [tensor for tensor in values if tensor is not None and tensor.data is None and not tensor.is_variable]

    @property
    def has_computed_sizes(self) -> bool:
        """Whether the size of its output is known only when it runs."""
        given = (self.input(place) for place in SIZES.get(self.kind, ()))
        return any(tensor is not None and tensor.data is None for tensor in given)

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
