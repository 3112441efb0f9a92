"""A trained graph to a TFLite program: float32 as it is, or int8 with the ranges that lose least.

Where it is not said how to choose ranges, every way is tried and measured: candidates run on LiteRT over calibration
samples, and the one whose outputs come nearest to the float program's is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

import numpy as np

from cnnc import ops
from cnnc.backends.tflite.litert.execute import execute
from cnnc.backends.tflite.lowering.graph import Lowered, lower
from cnnc.backends.tflite.lowering.lowering_site import Flavour
from cnnc.backends.tflite.lowering.work import macs
from cnnc.backends.tflite.quantization.calibrate import Calibration, calibrate
from cnnc.backends.tflite.quantization.fidelity import Measurement, as_input, decibels, measure
from cnnc.backends.tflite.quantization.input_normalization import absorb, round_means
from cnnc.backends.tflite.quantization.quantize import Io, Known, quantize
from cnnc.backends.tflite.quantization.ranges import METHODS, Method
from cnnc.backends.tflite.quantization.scales import PIXELS, Range, decode
from cnnc.backends.tflite.quantization.warnings import warnings
from cnnc.diagnostics import Diagnostic
from cnnc.ir import Graph
from cnnc.ir.model import Model
from cnnc.passes.equalize import equalize
from cnnc.passes.pipelines import INFERENCE, INFERENCE_INT8, Trace, run
from cnnc.tflite_file.program import Array, Program, Quantization, Sample, Tensor, name_ends

Choice = Literal["auto", "minmax", "percentile", "mse", "entropy"]
_JUDGES: Final = 8
"""So many samples at least judge the candidates, of all if there are more; and so many more as make `_JUDGED_MACS`."""
_JUDGED_MACS: Final = 4e9
"""Multiply-accumulates that judging a candidate takes where it can: as ten samples do in a network of middle size."""
_HEADS: Final = ("SOFTMAX", "LOGISTIC", "RESHAPE")
"""Operators at the end of a program whose input tells more of an error than their output."""


@dataclass(frozen=True)
class Settings:
    """How to quantise. None leaves a choice to measurement."""

    io: Io = "int8"
    method: Choice = "auto"
    correct_biases: bool | None = None
    equalize: bool | None = None


@dataclass(frozen=True)
class Candidate:
    """A way to quantise and the signal-to-noise ratio of its outputs in dB; the larger the better."""

    method: Method
    correct_biases: bool
    equalized: bool
    sqnr: float | None = None


@dataclass(frozen=True, eq=False)
class Quantized:
    """The int8 program of a model, what was tried for it, best first, and the nodes that stayed float.

    How near it is to the float program is measured on `judges` when it is asked for.
    """

    program: Program
    candidates: tuple[Candidate, ...]
    islands: tuple[str, ...]
    model: Model
    judges: tuple[Sample, ...]

    @cached_property
    def measurement(self) -> Measurement:
        """Every output, and the tensors on the way, beside the float program's."""
        graph, equalized = self.model.graph, self.candidates[0].equalized
        return measure(self._exact, self.program, graph, self.judges, equalized=equalized)

    @cached_property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Warnings for the program's user."""
        return warnings(self._exact, self.program, self.model.graph, self.measurement)

    @cached_property
    def _exact(self) -> Program:
        return compile_float(self.model)


def compile_float(model: Model, trace: Trace | None = None) -> Program:
    """The float32 program of a graph and its weights."""
    return name_ends(lower(run(model, INFERENCE, trace=trace), "float").program)


def compile_int8(
    model: Model,
    samples: Sequence[Sample],
    settings: Settings = Settings(),  # a frozen value
    flavour: Flavour = "int8",
    trace: Trace | None = None,
) -> Quantized:
    """The int8 program of a graph, its weights and calibration samples.

    Args:
        model: the graph and its trained weights.
        samples: for each an array `(1, ...)` by the names of the inputs; pixels as uint8.
        settings: how to quantise.
        flavour: `int8` for any LiteRT, `edgetpu` for operators that the Edge TPU has.
        trace: told of what the passes do.

    Raises:
        CnnError: `calibration`, when samples are missing or the network is not finite on one.
    """
    search = _Search(run(model, INFERENCE_INT8, trace=trace), samples, flavour, settings.io)
    found = search.best(settings)
    chosen = found[0]
    state = search.state(equalized=chosen.equalized)
    program = search.program(chosen, settings.io)
    origins = (op.origin for op in program if op.outputs[0] in state.lowered.float_only)
    islands = tuple(dict.fromkeys(_island(search.model.graph, origin) for origin in origins))
    judges = tuple(samples[index] for index in _judges(samples, program))
    return Quantized(name_ends(program), tuple(found), islands, model, judges)


def _island(graph: Graph, origin: str) -> str:
    """The layer without an int8 form that an operator is of: an activation is of what it follows, fused or not."""
    node = graph[origin]
    while isinstance(node.op, ops.Relu | ops.Relu6):
        node = graph[node.inputs[0]]
    return node.name


@dataclass(frozen=True, eq=False)
class _State:
    """A model lowered and calibrated; `known` holds its rounded weights."""

    lowered: Lowered
    calibration: Calibration
    known: Known


class _Search:
    def __init__(self, model: Model, samples: Sequence[Sample], flavour: Flavour, io: Io) -> None:
        pixels = _pixel_inputs(model.graph, samples)
        if io == "float32":  # takes pixels: only bytes can be read through another scale
            self.model, self.given = round_means(model, pixels), dict.fromkeys(pixels, PIXELS)
        else:
            self.model, self.given = absorb(model, pixels)
        self.raw = samples
        self.samples = [
            {name: _as_real(array, self.given.get(name)) for name, array in sample.items()} for sample in samples
        ]
        self.flavour = flavour
        self.states: dict[bool, _State] = {}

    def state(self, *, equalized: bool) -> _State:
        if equalized not in self.states:
            model = self.equalized if equalized else self.model
            lowered = lower(model, self.flavour)
            watch = decisive(lowered.program)
            calibration = calibrate(lowered.program, self.samples, watch, lowered.float_only)
            self.states[equalized] = _State(lowered, calibration, {})
        return self.states[equalized]

    @cached_property
    def equalized(self) -> Model:
        """The model with its layers' ranges evened out by the activations that were seen."""
        peaks = self.state(equalized=False).calibration.peaks()
        return equalize(self.model, {name: peak for name, peak in peaks.items() if name in self.model.graph.by_name})

    def gains_by_equalizing(self) -> bool:
        """Whether that changes a depthwise convolution: other layers' filters have scales of their own as they are."""
        depthwise = [node.name for node in self.model.graph if isinstance(node.op, ops.Depthwise)]
        before, after = self.model.weights, self.equalized.weights if depthwise else {}
        return any(before[name]["kernel"] is not after[name]["kernel"] for name in depthwise)

    def best(self, settings: Settings) -> list[Candidate]:
        methods: list[Method] = [*METHODS] if settings.method == "auto" else [settings.method]
        correct = settings.correct_biases is not False
        found = [Candidate(method, correct, bool(settings.equalize)) for method in methods]
        if len(found) > 1:
            found = self.judged(found)
        if settings.correct_biases is None and settings.method == "auto":
            found = self.judged([*found, replace(found[0], correct_biases=False, sqnr=None)])
        if settings.equalize is None and settings.method == "auto" and self.gains_by_equalizing():
            found = self.judged([*found, replace(found[0], equalized=True, sqnr=None)])
        return found

    def judged(self, candidates: list[Candidate]) -> list[Candidate]:
        """The candidates with their figures, best first; of equals the first."""
        known = [each if each.sqnr is not None else replace(each, sqnr=self.sqnr(each)) for each in candidates]
        return sorted(known, key=lambda each: -(each.sqnr if each.sqnr is not None else 0.0))

    def program(self, candidate: Candidate, io: Io) -> Program:
        state = self.state(equalized=candidate.equalized)
        choose = METHODS[candidate.method]
        ranges: dict[str, Range] = {name: choose(seen) for name, seen in state.calibration.statistics.items()}
        means = state.calibration.means() if candidate.correct_biases else None
        return quantize(state.lowered, ranges, io=io, given=self.given, means=means, known=state.known)

    def sqnr(self, candidate: Candidate) -> float:
        """Of the worst output, so that none hides behind another."""
        state = self.state(equalized=candidate.equalized)
        program = self.program(candidate, "int8")
        watch = decisive(state.lowered.program)
        noise, signal = dict.fromkeys(watch, 0.0), dict.fromkeys(watch, 0.0)
        with execute(replace(program, outputs=watch, output_names=watch)) as infer:
            for index in _judges(self.raw, program):
                sample, expected = self.raw[index], state.calibration.watched[index]
                values = infer({name: as_input(program[name], sample[name]) for name in program.inputs})
                for name in watch:
                    real, truth = _decoded(program[name], values[name]), expected[name].astype(np.float64)
                    noise[name] += float(((real - truth) ** 2).mean())
                    signal[name] += float(truth.var()) or float((truth**2).mean())
                del values
        return min(decibels(signal[name], noise[name]) for name in watch)


def _judges(samples: Sequence[Sample], program: Program) -> list[int]:
    """Which samples judge a program: few where it is large."""
    work = sum(macs(program, operator) for operator in program)
    return spread(len(samples), max(_JUDGES, int(_JUDGED_MACS / max(1, work))))


def spread(count: int, wanted: int) -> list[int]:
    """So many numbers below a count, evenly, for samples may come class by class; all where there are fewer."""
    wanted = min(wanted, count)
    return [index * count // wanted for index in range(wanted)]


def decisive(program: Program) -> tuple[str, ...]:
    """For every output the tensor before its last softmax or sigmoid, or itself."""
    found = []
    for name in program.outputs:
        while name in program.producers and program.operators[program.producers[name]].kind in _HEADS:
            name = program.operators[program.producers[name]].inputs[0]
        found.append(name)
    return tuple(dict.fromkeys(name for name in found if name not in program.inputs)) or program.outputs


def _decoded(tensor: Tensor, codes: Array) -> Array:
    if tensor.quantization is None:
        return np.asarray(codes, np.float64)
    return decode(codes, tensor.quantization)


def _as_real(array: Array, given: Quantization | None) -> Array:
    """A sample as the float program takes it: what the codes of bytes stand for, and other numbers as they are."""
    if given is not None:
        return decode(array.astype(np.int16) - 128, given).astype(np.float32)
    return array.astype(np.float32 if array.dtype in (np.uint8, np.float32, np.float64) else np.int32)


def _pixel_inputs(graph: Graph, samples: Sequence[Sample]) -> frozenset[str]:
    """The inputs of real values that are fed with bytes."""
    of_bytes = {name for sample in samples[:1] for name, array in sample.items() if array.dtype == np.uint8}
    return frozenset(
        node.name
        for node in graph.inputs
        if node.name in of_bytes and isinstance(node.op, ops.Input) and node.op.dtype == "float"
    )
