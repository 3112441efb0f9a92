"""Products by a real number in fixed point, as LiteRT's own kernels compute them.

Source: tensorflow/lite/kernels/internal/quantization_util.cc and common.h, after gemmlowp/fixedpoint.h.
"""

from __future__ import annotations

from math import floor, frexp

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.tflite.simulate_call import Array

Whole = NDArray[np.int64]


def fixed_point(real: float) -> tuple[int, int]:
    """`(mantissa, exponent)` with real = mantissa / 2**31 * 2**exponent, the mantissa from 2**30 up to 2**31."""
    fraction, exponent = frexp(real)
    mantissa = floor(fraction * 2**31 + 0.5)
    if mantissa == 2**31:
        return 2**30, exponent + 1
    return (mantissa, exponent) if exponent >= -31 else (0, 0)


def rescaled(x: Array, real: float) -> Whole:
    """`x * real`, rounded twice: to the nearest of 2**-31 parts, and halves of the result away from zero."""
    mantissa, exponent = fixed_point(real)
    return divided(high_product(x.astype(np.int64) << max(exponent, 0), mantissa, 31), max(-exponent, 0))


def rescaled_in_lanes(x: Array, real: float) -> Whole:
    """`x * real` as `rescaled`, but halves of the result up in all but the last values that fill no 16 lanes."""
    mantissa, exponent = fixed_point(real)
    high = high_product(x.astype(np.int64) << max(exponent, 0), mantissa, 31).reshape(-1)
    shift, end = max(-exponent, 0), x.size - x.size % 16
    lanes = (high[:end] + (1 << shift >> 1)) >> shift
    return np.concatenate([lanes, divided(high[end:], shift)]).reshape(x.shape)


def high_product(x: Whole, y: Whole | int, bits: int) -> Whole:
    """`x * y / 2**bits`, halves away from zero."""
    product = x * y
    nudge = np.where(product >= 0, 1 << (bits - 1), 1 - (1 << (bits - 1)))
    total: Whole = product + nudge
    quotient: Whole = np.sign(total) * (np.abs(total) >> bits)
    return quotient


def divided(x: Whole, exponent: int) -> Whole:
    """`x / 2**exponent`, halves away from zero."""
    mask = (1 << exponent) - 1
    return (x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0))
