"""How near an int8 program comes to the float program of the same network: both run on LiteRT, tensor beside tensor.

Nothing that calibration or quantisation believes has a part in it. The float program is the one that `--target tflite`
writes and gets the samples as they are; the int8 one gets them as a user of the file feeds it, and its values are read
by the scales and zero points that stand in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, log10
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cnnc import ops
from cnnc.backends.tflite.litert.execute import execute
from cnnc.backends.tflite.litert.runner import quantized
from cnnc.ir import Graph
from cnnc.ir.pixels import PIXEL_LAYERS
from cnnc.passes.drop_identities import is_identity
from cnnc.tflite_file.conversion import is_conversion
from cnnc.tflite_file.program import Array, Program, Sample, Tensor

CODES: Final = 16
"""A tensor, or a channel, that would vary by so many codes of its own says something."""
_HEADS: Final = ("SOFTMAX", "LOGISTIC", "RESHAPE", "QUANTIZE", "DEQUANTIZE")
"""Operators at the end of a program whose input tells more of an error than their output."""
_LAST_BITS: Final = 1e-12
"""Of the signal's power: float32 itself computes no nearer."""


@dataclass(frozen=True)
class Fidelity:
    """A tensor of the int8 program beside the float program's.

    Attributes:
        name: of the tensor, or the label of the output that it becomes.
        origin: the node of the graph.
        sqnr: 10 log10(variance of the float values / mean square of the difference) in dB: inf where they are equal,
            -inf where a value is no number. Of float values that are all the same, their square is taken.
        low: the least float value.
        high: the greatest.
        clipped: the share of float values beyond what the codes hold.
        constant: channels of one single code, whose float values would vary by `CODES` codes of their own.
        channels: how many there are.
        before: the least `sqnr` of the measured tensors that it is made of; None where there are none.
    """

    name: str
    origin: str
    sqnr: float
    low: float
    high: float
    clipped: float
    constant: int
    channels: int
    before: float | None = None

    @property
    def fall(self) -> float:
        """The decibels that are lost here."""
        return 0.0 if self.before is None or self.before == self.sqnr else self.before - self.sqnr


@dataclass(frozen=True, eq=False)
class Measurement:
    """Measurements on `samples` samples: outputs by label, and the tensors on the way by name, in their order.

    `heads` says of each output which operators of `_HEADS` follow on the tensor that is measured for it.
    """

    outputs: Mapping[str, Fidelity]
    tensors: Mapping[str, Fidelity]
    heads: Mapping[str, tuple[str, ...]]
    samples: int


def measure(
    exact: Program, rounded: Program, graph: Graph, samples: Sequence[Sample], *, equalized: bool = False
) -> Measurement:
    """An int8 program beside the float one.

    Args:
        exact: the float program.
        rounded: the int8 one; its tensors bear the names of the float one's where they hold the same.
        graph: the network that both were made of.
        samples: for each an array `(1, ...)` by the names of the inputs; pixels as uint8.
        equalized: whether the int8 program's channels have factors that the next layer takes back, which are divided
            out of all tensors but the outputs.
    """
    ends = {
        label: _before_heads(exact, float_output, rounded, output)
        for label, float_output, output in zip(exact.output_names, exact.outputs, rounded.outputs, strict=True)
    }
    sources = _sources(exact, rounded, graph)
    for (_, before, _), output in zip(ends.values(), rounded.outputs, strict=True):
        for name in _after(rounded, before, output):
            sources.pop(name, None)
    pairs = {**sources, **{name: float_name for float_name, name, _ in ends.values()}}
    names = [name for name in rounded.tensors if name in pairs]
    outputs = {name for _, name, _ in ends.values()}
    sums = {name: _Sums(rounded[name], equalized=equalized and name not in outputs) for name in names}
    _run_both(exact, rounded, graph, samples, pairs, sums)
    origins = {name: operator.origin for operator in rounded for name in operator.outputs}
    fidelities = {name: sums[name].fidelity(name, origins.get(name, name)) for name in names}
    return Measurement(
        {label: replace(fidelities[name], name=label) for label, (_, name, _) in ends.items()},
        {
            name: replace(fidelities[name], before=_before(rounded, fidelities, name))
            for name in names
            if name in sources
        },
        {label: heads for label, (_, _, heads) in ends.items()},
        len(samples),
    )


def _run_both(
    exact: Program,
    rounded: Program,
    graph: Graph,
    samples: Sequence[Sample],
    pairs: Mapping[str, str],
    sums: Mapping[str, _Sums],
) -> None:
    """Add the values of both programs to the sums: `pairs` gives the float tensor of every int8 one."""
    float_names = tuple(dict.fromkeys(pairs[name] for name in sums if pairs[name] not in exact.inputs))
    names = tuple(name for name in sums if name not in rounded.inputs)
    with (
        execute(replace(exact, outputs=float_names, output_names=float_names)) as run_exact,
        execute(replace(rounded, outputs=names, output_names=names)) as run_rounded,
    ):
        for sample in samples:
            float_values = {name: as_input(exact[name], sample[name]) for name in exact.inputs}
            codes = {name: as_input(rounded[name], sample[name]) for name in rounded.inputs}
            _add(sums, pairs, graph, {**float_values, **run_exact(float_values)}, {**codes, **run_rounded(codes)})


def _add(
    sums: Mapping[str, _Sums],
    pairs: Mapping[str, str],
    graph: Graph,
    float_values: Mapping[str, Array],
    codes: Mapping[str, Array],
) -> None:
    """Add a sample's values. The arrays are LiteRT's own memory, to which no reference may stay."""
    inputs = {node.name for node in graph.inputs}
    for name, tensor_sums in sums.items():
        values = float_values[pairs[name]]
        forms = input_forms(graph, pairs[name], values) if pairs[name] in inputs else [values]
        tensor_sums.add(forms, codes[name])


def as_input(tensor: Tensor, array: Array) -> Array:
    """A sample as a user feeds it to an input: bytes are pixels, and other numbers go by the tensor's scale.

    Pixel p is p in uint8 and float32 and p - 128 in int8, whatever the scale: what the scale says of it is its
    normalised value.
    """
    if array.dtype == np.uint8 and tensor.type == "INT8":
        return (array.astype(np.int16) - 128).astype(np.int8)
    converted: Array = quantized(tensor, array) if array.dtype.kind == "f" else array.astype(tensor.dtype)
    return converted


def decibels(signal: float, noise: float) -> float:
    """The ratio of two powers in dB: inf without noise but the last bits of float32, -inf where either is no number."""
    if not (isfinite(signal) and isfinite(noise)):
        return -inf
    if noise <= _LAST_BITS * signal:
        return inf
    return 10 * log10(signal / noise) if signal > 0 else -inf


class _Sums:
    """Sums over a tensor's values by channel, and for each form in which the float values may be meant."""

    def __init__(self, tensor: Tensor, *, equalized: bool) -> None:
        self.tensor = tensor
        self.equalized = equalized
        self.channels = tensor.shape[-1] if len(tensor.shape) > 1 else 1
        self.forms: list[dict[str, NDArray[np.float64]]] = []
        self.code_low = np.full(self.channels, inf)
        self.code_high = np.full(self.channels, -inf)
        self.count, self.beyond = 0, np.zeros(0)

    def add(self, forms: Sequence[Array], codes: Array) -> None:
        rows = codes.reshape(-1, self.channels)
        q = _real(self.tensor, rows)
        if not self.forms:
            self.forms = [_empty(self.channels) for _ in forms]
            self.beyond = np.zeros(len(forms))
        self.count += q.size
        self.code_low = np.minimum(self.code_low, rows.min(0))
        self.code_high = np.maximum(self.code_high, rows.max(0))
        for index, form in enumerate(forms):
            r = np.asarray(form, np.float64).reshape(-1, self.channels)
            total = self.forms[index]
            products = {"rr": (r, r), "ee": (r - q, r - q)}
            if self.equalized:
                products |= {"qq": (q, q), "rq": (r, q)}
            for key, (a, b) in products.items():
                total[key] += np.einsum("ij,ij->j", a, b)
            total["r"] += r.sum(0)
            total["low"], total["high"] = np.minimum(total["low"], r.min(0)), np.maximum(total["high"], r.max(0))
            self.beyond[index] += self._beyond(r)

    def _beyond(self, values: NDArray[np.float64]) -> int:
        if self.tensor.quantization is None:
            return 0
        limits = np.iinfo(self.tensor.dtype)
        low, high = _real(self.tensor, np.array([limits.min, limits.max]))
        step = self.tensor.quantization.scale[0]  # 1 is a step beyond the codes of a sigmoid
        return int(((values < low - step) | (values > high + step)).sum())

    def fidelity(self, name: str, origin: str) -> Fidelity:
        figures = [self._decibels(total) for total in self.forms]
        best = max(range(len(figures)), key=figures.__getitem__)
        total = self.forms[best]
        own = np.maximum(total["high"], 0) - np.minimum(total["low"], 0)
        varies = total["high"] - total["low"] >= own * CODES / 256
        constant = (self.code_low == self.code_high) & varies & (own > 0)
        return Fidelity(
            name,
            origin,
            figures[best],
            float(total["low"].min()),
            float(total["high"].max()),
            0.0 if self.equalized else float(self.beyond[best] / self.count),
            int(constant.sum()),
            self.channels,
        )

    def _decibels(self, total: Mapping[str, NDArray[np.float64]]) -> float:
        signal, noise = float(total["rr"].sum()), float(total["ee"].sum())
        varying = signal - float(total["r"].sum()) ** 2 / self.count
        plain = decibels(varying if varying > 1e-12 * signal else signal, noise)
        if not self.equalized:
            return plain
        rr, rq = total["rr"], total["rq"]
        factors = np.divide(rq, rr, out=np.zeros_like(rr), where=rr > 0)
        return max(plain, decibels(float((factors**2 * rr).sum()), float((total["qq"] - factors * rq).sum())))


def _empty(channels: int) -> dict[str, NDArray[np.float64]]:
    zeros = {key: np.zeros(channels) for key in ("r", "rr", "qq", "rq", "ee")}
    return {**zeros, "low": np.full(channels, inf), "high": np.full(channels, -inf)}


def _real(tensor: Tensor, codes: Array) -> NDArray[np.float64]:
    """The real numbers of stored values, by the file's scale and zero point."""
    real = codes.astype(np.float64)
    if tensor.quantization is None:
        return real
    (scale,), (zero,) = tensor.quantization.scale, tensor.quantization.zero_point
    return scale * (real - zero)


def _before_heads(exact: Program, float_output: str, rounded: Program, output: str) -> tuple[str, str, tuple[str, ...]]:
    """The tensors before the last softmax or sigmoid of an output in both, and which of these follow."""
    (a, kinds), (b, others) = _walk(exact, float_output), _walk(rounded, output)
    return (a, b, kinds) if kinds == others and exact[a].size == rounded[b].size else (float_output, output, ())


def _walk(program: Program, name: str) -> tuple[str, tuple[str, ...]]:
    start, kinds = name, list[str]()
    while name in program.producers and program.operators[program.producers[name]].kind in _HEADS:
        operator = program.operators[program.producers[name]]
        if operator.kind in ("SOFTMAX", "LOGISTIC"):
            kinds.append(operator.kind)
        name = operator.inputs[0]
    return (start, ()) if name in program.inputs else (name, tuple(kinds))


def _after(program: Program, before: str, name: str) -> Iterator[str]:
    """The tensors from an output back to the one that is measured for it, which is left out."""
    while name != before:
        yield name
        name = program.operators[program.producers[name]].inputs[0]


def _sources(exact: Program, rounded: Program, graph: Graph) -> dict[str, str]:
    """The float tensor whose value each activation of the int8 program holds; for what is only converted, the same."""
    # The passes fold what prepares pixels differently in float and in int8: tensors of one name are not of one value.
    named = {*exact.outputs} | {node.name for node in graph if not isinstance(node.op, PIXEL_LAYERS)}
    sources = {name: name for name in rounded.inputs if rounded[name].type != "INT32"}
    for operator in rounded:
        for name in operator.outputs:
            if operator.inputs[0] in sources and is_conversion(rounded, operator):
                sources[name] = sources[operator.inputs[0]]
            elif name in named and name in exact.tensors and exact[name].size == rounded[name].size:
                sources[name] = name
    return sources


def read(program: Program, name: str) -> list[str]:
    """The activations that a tensor is computed from."""
    if name not in program.producers:
        return []
    operator = program.operators[program.producers[name]]
    return [each for each in operator.inputs if each and program[each].data is None]


def _before(rounded: Program, fidelities: Mapping[str, Fidelity], name: str) -> float | None:
    """The least figure of the measured tensors that one is made of, with nothing measured between."""
    figures, seen, waiting = [], set(), read(rounded, name)
    while waiting:
        source = waiting.pop()
        if source in fidelities:
            figures.append(fidelities[source].sqnr)
        elif source not in seen:
            seen.add(source)
            waiting += read(rounded, source)
    return min(figures, default=None)


def input_forms(graph: Graph, name: str, values: Array) -> list[Array]:
    """The values that an input of an int8 program may hold: as they are, or normalised where that is done first.

    Reversed channels are folded into what reads them, and what changes nothing is left out: a normalisation behind
    these is as near to the input.
    """
    forms, waiting = [values], [name]
    while waiting:
        for reader in graph.consumers[waiting.pop()]:
            if isinstance(reader.op, ops.Bgr) or is_identity(graph, reader):
                waiting.append(reader.name)
            elif isinstance(reader.op, ops.Normalize):
                mean, std = np.asarray(reader.op.mean, np.float64), np.asarray(reader.op.std, np.float64)
                forms.append((values.astype(np.float64) - mean) / std)
    return forms
