"""Noise that only training sees; elsewhere the identity."""

from __future__ import annotations

from cnnc.frozen import dataclass
from cnnc.ops.base import Op
from cnnc.ops.bounds import require_rate


@dataclass(frozen=True)
class Dropout(Op):
    """In training a value becomes 0 with probability `rate`, else is divided by 1 - rate (Srivastava et al. 2014)."""

    names = ("dropout",)
    rate: float = 0.5

    def validate(self) -> None:
        super().validate()
        require_rate(self, "rate")


@dataclass(frozen=True)
class DropPath(Op):
    """In training a sample's whole tensor becomes 0 with probability `rate`, else is divided by 1 - rate.

    Stochastic depth (Huang et al. 2016) in the convention of EfficientNet's and timm's code: the paper itself scales by
    1 - rate at inference instead, which is the same in expectation.
    """

    names = ("drop_path", "stochastic_depth")
    rate: float = 0.2

    def validate(self) -> None:
        super().validate()
        require_rate(self, "rate")
