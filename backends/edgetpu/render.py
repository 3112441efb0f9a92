"""A prediction as text, laid out as the compiler lays out what it did."""

from __future__ import annotations

from collections import Counter
from re import sub

from cnnc.backends.edgetpu import facts
from cnnc.backends.edgetpu.check import Report, Verdict
from cnnc.backends.edgetpu.memory import ACTIVATION_CAPACITY, CACHE_CAPACITY
from cnnc.backends.edgetpu.warn import Caution
from cnnc.boxes import box

_MOST = 20
"""Operators that are told one by one."""


def render(report: Report, name: str = "the model", widest: int | None = None) -> str:
    """What is predicted of a file: operators by status, those on the CPU with the remedy, memory, and latency.

    Args:
        report: of `check`.
        name: what the user calls the file.
        widest: columns of the terminal, None for as wide as the text is.
    """
    parts = [_headline(report, name), *_refused(report)]
    if report.operators:
        parts.append(_table(report, widest))
    parts += [*_details(report), _memory(report)]
    parts += _warnings(report)
    return "\n".join(parts) + "\n"


def grouped(report: Report) -> dict[tuple[str, str], int]:
    """Numbers of operators by kind and status, as the compiler counts them."""
    return dict(Counter((verdict.op, verdict.status) for verdict in report.operators))


def _headline(report: Report, name: str) -> str:
    count = sum(verdict.mapped for verdict in report.operators)
    if not report.compiles:
        return f"{facts.COMPILER} is predicted to refuse {name}"
    if report.is_whole:
        return f"{facts.COMPILER} is predicted to map all {count} operators of {name}"
    return f"{facts.COMPILER} is predicted to map {count} of {len(report.operators)} operators of {name}"


def _refused(report: Report) -> list[str]:
    lines = []
    for refusal in report.refused[:_MOST]:
        place = f" (operator {refusal.index})" if refusal.index >= 0 else ""
        lines += [f"refused: {refusal.message}{place}", f"  {refusal.remedy} [{refusal.source}]"]
    hidden = len(report.refused) - _MOST
    return [*lines, f"... {hidden} more"] if hidden > 0 else lines


def _table(report: Report, widest: int | None) -> str:
    rows = [[op, str(count), status] for (op, status), count in sorted(grouped(report).items())]
    return box(["operator", "count", "status"], [rows], right=(1,), shrink=(2, 0), widest=widest)


def _details(report: Report) -> list[str]:
    own = [verdict for verdict in report.operators if not verdict.mapped and verdict.reason != facts.SUBGRAPH]
    later = sum(not verdict.mapped for verdict in report.operators) - len(own)
    lines = [line for verdict in own[:_MOST] for line in _verdict(verdict)]
    if len(own) > _MOST:
        lines.append(f"... {len(own) - _MOST} more")
    if report.cut is not None:
        cut = report.operators[report.cut]
        lines.append(
            f"the graph is cut at operator {cut.index}, {cut.op}; {later} operators after it go to the CPU too"
        )
    return lines


def _verdict(verdict: Verdict) -> list[str]:
    return [
        f"{verdict.index} {verdict.op} version {verdict.version} `{verdict.name}`: {verdict.reason}",
        f"  {verdict.remedy} [{verdict.source}]",
    ]


def _memory(report: Report) -> str:
    time = report.latency
    return "\n".join(
        [
            f"parameters on the chip: {_bytes(report.cached_bytes)} of about {_bytes(int(CACHE_CAPACITY))}; "
            f"sent with every inference: {_bytes(report.streamed_bytes)}",
            f"activations: at most {_bytes(report.activation_bytes)} of {_bytes(ACTIVATION_CAPACITY)}",
            f"latency: about {time.ms:.2g} ms ({time.low:.2g} to {time.high:.2g}) by USB 3",
        ]
    )


def _warnings(report: Report) -> list[str]:
    """Warnings that differ in their numbers alone are told once."""
    alike: dict[str, list[Caution]] = {}
    for each in report.warnings:
        alike.setdefault(sub(r"[\d.]+", "0", each.message), []).append(each)
    lines = []
    for first, *others in list(alike.values())[:_MOST]:
        more = f" (and {len(others)} more like this)" if others else ""
        lines.append(f"warning: {first.message}{more}")
        lines += [f"  {first.remedy}"] if first.remedy else []
    return lines


def _bytes(count: int) -> str:
    """Bytes in the units of the compiler's log."""
    for unit, size in (("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B"
