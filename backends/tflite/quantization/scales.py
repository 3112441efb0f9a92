"""The arithmetic of int8: ranges to scales and zero points, arrays to whole numbers.

Source: the TensorFlow Lite 8-bit quantization specification (real = scale * (quantised - zero point)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cnnc.tflite_file.program import Array, Quantization

Range = tuple[float, float]

LOWEST_CODE: Final = -128
HIGHEST_CODE: Final = 127
NARROW: Final = 127
"""Weights are from -127 to 127, symmetric about zero."""
SMALLEST_SPAN: Final = 1e-6
"""A tensor whose values span less is as good as zero: it gets the range 0 to 1, as scales near zero break compilers."""
_MOST_BIAS: Final = 2.0**30
"""A bias as a whole number stays below this, so that the sum with the products stays below 2^31."""
_LEAST_MULTIPLIER: Final = 2.0**-31
"""Of input scale * weight scale / output scale: kernels hold it as 31 bits and a shift."""

SOFTMAX: Final = Quantization((1 / 256,), (-128,))
TANH: Final = Quantization((1 / 128,), (0,))
PIXELS: Final = Quantization((1.0,), (-128,))
"""Pixel p is p - 128."""
ONE: Final = Quantization((1 / 64,), (0,))
"""Of the constant 1, as the code 64: kernels that round a product before they shift it keep six more bits."""


def affine(low: float, high: float) -> Quantization:
    """The scale and zero point of int8 for values from `low` to `high`; zero is among them and exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < SMALLEST_SPAN:
        low, high = 0.0, 1.0
    scale = float(np.float32((high - low) / (HIGHEST_CODE - LOWEST_CODE)))
    zero = round(LOWEST_CODE - low / scale)
    return Quantization((scale,), (min(max(zero, LOWEST_CODE), HIGHEST_CODE),))


def span(quantization: Quantization) -> Range:
    """The smallest and largest value that int8 holds under a quantisation for the whole tensor."""
    (scale,), (zero,) = quantization.scale, quantization.zero_point
    return scale * (LOWEST_CODE - zero), scale * (HIGHEST_CODE - zero)


def union(ranges: Sequence[Range]) -> Range:
    """The range that holds all of some."""
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def covers(quantization: Quantization, wanted: Range) -> bool:
    """Whether int8 under a quantisation holds a range, to within a step."""
    low, high = span(quantization)
    step = quantization.scale[0]
    return low - step <= wanted[0] and wanted[1] <= high + step


def encode(values: Array, quantization: Quantization) -> NDArray[np.int8]:
    """Values as int8; those outside the range become its ends."""
    shape = [1] * values.ndim
    if quantization.per_channel:
        shape[quantization.axis] = len(quantization.scale)
    scale = np.asarray(quantization.scale, np.float64).reshape(shape if quantization.per_channel else ())
    zero = np.asarray(quantization.zero_point).reshape(shape if quantization.per_channel else ())
    codes: NDArray[np.int8] = np.clip(np.rint(values / scale) + zero, LOWEST_CODE, HIGHEST_CODE).astype(np.int8)
    return codes


def decode(codes: Array, quantization: Quantization) -> NDArray[np.float64]:
    """The values that int8 or uint8 codes stand for, of a quantisation for the whole tensor."""
    (scale,), (zero,) = quantization.scale, quantization.zero_point
    return scale * (codes.astype(np.float64) - zero)


def weight_scales(kernel: Array, bias: Array | None, read: float, written: float, axis: int | None) -> Quantization:
    """The symmetric scales of a kernel, one for each slice along `axis` or one for all.

    A scale is widened where else the bias would not fit its 32 bits (a filter of tiny weights), or where input times
    weight scale would vanish beside the output's (a dead filter).

    Args:
        kernel: the weights.
        bias: a number for each output channel.
        read: the input's scale.
        written: the output's scale.
        axis: the axis of output channels; None for one scale in all.
    """
    rest = tuple(i for i in range(kernel.ndim) if i != axis)
    over = rest if axis is not None else None
    largest = np.maximum(kernel.max(over), -kernel.min(over)).astype(np.float64).reshape(-1)
    scale = largest / NARROW
    if bias is not None:
        needed = np.abs(bias).astype(np.float64) / (read * _MOST_BIAS)
        scale = np.maximum(scale, needed if axis is not None else needed.max())
    scale = np.maximum(scale, _LEAST_MULTIPLIER * written / read)
    scale = np.where(scale > 0, scale, 1.0)
    numbers = tuple(map(float, scale.astype(np.float32)))
    return Quantization(numbers, (0,) * len(numbers), axis or 0)
