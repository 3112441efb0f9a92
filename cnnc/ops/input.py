"""The inputs of a network."""

from __future__ import annotations

from typing import Literal

from cnnc.frozen import dataclass
from cnnc.ops.base import Op, OpError, Shape
from cnnc.ops.bounds import require_at_least
from cnnc.ops.signature import Dims


@dataclass(frozen=True)
class Input(Op):
    """An array `(batch, *shape)` from outside; `int` ones hold indices for an embedding."""

    arity = (0, 0)
    shape: Dims
    dtype: Literal["float", "int"] = "float"

    @property
    def name(self) -> str:
        return "input"

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 1, "shape")
        if not self.shape:
            raise OpError("an input needs at least one axis", code="value", attribute="shape")

    def resolve(self, *inputs: Shape) -> Input:
        return self

    def infer(self, *inputs: Shape) -> Shape:
        return self.shape
