"""The Edge TPU compiler's verdict on a TFLite file, any file, predicted from rules and published facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cnnc.backends.edgetpu import facts
from cnnc.backends.edgetpu.certainty import GRADES, Certainty, Doubt, doubt
from cnnc.backends.edgetpu.latency import Latency, latency
from cnnc.backends.edgetpu.memory import Parameters, activation_bytes, parameters
from cnnc.backends.edgetpu.operator_view import Site
from cnnc.backends.edgetpu.partition import first_part
from cnnc.backends.edgetpu.refusals import Refusal, refusals
from cnnc.backends.edgetpu.rules import Rule, first_broken
from cnnc.backends.edgetpu.warnings import Caution, cautions
from cnnc.frozen import dataclass
from cnnc.tflite_file.program import File, Operator, Program


@dataclass(frozen=True)
class Verdict:
    """An operator of the file and where it will run. `name` is its first output's.

    `certainty` grades what `mapped` says. Where that is no more than an assumption, or likely, `doubt` says why.
    """

    index: int
    op: str
    version: int
    name: str
    mapped: bool
    certainty: Certainty = "known"
    reason: str | None = None
    remedy: str = ""
    source: str | None = None
    doubt: str | None = None
    origin: str = ""
    """The node of the graph that it computes, for files that were compiled from one."""

    @property
    def status(self) -> str:
        """The compiler's words, or that they are not known."""
        if not self.mapped:
            return str(self.reason)
        return facts.STATUS_UNKNOWN if self.certainty == "unknown" else facts.STATUS_MAPPED


@dataclass(frozen=True)
class Cost:
    """The cost of the mapped operators: bytes of parameters and activations, and the time of an inference."""

    parameters: Parameters
    activation_bytes: int
    latency: Latency


@dataclass(frozen=True)
class Report:
    """The prediction for a file.

    `refused` are the reasons why the compiler takes no part of it; the operators then say what would come once they are
    mended. `cut` is the index of the first operator that is kept on the CPU by a rule, with operators of the Edge TPU
    before it, and None where nothing cuts the graph. `mapped_at_least` is how many operators are mapped if all that
    are `unknown` stay on the CPU. `cost` is None where nothing of the file comes to the Edge TPU.
    """

    operators: tuple[Verdict, ...]
    refused: tuple[Refusal, ...]
    warnings: tuple[Caution, ...]
    cut: int | None
    mapped_at_least: int
    cost: Cost | None

    @property
    def compiles(self) -> bool:
        return not self.refused

    @property
    def mapped(self) -> Mapping[Certainty, int]:
        """How many operators are mapped, by the grade of certainty."""
        counts = Counter(verdict.certainty for verdict in self.operators if verdict.mapped)
        return {grade: counts[grade] for grade in GRADES}


def check(file: File) -> Report:
    """Predict what edgetpu_compiler 16.0 makes of a file."""
    program = file.main
    sites = [Site(program, operator) for operator in program]
    broken = [first_broken(site) for site in sites]
    doubts = [doubt(site) if rule is None else None for site, rule in zip(sites, broken, strict=True)]
    inside = first_part(program, [rule is None for rule in broken])
    cut = _cut(program, inside, broken)
    later = _later(None if cut is None else broken[cut])
    verdicts = [
        _mapped(i, operator, doubts[i]) if i in inside else _unmapped(i, operator, broken[i] or later)
        for i, operator in enumerate(program.operators)
    ]
    refused = refusals(file)
    mapped = sorted(inside)
    cost = _cost(program, mapped) if mapped and not refused else None
    sure = [i in inside and (each is None or each.certainty != "unknown") for i, each in enumerate(doubts)]
    return Report(
        tuple(verdicts),
        refused,
        cautions(program, mapped, cost.parameters, cost.activation_bytes, cost.latency) if cost else (),
        cut,
        len(first_part(program, sure)),
        cost,
    )


def _mapped(index: int, operator: Operator, unsure: Doubt | None) -> Verdict:
    about = (index, operator.name, operator.version, _name(operator), True)
    if unsure is None:
        return Verdict(*about, origin=operator.origin)
    return Verdict(*about, unsure.certainty, remedy=unsure.remedy, doubt=unsure.reason, origin=operator.origin)


def _unmapped(index: int, operator: Operator, rule: Rule) -> Verdict:
    about = (index, operator.name, operator.version, _name(operator), False)
    return Verdict(*about, rule.certainty, rule.reason, rule.remedy, rule.source, origin=operator.origin)


def _name(operator: Operator) -> str:
    return next((name for name in operator.outputs if name), "")


def _later(cutting: Rule | None) -> Rule:
    """The rule for an operator that breaks none itself, as certain as the one that cuts the graph before it."""
    return Rule(
        (),
        lambda site: True,
        facts.SUBGRAPH,
        "it comes after an operator that stays on the CPU: mend that one, or move it to the end of the graph",
        "google-coral/edgetpu 317, 461: one part of the graph goes to the Edge TPU",
        cutting.certainty if cutting else "known",
    )


def _cut(program: Program, inside: Collection[int], broken: Sequence[Rule | None]) -> int | None:
    """The first operator that is kept off by a rule and reads what the Edge TPU computes."""
    reached: set[str] = set()
    for i, operator in enumerate(program.operators):
        if i in inside:
            reached.update(operator.outputs)
        elif broken[i] is not None and reached.intersection(operator.inputs):
            return i
    return None


def _cost(program: Program, mapped: Sequence[int]) -> Cost:
    sizes = parameters(program, (program.operators[i] for i in mapped))
    return Cost(sizes, activation_bytes(program, mapped), latency(program, mapped, sizes.streamed))


def to_json(report: Report) -> dict[str, Any]:
    """The report for tools; `reason` is null for a mapped operator, times are milliseconds.

    What cannot be told, as of a file that is refused, is null.
    """
    cost = report.cost
    time = cost.latency if cost else None
    return {
        "operators": [_verdict_json(verdict) for verdict in report.operators],
        "mapped": dict(report.mapped),
        "mapped_at_least": report.mapped_at_least,
        "cached_bytes": cost.parameters.cached if cost else None,
        "streamed_bytes": cost.parameters.streamed if cost else None,
        "activation_bytes": cost.activation_bytes if cost else None,
        "latency_ms": round(time.ms, 3) if time else None,
        "latency_low_ms": round(time.low, 3) if time else None,
        "latency_high_ms": round(time.high, 3) if time else None,
        "cpu_ms": round(time.cpu_ms, 3) if time else None,
        "cpu_faster": time.is_cpu_faster if time else None,
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


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "index": verdict.index,
        "op": verdict.op,
        "version": verdict.version,
        "name": verdict.name,
        "mapped": verdict.mapped,
        "certainty": verdict.certainty,
        "reason": verdict.reason,
        "doubt": verdict.doubt,
        "remedy": verdict.remedy or None,
        "source": verdict.source,
    }


def _index(index: int) -> int | None:
    return None if index < 0 else index
