"""How far an int8 file is from the float one: both run on LiteRT on the same samples, and the float one is right.

What goes into a file is written out here by the manual's table of `--io`, and not asked of the compiler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf, log10
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.tflite.litert.execute import execute
from cnnc.tflite_file.program import Program, Tensor

Array = NDArray[Any]
Sample = Mapping[str, Array]
_HEADS: Final = ("SOFTMAX", "LOGISTIC", "RESHAPE", "QUANTIZE", "DEQUANTIZE")
"""Operators at the end of a file whose input tells more of an error than their output."""


def signal_to_noise(exact: Program, rounded: Program, samples: Sequence[Sample]) -> dict[str, float]:
    """The signal-to-noise ratio of each output before its last softmax or sigmoid, in dB, by the output's label.

    10 log10(variance of the float file's values / mean square of the difference), over all samples and positions.

    Args:
        exact: the float file's program.
        rounded: the int8 file's.
        samples: for each an array `(1, ...)` by the names of the inputs; pixels as uint8.
    """
    truth, found = values_on_litert(exact, samples), values_on_litert(rounded, samples)
    return {label: _decibels(truth[label], found[label]) for label in truth}


def values_on_litert(program: Program, samples: Sequence[Sample]) -> dict[str, Array]:
    """What a file makes of samples: real numbers `(samples, values)` by the labels of its outputs, before the heads."""
    ends = [_before_head(program, name) for name in program.outputs]
    names = tuple(dict.fromkeys(ends))
    rows: dict[str, list[Array]] = {name: [] for name in names}
    with execute(replace(program, outputs=names, output_names=names), threads=1) as run:
        for sample in samples:
            labelled = zip(program.inputs, program.input_names, strict=True)
            results = run({name: _as_fed(program[name], sample[label]) for name, label in labelled})
            for name in names:
                rows[name].append(_real(program[name], results[name]).reshape(-1))
            del results
    return {label: np.stack(rows[name]) for label, name in zip(program.output_names, ends, strict=True)}


def _before_head(program: Program, name: str) -> str:
    start = name
    while name in program.producers and program.operators[program.producers[name]].kind in _HEADS:
        name = program.operators[program.producers[name]].inputs[0]
    return start if name in program.inputs else name


def _as_fed(tensor: Tensor, array: Array) -> Array:
    """A sample as the manual says that the input takes it: uint8 pixels, int8 pixels less 128, float32 as they are."""
    if array.dtype == np.uint8:
        return (array.astype(np.int16) - 128).astype(np.int8) if tensor.type == "INT8" else array.astype(tensor.dtype)
    if tensor.quantization is None:
        return array.astype(tensor.dtype)
    (scale,), (zero,) = tensor.quantization.scale, tensor.quantization.zero_point
    limits = np.iinfo(tensor.dtype)
    codes: Array = np.clip(np.rint(array / scale) + zero, limits.min, limits.max).astype(tensor.dtype)
    return codes


def _real(tensor: Tensor, values: Array) -> Array:
    if tensor.quantization is None:
        return np.array(values, np.float64)
    (scale,), (zero,) = tensor.quantization.scale, tensor.quantization.zero_point
    real: Array = scale * (values.astype(np.float64) - zero)
    return real


def _decibels(truth: Array, found: Array) -> float:
    noise = float(((found - truth) ** 2).mean())
    signal = float(truth.var()) or float((truth**2).mean())
    return inf if noise == 0 else 10 * log10(max(signal, 1e-30) / noise)
