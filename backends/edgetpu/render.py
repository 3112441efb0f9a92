"""A prediction as text, laid out as the compiler lays out what it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from re import sub

from cnnc.backends.edgetpu import facts
from cnnc.backends.edgetpu.certainty import GRADES, Certainty
from cnnc.backends.edgetpu.latency import show_ms
from cnnc.backends.edgetpu.memory import ACTIVATION_CAPACITY, CACHE_CAPACITY
from cnnc.backends.edgetpu.prediction import Cost, Report, Verdict
from cnnc.diagnostics import Diagnostic
from cnnc.printable import printable
from cnnc.rendering.text_table import box
from cnnc.wording import number_of

_MOST = 20
"""Operators that are listed one by one."""


def render(
    report: Report, name: str = "the model", widest: int | None = None, faults: Sequence[Diagnostic] | None = None
) -> str:
    """The prediction for a file: operators by status and certainty, those on the CPU with the remedy, and the cost.

    Args:
        report: of `prediction.check`.
        name: what the user calls the file.
        widest: columns of the terminal, None for as wide as the text is.
        faults: what is to be said of the layers on the CPU, in place of the operators that they become.
    """
    parts = [*map(printable, (_headline(report, name), *_refused(report)))]
    if report.operators:
        parts.append(_table(report, widest))
    if all(verdict.op != facts.COMPILED for verdict in report.operators):
        left = _reasons(report) if faults is None else _faults(faults)
        parts += map(printable, (*left, *_cut(report), *_doubts(report)))
    parts += _cost(report.cost) if report.cost else []
    parts += map(printable, _warnings(report))
    return "\n".join(parts) + "\n"


def grouped(report: Report) -> dict[tuple[str, str, Certainty], int]:
    """Numbers of operators by kind, status and certainty."""
    return dict(Counter((verdict.op, verdict.status, verdict.certainty) for verdict in report.operators))


def _headline(report: Report, name: str) -> str:
    if not report.compiles:
        return f"{facts.COMPILER} is predicted to refuse {name}"
    counts, total = report.mapped, len(report.operators)
    predicted = counts["known"] + counts["likely"]
    of = f"all {total}" if predicted == total else f"{predicted} of {total}"
    grades = [f"{counts[grade]} {grade}" for grade in ("known", "likely") if counts[grade]]
    sure = f": {', '.join(grades)}" if grades else ""
    unsure = f"; of {counts['unknown']} it is unknown" if counts["unknown"] else ""
    return f"{facts.COMPILER} is predicted to map {of} operators of {name}{sure}{unsure}"


def _refused(report: Report) -> list[str]:
    lines = []
    for refusal in report.refused[:_MOST]:
        place = f" (operator {refusal.index})" if refusal.index >= 0 else ""
        lines += [f"refused: {refusal.message}{place}", f"  {refusal.remedy} [{refusal.source}]"]
    return [*lines, *_hidden(len(report.refused))]


def _table(report: Report, widest: int | None) -> str:
    rows = [[op, str(count), status, grade] for (op, status, grade), count in sorted(grouped(report).items())]
    is_compiled = any(verdict.op == facts.COMPILED for verdict in report.operators)
    status = "status" if report.compiles or is_compiled else "status once it is not refused"
    return box(["operator", "count", status, "certainty"], [rows], right=(1,), shrink=(2, 0), widest=widest)


def _faults(faults: Sequence[Diagnostic]) -> list[str]:
    return [line for each in faults for line in (each.message, f"  {each.help}")]


def _reasons(report: Report) -> list[str]:
    """Why operators stay on the CPU, like ones listed once, without the reasons that hold for the whole file."""
    known = {refusal.remedy for refusal in report.refused}
    alike: dict[tuple[str, int, str | None, str], list[Verdict]] = {}
    for verdict in report.operators:
        if not verdict.mapped and verdict.reason != facts.SUBGRAPH and verdict.remedy not in known:
            alike.setdefault((verdict.op, verdict.version, verdict.reason, verdict.remedy), []).append(verdict)
    lines = []
    for first, *others in list(alike.values())[:_MOST]:
        lines += [
            f"{first.index} {first.op} version {first.version} `{first.name}`: {first.reason}{_more(others)}",
            f"  {first.remedy} [{first.source}]",
        ]
    return [*lines, *_hidden(len(alike))]


def _cut(report: Report) -> list[str]:
    if report.cut is None:
        return []
    later = sum(verdict.reason == facts.SUBGRAPH for verdict in report.operators)
    after = f"; the CPU runs {number_of(later, 'operator')} after it too" if later else ""
    return [f"the graph is cut at operator {report.cut}, {report.operators[report.cut].op}{after}"]


def _doubts(report: Report) -> list[str]:
    """Doubts that differ in their numbers alone are listed once."""
    alike: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in report.operators:
        if verdict.doubt is not None and report.compiles:
            alike.setdefault((verdict.certainty, sub(r"[\d.]+ ?k?M?B?", "0", verdict.doubt)), []).append(verdict)
    lines = []
    for first, *others in sorted(alike.values(), key=lambda group: -GRADES.index(group[0].certainty))[:_MOST]:
        lines.append(f"{first.certainty}: {first.doubt}{_more(others)}")
        lines += [f"  {first.remedy}"] if first.remedy else []
    lines += _hidden(len(alike))
    if report.mapped["unknown"] and report.compiles:
        few = number_of(report.mapped_at_least, "operator")
        lines.append(f"if what is unknown stays on the CPU, the graph is cut there, and the Edge TPU gets {few}")
    return lines


def _hidden(count: int) -> list[str]:
    """How many of `count` are not listed."""
    return [f"... {count - _MOST} more"] if count > _MOST else []


def _more(others: Sequence[object]) -> str:
    return f" (and {len(others)} more like this)" if others else ""


def _cost(cost: Cost) -> list[str]:
    held, time = cost.parameters, cost.latency
    return [
        f"parameters: {_bytes(held.cached)} on the chip, which holds about {_bytes(int(CACHE_CAPACITY))}; "
        f"{_bytes(held.streamed)} sent with every inference",
        f"activations: at most {_bytes(cost.activation_bytes)}; the chip holds {_bytes(ACTIVATION_CAPACITY)}",
        f"latency: about {show_ms(time.ms)} ms ({show_ms(time.low)} to {show_ms(time.high)}) by USB 3",
    ]


def _warnings(report: Report) -> list[str]:
    lines = []
    for each in report.warnings[:_MOST]:
        lines.append(f"warning: {each.message}")
        lines += [f"  {each.remedy}"] if each.remedy else []
    return [*lines, *_hidden(len(report.warnings))]


def _bytes(count: int) -> str:
    """Bytes in the units of the compiler's log."""
    for unit, size in (("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B"
