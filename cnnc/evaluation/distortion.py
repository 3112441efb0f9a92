"""How far a tensor's values in a TFLite file are from the network's: a layer's figures, and the sums behind them."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.tflite.litert.runner import dequantized
from cnnc.ir import Graph
from cnnc.ops import BatchNorm, Dropout, Flatten
from cnnc.passes.equalize import HOMOGENEOUS
from cnnc.passes.linear import Linear
from cnnc.tflite_file.program import Tensor

_GAIN: Final = 6.0
"""dB: a layer that comes nearer by more than this when each channel may have a factor has been equalised."""
_CUT: Final = 0.01
"""Unless so many of its values are cut off, which makes channels smaller too."""
_EXACT: Final = 1e-12
"""Of a signal's power: less is the last bits of float32, and no error."""
_ON_CODES: Final = 1e-6
"""Of an 8-bit tensor's power: rounding leaves more, unless the values that make it up lie on its codes."""
_PASSES: Final = HOMOGENEOUS | BatchNorm | Dropout | Flatten
"""Operators that a channel's factor passes through, on its way to the weights that take it back."""


@dataclass(frozen=True)
class Layer:
    """A tensor of the file beside the float network's value of that name.

    `sqnr` is the ratio of the float value's power to the error's in dB. Where that is more than rounding to the type
    leaves, it is the worst channel's, and None where no channel has an error, or all are zeros. `cosine` is of the
    angle between them. `used` is the share of the type's codes from the lowest to the highest that were seen, `clipped`
    the share of float values beyond the codes' range; both are None for a float tensor.
    `equalized` says that the compiler moved factors of channels to the next layer, and that they are divided out.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    sqnr: float | None
    cosine: float | None
    used: float | None
    clipped: float | None
    equalized: bool


class ChannelSums:
    """Sums over a tensor's values by channel, in float64, and what they tell of it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        channels = tensor.shape[-1] if tensor.shape else 1
        self.sums: dict[str, NDArray[np.float64]] = {key: np.zeros(channels) for key in ("rr", "qq", "rq", "ee")}
        self.low, self.high, self.beyond, self.cut, self.count = np.inf, -np.inf, 0, 0, 0

    def see(self, real: NDArray[Any], codes: NDArray[Any]) -> None:
        """The float network's values, and what the file stores for the same pictures."""
        channels = len(self.sums["rr"])
        r = np.asarray(real, np.float64).reshape(-1, channels)
        q = np.asarray(dequantized(self.tensor, codes), np.float64).reshape(-1, channels)
        for key, (a, b) in {"rr": (r, r), "qq": (q, q), "rq": (r, q), "ee": (r - q, r - q)}.items():
            self.sums[key] += np.einsum("ij,ij->j", a, b)
        self.count += r.size
        if self.tensor.quantization is not None:
            scale, zero = self.tensor.quantization.scale[0], self.tensor.quantization.zero_point[0]
            limits = np.iinfo(codes.dtype)
            steps = r / scale + zero
            self.beyond += int(((steps < limits.min - 0.5) | (steps > limits.max + 0.5)).sum())
            self.cut += int((codes == limits.max).sum())
            self.low, self.high = min(self.low, float(codes.min())), max(self.high, float(codes.max()))

    @property
    def factors(self) -> NDArray[np.float64]:
        """By how much each channel's values are larger in the file: what comes nearest, 0 where the run has zeros."""
        rr, rq = self.sums["rr"], self.sums["rq"]
        return np.divide(rq, rr, out=np.zeros_like(rr), where=rr > 0)

    def layer(self, name: str, kind: str, shape: tuple[int, ...], *, equalizable: bool) -> Layer:
        rr, qq, rq, ee = (self.sums[key] for key in ("rr", "qq", "rq", "ee"))
        eight = self.tensor.quantization is not None and self.tensor.type in ("INT8", "UINT8")
        least = _ON_CODES if eight else _EXACT
        sqnr, cosine = _decibels(rr, ee, least), _cosine(rr.sum(), qq.sum(), rq.sum())
        factors = self.factors
        scaled = _decibels(factors**2 * rr, qq - factors * rq, least)
        # Rounding leaves a channel's size alone; a whole layer of other sizes is the equaliser's doing.
        nearer = sqnr is not None and scaled is not None and scaled > sqnr + _GAIN
        equalized = equalizable and nearer and self.cut <= _CUT * self.count
        if equalized:
            sqnr, cosine = scaled, _cosine(float((factors**2 * rr).sum()), qq.sum(), float((factors * rq).sum()))
        used = (self.high - self.low + 1) / 256 if eight else None
        clipped = self.beyond / self.count if eight and not equalized else None
        return Layer(name, kind, shape, sqnr, cosine, used, clipped, equalized)


def _decibels(signal: NDArray[np.float64], noise: NDArray[np.float64], least: float) -> float | None:
    """The ratio of the powers of all channels, or, where `least` of it is more than the noise, of the worst channel.

    Beside a large channel that is stored exactly a small one may be lost without a trace in the sums.
    """
    whole, error = float(signal.sum()), float(noise.sum())
    if whole <= 0:
        return None
    if error <= least * whole:
        wrong = noise > _EXACT * signal
        if not wrong.any():
            return None
        if (says := wrong & (signal > 0)).any():
            return float(10 * np.log10(signal[says] / noise[says]).min())
    return 10 * log10(whole / error)


def _cosine(rr: float, qq: float, rq: float) -> float | None:
    return None if rr <= 0 or qq <= 0 else float(min(1.0, rq / (rr * qq) ** 0.5))


def is_equalizable(graph: Graph, name: str) -> bool:
    """Whether a node's channels may have been given factors: all that reads it comes to weights, which take them."""
    readers = graph.consumers[name]
    if not readers or any(node == name for _, node in graph.outputs):
        return False
    return all(
        isinstance(reader.op, Linear) or (isinstance(reader.op, _PASSES) and is_equalizable(graph, reader.name))
        for reader in readers
    )
