"""An operator of a program together with the values of its inputs, as the simulation's functions take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import CnnError
from cnnc.tflite.program import DTYPES, Operator, Quantization, Tensor

Array = NDArray[Any]

LIMITS = {"NONE": (-np.inf, np.inf), "RELU": (0.0, np.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}
"""The least and the largest value that each fused activation lets through."""


@dataclass(frozen=True, eq=False)
class Call:
    """An operator, and for each input its tensor and its value; None for an optional input that is not there."""

    operator: Operator
    inputs: tuple[Tensor | None, ...]
    values: tuple[Array | None, ...]
    outputs: tuple[Tensor, ...]

    def __getitem__(self, index: int) -> Array:
        """The value of an input that must be there."""
        value = self.values[index]
        assert value is not None, (self.operator, index)
        return value

    @property
    def all(self) -> list[Array]:
        """The values of all inputs, which must be there."""
        return [self[i] for i in range(len(self))]

    def __len__(self) -> int:
        return len(self.values)

    def tensor(self, index: int) -> Tensor:
        tensor = self.inputs[index]
        assert tensor is not None, (self.operator, index)
        return tensor

    def has(self, index: int) -> bool:
        return index < len(self.values) and self.values[index] is not None

    def option(self, name: str, default: Any = 0) -> Any:
        """An option's value; a file leaves out those of 0."""
        return self.operator.options.get(name, default)

    def axes(self, index: int) -> tuple[int, ...]:
        """An input of whole numbers, as a list of axes or sizes is."""
        return tuple(int(each) for each in self[index].reshape(-1))

    @property
    def limits(self) -> tuple[float, float]:
        """The real values that the fused activation lets through."""
        name = self.option("activation", "NONE")
        if name not in LIMITS:
            raise CnnError.of("backend", f"the simulation has no fused activation `{name}`")
        return LIMITS[name]

    # What follows is for quantised operators.

    def scale(self, index: int) -> np.float32:
        """The one scale of an input, in the precision that a file has."""
        return np.float32(_quantization(self.tensor(index)).scale[0])

    def scales(self, index: int) -> NDArray[np.float32]:
        """The scales of weights: one, or one for each channel."""
        return np.array(_quantization(self.tensor(index)).scale, np.float32)

    def centred(self, index: int) -> NDArray[np.int32]:
        """The values of an input less its zero point."""
        centred: NDArray[np.int32] = self[index].astype(np.int32) - np.int32(self.zero_point(index))
        return centred

    def zero_point(self, index: int) -> int:
        return _quantization(self.tensor(index)).zero_point[0]

    @property
    def output_scale(self) -> np.float32:
        return np.float32(_quantization(self.outputs[0]).scale[0])

    @property
    def output_zero_point(self) -> int:
        return _quantization(self.outputs[0]).zero_point[0]

    def stored(self, centred: Array) -> Array:
        """Whole numbers less the zero point to the output's: within its type and the fused activation's limits."""
        info = np.iinfo(DTYPES[self.outputs[0].type])
        zero = self.output_zero_point
        low, high = (
            np.clip(zero + np.rint(limit / self.output_scale), info.min, info.max) if np.isfinite(limit) else bound
            for limit, bound in zip(self.limits, (info.min, info.max), strict=True)
        )
        shifted = np.add(centred, zero, dtype=np.float64 if centred.dtype.kind == "f" else np.int64)
        return np.clip(shifted, int(low), int(high)).astype(info.dtype)


def _quantization(tensor: Tensor) -> Quantization:
    if tensor.quantization is None:
        raise CnnError.of("tflite", f"tensor `{tensor.name}` is {tensor.type.lower()} without a scale")
    return tensor.quantization
