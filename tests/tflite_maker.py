"""Draws the tensors of random TFLite programs, float or quantised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnnc.tflite.program import Tensor
from tests.tflite_programs import constant, tensor

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Maker:
    """Draws tensors of one type: `FLOAT32`, `INT8` or `UINT8`."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    type: str
    rng: np.random.Generator

    @property
    def quantized(self) -> bool:
        return self.type != "FLOAT32"

    def whole(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def shape(self, rank: int = 4) -> Shape:
        return (self.whole(1, 2), *(self.whole(1, 9) for _ in range(rank - 1)))

    def scale(self) -> float:
        return float(np.float32(np.exp(self.draw(st.floats(np.log(0.004), np.log(0.2))))))

    def zero_point(self) -> int:
        return self.whole(0, 255) - (128 if self.type == "INT8" else 0)

    def x(self, name: str, shape: Sequence[int], scale: float | None = None, zero_point: int | None = None) -> Tensor:
        """An activation, of any scale and zero point that are not given."""
        if not self.quantized:
            return tensor(name, shape)
        scale = self.scale() if scale is None else scale
        return tensor(name, shape, self.type, scale, self.zero_point() if zero_point is None else zero_point)

    def like(self, name: str, shape: Sequence[int], x: Tensor) -> Tensor:
        """An activation of the same scale and zero point."""
        return Tensor(name, tuple(shape), x.type, x.quantization)

    def weights(self, shape: Shape, axis: int) -> Tensor:
        """Weights: int8 of a scale for every channel along `axis` or for all, uint8 of one for all."""
        if not self.quantized:
            return constant("w", self.rng.standard_normal(shape).astype(np.float32))
        if self.type == "UINT8":
            return constant("w", self.rng.integers(0, 256, shape).astype(np.uint8), 0.004, self.whole(100, 150))
        scales = self.rng.uniform(0.001, 0.008, shape[axis] if self.pick(True, False) else 1)
        return constant(
            "w", self.rng.integers(-127, 128, shape).astype(np.int8), scales, axis=axis if len(scales) > 1 else 0
        )

    def bias(self, x: Tensor, weights: Tensor, filters: int) -> Tensor:
        if x.quantization is None:
            return constant("b", self.rng.standard_normal(filters).astype(np.float32))
        assert weights.quantization is not None
        scales = np.float32(x.quantization.scale[0]) * np.array(weights.quantization.scale, np.float32)
        return constant("b", self.rng.integers(-3000, 3000, filters).astype(np.int32), scales)

    def weighed(self, shape: Sequence[int], x: Tensor, terms: int) -> Tensor:
        """The output of a sum of that many products, of a scale that most values fit."""
        scale = None if x.quantization is None else x.quantization.scale[0] * 0.35 * sqrt(terms) * 74 * 4 / 127
        return self.x("y", shape, scale)

    def activation(self) -> str:
        return str(self.pick("NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1"))


def whole(name: str, values: Any) -> Tensor:
    """A constant of whole numbers."""
    return constant(name, np.array(values, np.int32))
