"""Warnings on an int8 program's losses, at the layer's place in the spec, with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import floor, inf, isfinite
from typing import Final

import numpy as np

from cnnc.backends.tflite.quantization.fidelity import CODES, Fidelity, Measurement, read
from cnnc.backends.tflite.quantization.saturation import read_as
from cnnc.backends.tflite.quantization.scales import SMALLEST_SPAN
from cnnc.diagnostics import Diagnostic, Label
from cnnc.ir import Graph
from cnnc.tflite_file.program import Program
from cnnc.wording import extent, number_of

LEAST: Final = 10.0
"""dB of signal to noise below which an output is no longer the float network's."""
_CLIPPED: Final = 0.05
"""The share of a tensor's values beyond its codes from which on it is saturated."""
_JOINS: Final = ("CONCATENATION", "ADD", "SUB", "MAXIMUM", "MINIMUM")
_LARGE: Final = 1e6
"""Values beyond this are no activations of a trained network."""
_NAMED: Final = 3
"""So many layers are named where more lose the same."""


def warnings(exact: Program, rounded: Program, graph: Graph, measurement: Measurement) -> tuple[Diagnostic, ...]:
    """The warnings of a measured int8 program, none where all is well.

    Args:
        exact: the float program that it was measured beside.
        rounded: the int8 program.
        graph: the network that both were made of.
        measurement: of the int8 program beside the float one.
    """
    return (
        *_faint(rounded, graph, measurement),
        *_constant(graph, measurement),
        *_together(list(_narrow(rounded, graph, measurement))),
        *_together(list(_saturated(exact, rounded, graph, measurement))),
    )


def _faint(rounded: Program, graph: Graph, measurement: Measurement) -> Iterator[Diagnostic]:
    for output, tensor in zip(measurement.outputs.values(), rounded.outputs, strict=True):
        if output.sqnr >= LEAST:
            continue
        first, label = _first_below(rounded, measurement, tensor) or output, ""
        if first is not output:
            label = f"`{first.name}` is the first below {LEAST:g} dB: {_decibels(first.sqnr)}{_after(first.before)}"
        signal = f"{_decibels(output.sqnr)} of signal to noise"
        message = f"the int8 output `{output.name}` is not the float network's: {signal}"
        yield _diagnostic(graph, first.origin, message, label, _remedy(rounded, graph, first))


def _remedy(rounded: Program, graph: Graph, first: Fidelity) -> str:
    """The remedy for the first tensor that falls."""
    if _plain(first.name) in [node.name for node in graph.inputs]:
        return "--io float32 keeps the input's values; else another `normalize`, of one mean and one deviation"
    if first.clipped >= _CLIPPED:
        return _WIDER
    if first.high - first.low < SMALLEST_SPAN:
        return f"values below {SMALLEST_SPAN:g} are taken for zero: a batch norm brings them to the size of 1"
    if max(first.high, -first.low) > _LARGE:
        values = extent(first.low, first.high, ".2g", plural=True)
        return f"its values {values}: a batch norm brings them to the size of 1"
    producer = rounded.producers.get(first.name)
    if producer is not None and rounded.operators[producer].kind in _JOINS:
        return _apart(rounded.operators[producer].kind)
    return "calibrate on other or more pictures (--calibrate, --samples), or bound the layer by a batch norm or relu6"


_WIDER: Final = "--ranges minmax keeps all values, and more pictures (--samples) show more of them"
_APART: Final = "declare them as outputs of their own, or bring them to like ranges before they meet"


def _apart(kind: str) -> str:
    """The remedy for inputs of unlike ranges. A sum is one value: its terms are no outputs of their own."""
    return _APART if kind == "CONCATENATION" else "bring its inputs to like ranges, say by a batch norm of each"


def _constant(graph: Graph, measurement: Measurement) -> Iterator[Diagnostic]:
    for output in measurement.outputs.values():
        # What a softmax or sigmoid makes nothing of may well have one code; and an output that is lost is told as such.
        if output.constant and output.sqnr >= LEAST and not measurement.heads[output.name]:
            count = f"{output.constant} of {number_of(output.channels, 'channel')}"
            message = f"the int8 output `{output.name}` is constant in {count} that vary in the float one"
            yield _diagnostic(graph, output.origin, message, "", _APART)


def _narrow(rounded: Program, graph: Graph, measurement: Measurement) -> Iterator[Diagnostic]:
    for operator in rounded:
        scale = rounded[operator.outputs[0]].quantization if operator.kind in _JOINS else None
        if scale is None:
            continue
        inputs = [measurement.tensors[name] for name in operator.inputs if name in measurement.tensors]
        kept = {each.name: (each.high - each.low) / scale.scale[0] for each in inputs}
        few = [each for each in inputs if each.high > each.low and kept[each.name] < CODES - 1]
        if few:
            least = min(few, key=lambda each: kept[each.name])
            names = " and ".join(f"`{_plain(each.name)}`" for each in few)
            count, verb = int(kept[least.name]) + 1, "keeps" if len(few) == 1 else "keep as few as"
            message = f"`{operator.origin}` joins its inputs on one scale, of whose 256 codes {names} {verb} {count}"
            step = f"a step is {scale.scale[0]:.3g}"
            label = f"{step}, and `{_plain(least.name)}` goes from {least.low:.3g} to {least.high:.3g}"
            yield _diagnostic(graph, operator.origin, message, label, _apart(operator.kind))


def _saturated(exact: Program, rounded: Program, graph: Graph, measurement: Measurement) -> Iterator[Diagnostic]:
    for name, each in measurement.tensors.items():
        if each.clipped < _CLIPPED or _is_flat(exact, name):
            continue
        scale = rounded[name].quantization
        assert scale is not None, name
        limits = np.iinfo(rounded[name].dtype)
        low, high = (scale.scale[0] * (limit - scale.zero_point[0]) for limit in (limits.min, limits.max))
        yield _diagnostic(
            graph,
            each.origin,
            f"`{name}` is cut off in int8: {100 * each.clipped:.0f} % of its values lie beyond what its codes hold",
            f"it {extent(each.low, each.high, '.3g')}, and its codes stand for {low:.3g} to {high:.3g}",
            _WIDER,
        )


def _is_flat(exact: Program, name: str) -> bool:
    """Whether an activation is all that reads a tensor, such as swish, which makes nothing of what was cut off."""
    return name in exact.tensors and read_as(exact, name, np.zeros(1)) is not None


def _first_below(rounded: Program, measurement: Measurement, output: str) -> Fidelity | None:
    """The first measured tensor below `LEAST` on the way to an output."""
    names, waiting = set(), [output]
    while waiting:
        name = waiting.pop()
        if name not in names:
            names.add(name)
            waiting += read(rounded, name)
    return next((each for name, each in measurement.tensors.items() if name in names and each.sqnr < LEAST), None)


def _together(alike: list[Diagnostic]) -> list[Diagnostic]:
    """One warning for many of a kind: the first, with the places of some others."""
    if len(alike) < 2:
        return alike
    first, *others = alike
    own = first.primary.span.location if first.primary is not None else ""
    places = dict.fromkeys(each.primary.span.location for each in others if each.primary is not None)
    elsewhere = [place for place in places if place != own]
    where = f", at {', '.join(elsewhere[:_NAMED])}" if elsewhere else " at this place"
    more = ", ..." if len(elsewhere) > _NAMED else ""
    note = f"and {number_of(len(others), 'more layer')} like it{where}{more}"
    return [replace(first, notes=(*first.notes, note))]


def _diagnostic(graph: Graph, origin: str, message: str, label: str, remedy: str) -> Diagnostic:
    node = graph.by_name.get(origin)
    if node is None or node.origin is None:
        return Diagnostic("quantization", f"{message}; {label}" if label else message, help=remedy)
    return Diagnostic("quantization", message, Label(node.origin.span, label), notes=node.origin.notes, help=remedy)


def _decibels(value: float) -> str:
    # Rounded down: what is below 10 dB is not told as 10.0 dB.
    return f"{floor(10 * value) / 10:.1f} dB" if isfinite(value) else "no number"


def _after(before: float | None) -> str:
    if before is None:
        return ""
    return ", without an error before it" if before == inf else f", after {_decibels(before)} before it"


def _plain(name: str) -> str:
    """A tensor's name without what it says of a conversion."""
    return name.partition(":")[0]
