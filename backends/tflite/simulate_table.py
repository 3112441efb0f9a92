"""The meaning of quantised operators of one tensor, whose 256 results LiteRT or XNNPACK looks up or could."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnc.backends.tflite import simulate_float
from cnnc.backends.tflite.simulate_call import LIMITS, Array, Call
from cnnc.backends.tflite.simulate_fixed import Whole, divided, fixed_point, high_product, rescaled, rescaled_in_lanes
from cnnc.diagnostics import CnnError
from cnnc.tflite.program import DTYPES


def _quantize(call: Call) -> Array:
    x = call[0]
    if x.dtype.kind == "f":
        return call.stored(np.rint(x * (np.float32(1) / call.output_scale)))
    factor = call.scale(0) / call.output_scale
    if call.tensor(0).type == call.outputs[0].type and _is_taken(factor):
        return call.stored(_times(call.centred(0), factor))
    # Another type, too, XNNPACK leaves to LiteRT.
    return call.stored(rescaled_in_lanes(call.centred(0), float(call.scale(0)) / float(call.output_scale)))


def _leaky_relu(call: Call) -> Array:
    x, alpha = call.centred(0), np.float32(call.option("alpha", 0.0))
    positive = call.scale(0) / call.output_scale
    if _is_taken(positive) and _is_taken(abs(positive * alpha)):
        return call.stored(np.where(x > 0, _times(x, positive), _times(x, positive * alpha)))
    negative = call.scale(0) * alpha / call.output_scale
    return call.stored(np.where(x > 0, rescaled(x, float(positive)), rescaled(x, float(negative))))


def _is_taken(factor: np.float32) -> bool:
    """Whether XNNPACK takes a product by a factor, and does not leave it to LiteRT."""
    return bool(2**-8 <= factor <= 2**7)


def _times(x: Array, factor: np.float32) -> Array:
    """XNNPACK's product by a factor of 8 fractional bits, halves up."""
    return (x * int(np.rint(factor * np.float32(256))) + 128) >> 8


def _prelu(call: Call) -> Array:
    # The factors are of float32 in LiteRT too.
    x, alpha = call.centred(0), call.centred(1)
    positive = rescaled(x, float(call.scale(0) / call.output_scale))
    negative = rescaled(x * alpha, float(call.scale(0) * call.scale(1) / call.output_scale))
    return call.stored(np.where(x >= 0, positive, negative))


def _clamp(activation: str) -> Callable[[Call], Array]:
    low, high = LIMITS[activation]

    def function(call: Call) -> Array:
        values = rescaled(call.centred(0), float(call.scale(0) / call.output_scale))
        return call.stored(values.clip(*(np.rint(limit / call.output_scale) for limit in (low, high))))

    return function


def _table(function: Callable[[Array], Array]) -> Callable[[Call], Array]:
    """A function of real values, worked out in float32 and rounded with the zero point in it, halves to even."""

    def looked_up(call: Call) -> Array:
        info = np.iinfo(DTYPES[call.tensor(0).type])
        codes = np.arange(info.min, info.max + 1, dtype=np.int32)
        zero = np.float32(call.output_zero_point)
        real = (codes - call.zero_point(0)).astype(np.float32) * call.scale(0)
        with np.errstate(over="ignore"):
            table = call.stored(np.rint(function(real) * (np.float32(1) / call.output_scale) + zero) - zero)
        return table[call[0].astype(np.int32) - info.min]

    return looked_up


def _rsqrt(call: Call) -> Array:
    # LiteRT rounds to 20 bits first. It refuses negative numbers, and has its largest value for 1 / 0.
    x = call.centred(0)
    roots = np.rint(2**20 / np.sqrt(np.maximum(x, 1)))
    factor = 1 / (np.sqrt(float(call.scale(0))) * float(call.output_scale)) / 2**20
    return call.stored(np.where(x > 0, rescaled(roots, factor), np.iinfo(np.int16).max))


def _abs(call: Call) -> Array:
    return call.stored(rescaled(np.abs(call.centred(0)), float(call.scale(0) / call.output_scale)))


def _negate(call: Call) -> Array:
    if call.zero_point(0) or call.output_zero_point:
        raise CnnError.of("backend", "LiteRT's int8 NEG leaves out zero points: they must be 0")
    return np.negative(call[0])


def _softmax(call: Call) -> Array:
    scale = -call.scale(0) * np.float32(call.option("beta", 0.0))
    powers = np.exp(scale * np.arange(256, dtype=np.float32))
    x = powers[call[0].max(-1, keepdims=True).astype(np.int32) - call[0]]
    share = np.float32(1) / (x.sum(-1, keepdims=True) * call.output_scale)
    return call.stored(np.floor(x * share + np.float32(0.5)))


def _hard_swish(call: Call) -> Array:
    """In 16 bits. Source: HardSwish in tensorflow/lite/kernels/internal/reference/hard_swish.h."""
    x = call.centred(0).astype(np.int64) << 7
    fine = call.scale(0) * np.float32(1 / 128)
    mantissa, exponent = _short(float(fine / call.output_scale))
    share_mantissa, share_exponent = _short(float(fine / np.float32(3 / 32768)))
    scaled = high_product(x, mantissa, 15)
    share = _saturated(x << max(share_exponent - 1, 0))
    share = high_product(share, share_mantissa, 15)
    share = _saturated(share << 1) if share_exponent > 0 else divided(share, -share_exponent)
    share = (share + (1 << 15)) >> 1
    product = share * scaled
    product = np.sign(product) * (np.abs(product) >> 15)
    return call.stored(divided(product, -exponent))


def _short(real: float) -> tuple[int, int]:
    mantissa, exponent = fixed_point(real)
    return min((mantissa + (1 << 15)) >> 16, 2**15 - 1), exponent


def _saturated(x: Whole) -> Whole:
    return np.clip(x, -(2**15), 2**15 - 1)


FUNCTIONS: Mapping[str, Callable[[Call], Any]] = {
    "QUANTIZE": _quantize,
    "LEAKY_RELU": _leaky_relu,
    "PRELU": _prelu,
    "RELU": _clamp("RELU"),
    "RELU6": _clamp("RELU6"),
    "RELU_N1_TO_1": _clamp("RELU_N1_TO_1"),
    "LOGISTIC": _table(simulate_float.sigmoid),
    "TANH": _table(np.tanh),
    "ELU": _table(simulate_float.elu),
    "EXP": _table(np.exp),
    "RSQRT": _rsqrt,
    "HARD_SWISH": _hard_swish,
    "ABS": _abs,
    "NEG": _negate,
    "SOFTMAX": _softmax,
}
