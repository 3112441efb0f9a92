"""The Edge TPU in `cnnc check` and `cnnc compile`: the prediction, and the result of Google's compiler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from cnnc.backends.edgetpu.locate import locate
from cnnc.backends.edgetpu.prediction import Report, check, to_json
from cnnc.backends.edgetpu.render import render
from cnnc.diagnostics import CnnError, Diagnostic
from cnnc.ir import Graph
from cnnc.tflite_file.program import File, Program
from cnnc.tflite_file.read import open_file, read_file


class Message(NamedTuple):
    """A report, as text and as JSON."""

    text: str
    words: dict[str, Any]


class Predicted(NamedTuple):
    """A prediction, shown and as it is."""

    text: str
    words: dict[str, Any]
    report: Report


def check_file(path: Path, widest: int | None) -> tuple[Predicted, list[Diagnostic]]:
    """The prediction for any TFLite file, and why the compiler would refuse it as a whole."""
    report = check(open_file(path))
    faults = [
        Diagnostic("target", f"the Edge TPU's compiler would refuse `{path}`: {each.message}", help=each.remedy)
        for each in report.refused
    ]
    return _shown(report, str(path), widest), faults


def check_graph(graph: Graph, name: str, widest: int | None) -> tuple[Predicted, list[Diagnostic]]:
    """The prediction for a spec's graph, before it has weights, and its layers that the Edge TPU cannot run."""
    from cnnc.backends.tflite.structure import outline

    report = check(File((outline(graph),)))
    return _shown(report, name, widest, ()), locate(report, graph)


def predict_edgetpu(data: bytes, program: Program, name: str, graph: Graph, *, allow_cpu: bool) -> Predicted:
    """The prediction for a file that was just made. Raises CnnError with what it cannot run, unless the CPU may."""
    report = check(replace(read_file(data, name), programs=(program,)))
    faults = locate(report, graph)
    if faults and not allow_cpu:
        hint = "--allow-cpu leaves such layers, and those after them, to the CPU"
        if not report.compiles:
            hint = (
                "--allow-cpu writes the file for LiteRT on a CPU all the same: the Edge TPU's compiler would refuse it"
            )
        raise CnnError([*faults[:-1], replace(faults[-1], notes=(*faults[-1].notes, hint))])
    return _shown(report, name, None, faults)


def compiled_place(place: Path) -> Path:
    """Where what Google's compiler makes of a file goes: beside it."""
    return place.with_name(f"{place.stem}_edgetpu.tflite")


def run_edgetpu_compiler(predicted: Predicted, data: bytes, place: Path, compiler: Path | None) -> Message:
    """Google's compiler run on a file, the outcome beside the prediction; where it is None, how to get it.

    Raises:
        CnnError: `compiler`, when it fails or takes too long. The int8 file is there all the same.
    """
    from cnnc.backends.edgetpu.compiler import (
        compare,
        missing_message,
        render_comparison,
        run_compiler,
    )
    from cnnc.files import write_atomically

    if compiler is None:
        return Message(missing_message(str(place)), {"found": False})
    try:
        outcome = run_compiler(data, compiler)
    except CnnError as error:
        told = f"the int8 file is written: {place}"
        raise CnnError([replace(each, notes=(told, *each.notes)) for each in error.diagnostics]) from None
    compiled = compiled_place(place)
    write_atomically(compiled, outcome.model)
    comparison = compare(predicted.report, outcome)
    words = {
        "found": True,
        "output": str(compiled),
        "bytes": len(outcome.model),
        "version": outcome.log.version,
        "cached_bytes": outcome.log.cached_bytes,
        "streamed_bytes": outcome.log.streamed_bytes,
        "subgraphs": outcome.log.subgraphs,
        "as_predicted": comparison.agrees,
        "operators": [
            {"op": each.op, "predicted": each.predicted, "actual": each.actual} for each in comparison.pairings
        ],
    }
    text = f"{render_comparison(comparison)}wrote {compiled}, {len(outcome.model):,} bytes"
    return Message(text, words)


def _shown(report: Report, name: str, widest: int | None, faults: Sequence[Diagnostic] | None = None) -> Predicted:
    return Predicted(render(report, name, widest, faults).rstrip("\n"), to_json(report), report)
