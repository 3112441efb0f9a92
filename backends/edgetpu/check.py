"""What the Edge TPU's compiler will say of a TFLite file, any file, predicted from rules and published facts."""

from __future__ import annotations

from typing import Any

from cnnc.backends.edgetpu import facts
from cnnc.backends.edgetpu.estimate import Latency, latency
from cnnc.backends.edgetpu.memory import activation_bytes, parameters
from cnnc.backends.edgetpu.partition import first_part
from cnnc.backends.edgetpu.registration import Refusal, refusals
from cnnc.backends.edgetpu.rules import first_broken
from cnnc.backends.edgetpu.site import Site
from cnnc.backends.edgetpu.warn import Caution, cautions
from cnnc.diagnostics import Diagnostic, Label
from cnnc.ir import Graph
from cnnc.record import dataclass
from cnnc.tflite.program import File, Program


@dataclass(frozen=True)
class Verdict:
    """An operator of the file and where it will run. `name` is its first output's, `status` the compiler's words."""

    index: int
    op: str
    version: int
    name: str
    mapped: bool
    reason: str | None = None
    remedy: str | None = None
    source: str | None = None
    origin: str = ""
    """The node of the graph that it computes, for files that were compiled from one."""

    @property
    def status(self) -> str:
        return facts.STATUS_MAPPED if self.mapped else str(self.reason)


@dataclass(frozen=True)
class Report:
    """What is predicted of a file. Bytes and latency are those of the operators that are mapped.

    `refused` are the reasons why the compiler takes no part of it; the other fields then say what would come after they
    are mended. `cut` is the index of the first operator that is kept on the CPU by a rule, with operators of the Edge
    TPU before it, and None where nothing cuts the graph.
    """

    operators: tuple[Verdict, ...]
    refused: tuple[Refusal, ...]
    warnings: tuple[Caution, ...]
    cut: int | None
    cached_bytes: int
    streamed_bytes: int
    activation_bytes: int
    latency: Latency

    @property
    def compiles(self) -> bool:
        return not self.refused

    @property
    def is_whole(self) -> bool:
        """Whether every operator is mapped."""
        return self.compiles and all(verdict.mapped for verdict in self.operators)


def check(file: File) -> Report:
    """Predict what edgetpu_compiler 16.0 makes of a file."""
    program = file.main
    broken = [first_broken(Site(program, operator)) for operator in program]
    inside = first_part(program, [rule is None for rule in broken])
    verdicts = []
    for i, operator in enumerate(program):
        rule = broken[i]
        name = next((name for name in operator.outputs if name), "")
        about = (i, operator.name, operator.version, name)
        if i in inside:
            verdicts.append(Verdict(*about, mapped=True, origin=operator.origin))
        elif rule is None:
            verdicts.append(Verdict(*about, False, facts.SUBGRAPH, _LATER, _ONE_PART, operator.origin))
        else:
            verdicts.append(Verdict(*about, False, rule.reason, rule.remedy, rule.source, operator.origin))
    mapped = sorted(inside)
    held = parameters(program, (program.operators[i] for i in mapped))
    most = activation_bytes(program, mapped)
    found = latency(program, mapped, held.streamed)
    return Report(
        tuple(verdicts),
        refusals(file),
        cautions(program, mapped, held, most, found),
        _cut(program, verdicts),
        held.cached,
        held.streamed,
        most,
        found,
    )


_LATER = "it comes after an operator that stays on the CPU: mend that one, or move it to the end of the graph"
_ONE_PART = "google-coral/edgetpu 317, 461: one part of the graph goes to the Edge TPU"


def _cut(program: Program, verdicts: list[Verdict]) -> int | None:
    """The first operator that is kept off by a rule and reads what the Edge TPU computes."""
    reached: set[str] = set()
    for verdict, operator in zip(verdicts, program.operators, strict=True):
        if verdict.mapped:
            reached.update(operator.outputs)
        elif verdict.reason != facts.SUBGRAPH and reached.intersection(operator.inputs):
            return verdict.index
    return None


def to_json(report: Report) -> dict[str, Any]:
    """The report for tools; `reason` is null for a mapped operator, times are milliseconds."""
    return {
        "operators": [
            {
                "index": verdict.index,
                "op": verdict.op,
                "version": verdict.version,
                "name": verdict.name,
                "mapped": verdict.mapped,
                "reason": verdict.reason,
                "remedy": verdict.remedy,
                "source": verdict.source,
            }
            for verdict in report.operators
        ],
        "cached_bytes": report.cached_bytes,
        "streamed_bytes": report.streamed_bytes,
        "activation_bytes": report.activation_bytes,
        "latency_ms": round(report.latency.ms, 3),
        "latency_low_ms": round(report.latency.low, 3),
        "latency_high_ms": round(report.latency.high, 3),
        "cpu_ms": round(report.latency.cpu_ms, 3),
        "cpu_faster": report.latency.is_cpu_faster,
        "compiles": report.compiles,
        "refused": [
            {"message": each.message, "remedy": each.remedy, "source": each.source, "index": _index(each.index)}
            for each in report.refused
        ],
        "warnings": [
            {"message": each.message, "remedy": each.remedy, "index": _index(each.index)} for each in report.warnings
        ],
        "cut": report.cut,
        "compiler": facts.COMPILER,
    }


def _index(index: int) -> int | None:
    return None if index < 0 else index


def locate(report: Report, graph: Graph) -> list[Diagnostic]:
    """What keeps the graph's layers off the Edge TPU, at their places in the spec, once for each layer.

    Of consequences nothing is said: of operators after a cut, and of conversions round layers that stay float.
    """
    refused = {refusal.index: refusal for refusal in report.refused}
    found: dict[str, Diagnostic] = {}
    conversions: dict[str, Diagnostic] = {}
    for verdict in report.operators:
        refusal = refused.get(verdict.index)
        if refusal is not None:
            told = _diagnostic(graph, verdict, refusal.message, _NO_INT8 if verdict.origin else refusal.remedy)
        elif verdict.mapped or verdict.reason in (None, facts.SUBGRAPH):
            continue
        else:
            told = _diagnostic(graph, verdict, str(verdict.reason), verdict.remedy)
        into = conversions if verdict.op in ("QUANTIZE", "DEQUANTIZE") else found
        into.setdefault(verdict.origin or verdict.name, told)
    whole = [_diagnostic(graph, None, each.message, each.remedy) for each in report.refused if each.index < 0]
    return [*whole, *(found or conversions).values()]


_NO_INT8 = "TFLite has no int8 form of it: put another layer in its place, or let the CPU run it"


def _diagnostic(graph: Graph, verdict: Verdict | None, reason: str, remedy: str | None) -> Diagnostic:
    node = graph.by_name.get(verdict.origin) if verdict is not None else None
    if verdict is None:
        return Diagnostic("target", f"the Edge TPU cannot run `{graph.name}`: {_lower(reason)}", help=remedy)
    layer = f"layer `{verdict.origin}`" if node is not None else f"`{verdict.name}`"
    message = f"the Edge TPU cannot run {layer}, which becomes {verdict.op}: {_lower(reason)}"
    if node is None or node.origin is None:
        return Diagnostic("target", message, help=remedy)
    return Diagnostic("target", message, Label(node.origin.span), notes=node.origin.notes, help=remedy)


def _lower(reason: str) -> str:
    """A reason of the compiler's inside a sentence of ours."""
    return reason[:1].lower() + reason[1:]
