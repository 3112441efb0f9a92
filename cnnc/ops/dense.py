"""The fully connected layer."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from cnnc.frozen import dataclass
from cnnc.ops.base import Initializer, Op, Shape, Weight
from cnnc.ops.bounds import require_at_least
from cnnc.ops.signature import Auto


@dataclass(frozen=True)
class Dense(Op):
    """Affine map of the last axis, whatever the rank. Kernel: `(channels, units)`."""

    names = ("dense",)
    units: int
    bias: Auto = None
    init: Initializer = "glorot_uniform"

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 1, "units")

    def infer(self, *inputs: Shape) -> Shape:
        return (*inputs[0][:-1], self.units)

    def weights(self, *inputs: Shape) -> Mapping[str, Weight]:
        channels = inputs[0][-1]
        kernel = Weight((channels, self.units), self.init, channels, self.units)
        if self.bias is False:
            return {"kernel": kernel}
        return {"kernel": kernel, "bias": Weight((self.units,), "zeros", decay=False)}

    def macs(self, output: Shape, *inputs: Shape) -> int:
        return prod(output) * inputs[0][-1]
