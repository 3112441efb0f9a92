"""The meaning of quantised operators that weigh or add values; accumulation is exact.

XNNPACK scales most sums in float32 and rounds halves to even; two tensors that are added, by whole numbers of 21 bits.
Source: measured on LiteRT 2.3, after XNNPACK's src/microparams-init.c; where LiteRT's own kernels run, it is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.tflite.simulate_call import Array, Call
from cnnc.backends.tflite.simulate_fixed import rescaled
from cnnc.backends.tflite.simulate_float import bilinear, multiplied, tap_counts, total_of_taps
from cnnc.backends.tflite.simulate_window import (
    convolve,
    convolve_channels,
    convolve_transposed,
    geometry,
    pool_geometry,
)


def _convolution(call: Call) -> Array:
    x, kernel = _exact(call.centred(0), np.moveaxis(call.centred(1), 0, -1))
    return _weighed(call, convolve(x, kernel, geometry(call, kernel.shape[:-2])), 0)


def _depthwise(call: Call) -> Array:
    kernel = call.centred(1)[0]
    return _weighed(call, convolve_channels(call.centred(0), kernel, geometry(call, kernel.shape[:-1])), 0)


def _transposed(call: Call) -> Array:
    x, kernel = _exact(call.centred(2), np.moveaxis(call.centred(1), 0, -1))
    shape = geometry(call, kernel.shape[:-2])
    return _weighed(call, convolve_transposed(x, kernel, shape, call.axes(0)[1:-1]), 2)


def _fully_connected(call: Call) -> Array:
    rows = call.centred(0) if call.option("keep_num_dims") else call.centred(0).reshape(-1, call[1].shape[1])
    x, kernel = _exact(rows, call.centred(1).T)
    return _weighed(call, x @ kernel, 0)


def _exact(x: NDArray[np.int32], kernel: NDArray[np.int32]) -> tuple[Array, Array]:
    """Both in a float type in which no sum of products `(..., channels) @ (..., filters)` is ever rounded."""
    largest = int(np.abs(x).max(initial=0)) * int(np.abs(kernel).reshape(-1, kernel.shape[-1]).sum(0).max())
    dtype = np.float32 if largest < 2**24 else np.float64
    return x.astype(dtype), kernel.astype(dtype)


def _weighed(call: Call, total: Array, data: int) -> Array:
    """Sums of products of the input `data` and the weights, input 1, with the bias behind the last of them."""
    bias = max(data, 1) + 1
    total = total.astype(np.float64) + call[bias] if call.has(bias) else total
    return call.stored(_scaled(total, call.scale(data) * call.scales(1) / call.output_scale))


def _scaled(total: Array, factor: np.float32 | NDArray[np.float32]) -> Array:
    """Whole numbers times a float32 factor, halves to even."""
    scaled: Array = np.rint(total.astype(np.float32) * factor)
    return scaled


def _sum_of_two(sign: int) -> Callable[[Call], Array]:
    def function(call: Call) -> Array:
        scales = [call.scale(i) / call.output_scale for i in (0, 1)]
        shift = 20 - int(np.frexp(max(scales))[1] - 1)
        first, second = (int(np.rint(np.ldexp(scale, shift))) for scale in scales)
        total = call.centred(0).astype(np.int64) * first + sign * call.centred(1).astype(np.int64) * second
        return call.stored((total + (1 << (shift - 1))) >> shift)

    return function


def _product(call: Call) -> Array:
    factor = call.scale(0) * call.scale(1) / call.output_scale
    return call.stored(_scaled(call.centred(0) * call.centred(1), factor))


def _squared_difference(call: Call) -> Array:
    scales = [float(call.scale(i)) for i in (0, 1)]
    twice = 2 * max(scales)
    first, second = (rescaled(call.centred(i) << 7, scales[i] / twice) for i in (0, 1))
    return call.stored(rescaled((first - second) ** 2, twice**2 / (2**14 * float(call.output_scale))))


def _batch_matmul(call: Call) -> Array:
    total = multiplied(call, call.centred(0).astype(np.float64), call.centred(1).astype(np.float64))
    if call.tensor(1).data is not None:
        return call.stored(_scaled(total, call.scale(0) * call.scale(1) / call.output_scale))
    # XNNPACK takes constant weights only.
    return call.stored(rescaled(total, float(call.scale(0)) * float(call.scale(1)) / float(call.output_scale)))


def _average_pool(call: Call) -> Array:
    # LiteRT's kernel: of stored values, so scales must be equal; halves away from zero.
    shape = pool_geometry(call)
    x = call[0].astype(np.int32)
    total, counts = total_of_taps(x, shape), tap_counts(x, shape)
    mean = np.sign(total) * ((np.abs(total) + counts // 2) // counts)
    return call.stored(mean - call.output_zero_point)


def _mean(call: Call) -> Array:
    return _reduced(call, np.float32(_count(call)))


def _sum(call: Call) -> Array:
    return _reduced(call, np.float32(1))


def _reduced(call: Call, divisor: np.float32) -> Array:
    # XNNPACK puts both zero points into one float32 offset, before it rounds.
    factor = call.scale(0) / call.output_scale / divisor
    zero = np.float32(call.output_zero_point)
    offset = zero - np.float32(call.zero_point(0) * _count(call)) * factor
    total = call[0].sum(call.axes(1), dtype=np.int64, keepdims=bool(call.option("keep_dims")))
    return call.stored(np.rint(total.astype(np.float32) * factor + offset) - zero)


def _count(call: Call) -> int:
    return prod(call[0].shape[axis] for axis in call.axes(1))


def _resize_bilinear(call: Call) -> Array:
    # Shares of 11 bits along either axis, and one rounding, halves up.
    x = call[0].astype(np.int64)
    for axis, size in zip((2, 1), call.axes(1)[::-1], strict=True):
        low, high, share = bilinear(call, x.shape[axis], size)
        whole = np.rint(share * np.float32(2**11)).astype(np.int64).reshape((-1,) + (1,) * (x.ndim - axis - 1))
        below = np.take(x, low, axis)
        x = (below << 11) + (np.take(x, high, axis) - below) * whole
    return call.stored(((x + (1 << 21)) >> 22) - call.output_zero_point)


FUNCTIONS: Mapping[str, Callable[[Call], Any]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    "ADD": _sum_of_two(1),
    "SUB": _sum_of_two(-1),
    "MUL": _product,
    "SQUARED_DIFFERENCE": _squared_difference,
    "AVERAGE_POOL_2D": _average_pool,
    "MEAN": _mean,
    "SUM": _sum,
    "RESIZE_BILINEAR": _resize_bilinear,
}
