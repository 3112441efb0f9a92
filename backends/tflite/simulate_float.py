"""The meaning of float32 operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np

from cnnc.backends.tflite.simulate_call import Array, Call
from cnnc.backends.tflite.simulate_window import (
    Geometry,
    convolve,
    convolve_channels,
    convolve_transposed,
    geometry,
    pool_geometry,
    taps,
)


def _convolution(call: Call) -> Array:
    kernel = np.moveaxis(call[1], 0, -1)
    return _biased(call, convolve(call[0], kernel, geometry(call, kernel.shape[:-2])), 2)


def _convolution_3d(call: Call) -> Array:
    return _biased(call, convolve(call[0], call[1], geometry(call, call[1].shape[:-2])), 2)


def _depthwise(call: Call) -> Array:
    kernel = call[1][0]
    return _biased(call, convolve_channels(call[0], kernel, geometry(call, kernel.shape[:-1])), 2)


def _transposed(call: Call) -> Array:
    kernel = np.moveaxis(call[1], 0, -1)
    shape = geometry(call, kernel.shape[:-2])
    return _biased(call, convolve_transposed(call[2], kernel, shape, call.axes(0)[1:-1]), 3)


def _transposed_3d(call: Call) -> Array:
    kernel = call[1].swapaxes(-1, -2)
    shape = geometry(call, kernel.shape[:-2])
    return _biased(call, convolve_transposed(call[2], kernel, shape, call.axes(0)[1:-1]), 3)


def _fully_connected(call: Call) -> Array:
    x = call[0] if call.option("keep_num_dims") else call[0].reshape(-1, call[1].shape[1])
    return _biased(call, x @ call[1].T, 2)


def _biased(call: Call, x: Array, index: int) -> Array:
    return (x + call[index] if call.has(index) else x).clip(*call.limits)


def _binary(function: Callable[[Array, Array], Array]) -> Callable[[Call], Array]:
    return lambda call: function(call[0], call[1]).clip(*call.limits)


def _average_pool(call: Call) -> Array:
    # The padding does not count.
    shape = pool_geometry(call)
    mean: Array = total_of_taps(call[0], shape) / tap_counts(call[0], shape)
    return mean.clip(*call.limits)


def total_of_taps(x: Array, shape: Geometry) -> Array:
    """The sum of the values under a pool: `(batch, *output, channels)`."""
    return reduce(np.add, (values for _, values in taps(x, shape)))


def tap_counts(x: Array, shape: Geometry) -> Array:
    """How many taps of a pool meet the input rather than padding: `(1, *output, 1)`."""
    return total_of_taps(np.ones((1, *x.shape[1:-1], 1), x.dtype), shape)


def _reduction(function: Callable[..., Any]) -> Callable[[Call], Array]:
    return lambda call: np.asarray(function(call[0], axis=call.axes(1), keepdims=bool(call.option("keep_dims"))))


def _resize_bilinear(call: Call) -> Array:
    x = call[0]
    for axis, size in enumerate(call.axes(1), start=1):
        low, high, share = bilinear(call, x.shape[axis], size)
        share = share.reshape((-1,) + (1,) * (x.ndim - axis - 1))
        below = np.take(x, low, axis)
        x = below + (np.take(x, high, axis) - below) * share
    return x


def bilinear(call: Call, before: int, after: int) -> tuple[Array, Array, Array]:
    """The two neighbours of every value along an axis, and the share of the second one."""
    corners = bool(call.option("align_corners")) and after > 1
    ratio = np.float32(before - 1) / np.float32(after - 1) if corners else np.float32(before) / np.float32(after)
    place = np.arange(after, dtype=np.float32) * ratio
    if call.option("half_pixel_centers"):
        place = place + (np.float32(0.5) * ratio - np.float32(0.5))
    place = np.clip(place, 0, before - 1)
    low = np.floor(place).astype(np.int64)
    return low, np.minimum(low + 1, before - 1), place - low.astype(np.float32)


def _softmax(call: Call) -> Array:
    powers: Array = np.exp((call[0] - call[0].max(-1, keepdims=True)) * np.float32(call.option("beta", 0.0)))
    shares: Array = powers / powers.sum(-1, keepdims=True)
    return shares


def _local_response(call: Call) -> Array:
    x, radius = call[0], int(call.option("radius"))
    squares = np.pad(x * x, ((0, 0),) * (x.ndim - 1) + ((radius, radius),))
    total: Array = reduce(np.add, (squares[..., i : i + x.shape[-1]] for i in range(2 * radius + 1)))
    alpha, beta, bias = (np.float32(call.option(name, 0.0)) for name in ("alpha", "beta", "bias"))
    result: Array = x / (bias + alpha * total) ** beta
    return result


def _batch_matmul(call: Call) -> Array:
    return multiplied(call, call[0], call[1])


def multiplied(call: Call, x: Array, y: Array) -> Array:
    """The matrix product of the last two axes, either turned first where the options say so."""
    x = x.swapaxes(-1, -2) if call.option("adjoint_x") else x
    y = y.swapaxes(-1, -2) if call.option("adjoint_y") else y
    product: Array = x @ y
    return product


def _dequantize(call: Call) -> Array:
    if call[0].dtype.kind == "f":
        return call[0].astype(np.float32)
    shape = [1] * call[0].ndim
    found = call.tensor(0).quantization
    assert found is not None, call.operator
    if found.per_channel:
        shape[found.axis] = -1
    zero = np.array(found.zero_point, np.int32).reshape(shape)
    return (call[0].astype(np.int32) - zero).astype(np.float32) * call.scales(0).reshape(shape)


def sigmoid(x: Array) -> Array:
    # 1 / (1 + exp(-x)) overflows for large negative x; this is the same function.
    result: Array = (1 + np.tanh(x / 2)) / 2
    return result


def hard_swish(x: Array) -> Array:
    result: Array = x * np.clip(x + 3, 0, 6) / 6
    return result


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _unary(function: Callable[[Array], Array]) -> Callable[[Call], Array]:
    return lambda call: function(call[0])


FUNCTIONS: Mapping[str, Callable[[Call], Any]] = {
    "CONV_2D": _convolution,
    "CONV_3D": _convolution_3d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "CONV_3D_TRANSPOSE": _transposed_3d,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    "ADD": _binary(np.add),
    "SUB": _binary(np.subtract),
    "MUL": _binary(np.multiply),
    "DIV": _binary(np.divide),
    "SQUARED_DIFFERENCE": _binary(lambda x, y: (x - y) ** 2),
    "AVERAGE_POOL_2D": _average_pool,
    "MEAN": _reduction(np.mean),
    "SUM": _reduction(np.sum),
    "RESIZE_BILINEAR": _resize_bilinear,
    "SOFTMAX": _softmax,
    "LOCAL_RESPONSE_NORMALIZATION": _local_response,
    "DEQUANTIZE": _dequantize,
    "LOGISTIC": _unary(sigmoid),
    "TANH": _unary(np.tanh),
    "RELU": _unary(lambda x: np.maximum(x, 0)),
    "RELU6": _unary(lambda x: np.clip(x, 0, 6)),
    "RELU_N1_TO_1": _unary(lambda x: np.clip(x, -1, 1)),
    "LEAKY_RELU": lambda call: np.where(call[0] > 0, call[0], call[0] * np.float32(call.option("alpha", 0.0))),
    "PRELU": lambda call: np.where(call[0] > 0, call[0], call[0] * call[1]),
    "ELU": _unary(elu),
    "HARD_SWISH": _unary(hard_swish),
    "ABS": _unary(np.abs),
    "NEG": _unary(np.negative),
    "EXP": _unary(np.exp),
    "RSQRT": _unary(lambda x: 1 / np.sqrt(x)),
}
