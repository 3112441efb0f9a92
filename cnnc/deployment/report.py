"""The report of a compilation, in words and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from cnnc.diagnostics import Diagnostic
from cnnc.passes.pipelines import Change
from cnnc.tflite_file.program import Program
from cnnc.wording import number_of, quoted

if TYPE_CHECKING:
    from cnnc.backends.tflite.quantization.fidelity import Fidelity, Measurement
    from cnnc.evaluation.evaluate import Agreement

_FALL: Final = 6.0
"""dB, one bit: a tensor that loses more beside those that it is made of is named."""
_CLEAR: Final = 30.0
"""dB from which on a tensor is as near as 8 bits come."""
_NAMED: Final = 3

PASSES: Final[Mapping[str, str]] = {
    "drop_dead": "left out, as no output needs them",
    "drop_identities": "left out, as they do nothing at inference",
    "fold_batch_norm": "batch norms folded into the layers before them",
    "fold_batch_norm_forward": "batch norms folded into the layers after them",
    "merge_pad": "zero padding merged into the convolutions after it",
    "merge_convolutions": "convolutions merged into the ones after them",
    "merge_branches": "branches of sums merged into one convolution each",
    "fold_bgr": "reversed channels folded into the kernels",
    "fold_normalize_scale": "deviations of `normalize` folded into the layers after it",
    "fold_normalize_mean": "means of `normalize` folded into the layers after it",
    "fold_channel_normalize_scale": "deviations of `normalize`, one a channel, folded into the layers after it",
    "fold_channel_normalize_mean": "means of `normalize`, one a channel, folded into the layers after it",
    "prefer_same": "explicit padding that is the same as SAME or VALID",
}
"""A phrase for the effect of each pass."""


@dataclass(frozen=True, eq=False)
class Compiled:
    """A file made: its bytes and how it came about. What does not apply to a target is empty."""

    target: str
    data: bytes
    model: str
    program: Program | None = None
    changes: tuple[Change, ...] = ()
    candidates: tuple[Any, ...] = ()
    samples: str = ""
    islands: tuple[str, ...] = ()
    accuracy: Agreement | None = None
    """Of the float program and the int8 one, both on LiteRT."""
    notes: tuple[str, ...] = ()
    measurement: Measurement | None = None
    warnings: tuple[Diagnostic, ...] = ()


def operator_counts(program: Program) -> list[tuple[str, int, int]]:
    """Kinds of operators with version and number, the most frequent first."""
    counts = Counter((operator.name, operator.version) for operator in program)
    return [(name, version, count) for (name, version), count in counts.most_common()]


def fused_count(program: Program) -> int:
    """How many activations their producers compute."""
    return sum(operator.options.get("activation", "NONE") != "NONE" for operator in program)


def to_json(compiled: Compiled, output: str) -> dict[str, Any]:
    """The report as `cnnc compile --format json` prints it."""
    words: dict[str, Any] = {
        "model": compiled.model,
        "target": compiled.target,
        "output": output,
        "bytes": len(compiled.data),
    }
    if compiled.program is not None:
        words["inputs"], words["outputs"] = (_ends(compiled.program, each) for each in ("inputs", "outputs"))
        words["operators"] = [
            {"op": name, "version": version, "count": count}
            for name, version, count in operator_counts(compiled.program)
        ]
        words["fused_activations"] = fused_count(compiled.program)
    words["passes"] = [_change(change) for change in compiled.changes]
    if compiled.candidates:
        words["quantization"] = {
            "samples": compiled.samples,
            "chosen": _candidate(compiled.candidates[0]),
            "tried": [_candidate(each) for each in compiled.candidates],
            "float_islands": list(compiled.islands),
        }
    if compiled.measurement is not None:
        words["quantization"]["signal_to_noise"] = _measured(compiled.measurement)
    if compiled.accuracy is not None:
        found = compiled.accuracy
        words["accuracy"] = {
            "data": found.what,
            "count": found.count,
            "float_top1": found.first,
            "int8_top1": found.second,
            "agreement": found.agreeing,
        }
    words["notes"] = list(compiled.notes)
    words["warnings"] = [warning.to_json() for warning in compiled.warnings]
    return words


def in_words(compiled: Compiled) -> list[str]:
    """The report as lines for a terminal."""
    lines = [f"{PASSES[change.name]}: {_counted(change)}" for change in compiled.changes]
    program = compiled.program
    if program is not None:
        kinds = ", ".join(f"{count} {name}@{version}" for name, version, count in operator_counts(program))
        lines.append(f"{number_of(len(program.operators), 'operator')}: {kinds}")
        if fused := fused_count(program):
            lines.append(f"fused into the operators before them: {number_of(fused, 'activation')}")
        ends = [_end(end) for which in ("inputs", "outputs") for end in _ends(program, which)]
        lines.append(f"in and out: {', '.join(ends)}")
    if compiled.candidates:
        best = compiled.candidates[0]
        lines.append(f"ranges: {_described(best)}, measured on {compiled.samples}")
        if len(compiled.candidates) > 1:
            others = "; ".join(f"{_described(each)} {_decibels(each.sqnr)}" for each in compiled.candidates[1:])
            lines.append(f"  chosen at {_decibels(best.sqnr)}; tried, too: {others}")
    if compiled.measurement is not None:
        lines += _fidelity(compiled.measurement)
    if compiled.islands:
        lines.append(f"stay in float, as TFLite has no int8 form of them: {quoted(compiled.islands, 6)}")
    if compiled.accuracy is not None:
        found = compiled.accuracy
        lines.append(
            f"top-1 on {found.what}: float {100 * found.first:.2f} %, int8 {100 * found.second:.2f} %; "
            f"the same answer to {100 * found.agreeing:.2f} %"
        )
    return lines


def _change(change: Change) -> Mapping[str, Any]:
    return {
        "pass": change.name,
        "removed": [node.name for node in change.removed],
        "changed": [node.name for node in change.changed],
    }


def _counted(change: Change) -> str:
    """`53 bn`: what went, or where nothing did, what was changed."""
    counts = Counter(node.op.name for node in change.removed or change.changed)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _ends(program: Program, which: str) -> list[dict[str, Any]]:
    tensors: tuple[str, ...] = getattr(program, which)
    labels = (program.input_names if which == "inputs" else program.output_names) or tensors
    return [
        {
            "name": label,
            "type": program[name].type.lower(),
            "shape": list(program[name].shape),
            "scale": found.scale[0] if (found := program[name].quantization) else None,
            "zero_point": found.zero_point[0] if found else None,
        }
        for label, name in zip(labels, tensors, strict=True)
    ]


def _end(end: Mapping[str, Any]) -> str:
    """`input` 1x8x8x1 of uint8."""
    return f"`{end['name']}` {'x'.join(map(str, end['shape']))} of {end['type']}"


def _candidate(found: Any) -> dict[str, Any]:
    return {
        "method": found.method,
        "bias_correction": found.correct_biases,
        "equalized": found.equalized,
        "sqnr_db": None if found.sqnr is None else _number(found.sqnr),
    }


def _fidelity(found: Measurement) -> list[str]:
    """How near the file comes to the float one, and where it falls back most."""
    outputs = sorted(found.outputs.values(), key=lambda each: each.sqnr)
    figures = [f"`{each.name}` {_decibels(each.sqnr)}" for each in outputs[: 2 * _NAMED]]
    figures += [number_of(len(outputs) - len(figures), "better one")] if len(outputs) > len(figures) else []
    lines = [f"signal to noise beside the float file, on {number_of(found.samples, 'sample')}: {', '.join(figures)}"]
    if fallen := _fallen(found)[:_NAMED]:
        told = (f"`{each.name}`, from {_decibels(each.sqnr + each.fall)} to {_decibels(each.sqnr)}" for each in fallen)
        lines.append(f"  it falls at {', '.join(told)}")
    return lines


def _fallen(found: Measurement) -> list[Fidelity]:
    fallen = [each for each in found.tensors.values() if each.fall >= _FALL and each.sqnr < _CLEAR]
    return sorted(fallen, key=lambda each: -each.fall)


def _measured(found: Measurement) -> dict[str, Any]:
    return {
        "samples": found.samples,
        "outputs": [{"name": each.name, "sqnr_db": _number(each.sqnr)} for each in found.outputs.values()],
        "tensors": [
            {"name": each.name, "layer": each.origin, "sqnr_db": _number(each.sqnr), "clipped": each.clipped}
            for each in found.tensors.values()
        ],
    }


def _number(sqnr: float) -> float | None:
    """Decibels for JSON, which has no infinities: None where nothing differs."""
    return round(sqnr, 2) if isfinite(sqnr) else None if sqnr > 0 else _LEAST


_LEAST: Final = -1000.0


def _decibels(value: float) -> str:
    return f"{value:z.1f} dB" if isfinite(value) else "exact" if value > 0 else "no numbers"


def _described(found: Any) -> str:
    """`minmax with biases corrected`."""
    extras = ["biases corrected"] * found.correct_biases + ["layers equalised"] * found.equalized
    return f"{found.method}{' with ' + ' and '.join(extras) if extras else ''}"
