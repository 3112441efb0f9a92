"""`expect` lines: figures that a spec asserts of itself, held against the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from cnnc.diagnostics import CnnError, Diagnostic, did_you_mean
from cnnc.ir import Graph
from cnnc.language import syntax

QUANTITIES = ("params", "macs")
"""`params` are the trainable ones, as papers count them; `macs` are multiply-accumulates for one sample."""
_SUFFIXES: Mapping[str, Decimal] = {"k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12)}


def violations(
    expects: tuple[syntax.Expect, ...], variant: str | None, graph: Graph, *, exact: bool
) -> list[Diagnostic]:
    """The budgets of a variant (None: of the model as written) that the graph does not meet.

    Args:
        expects: every `expect` line of the spec.
        variant: the variant that the graph is of.
        graph: the graph.
        exact: whether equalities are judged; they are not where a flag has changed the model.
    """
    diagnostics: list[Diagnostic] = []
    for expect in expects:
        if (expect.variant.text if expect.variant else None) == variant:
            for budget in expect.budgets:
                if exact or budget.relation != "=":
                    diagnostics.extend(_judge(budget, variant, graph))
    return diagnostics


def unusable(expects: tuple[syntax.Expect, ...], variants: tuple[str, ...]) -> Iterator[Diagnostic]:
    """Diagnostics of `expect` lines that cannot be judged: unknown variants, quantities, relations."""
    for expect in expects:
        if expect.variant is not None and expect.variant.text not in variants:
            message = f"there is no variant `{expect.variant.text}`"
            help = did_you_mean(expect.variant.text, variants)
            yield from CnnError.of("name", message, expect.variant.span, help=help).diagnostics
        for budget in expect.budgets:
            quantity = budget.quantity
            if quantity.text not in QUANTITIES:
                message = f"`{quantity.text}` is not a figure that can be expected"
                help = did_you_mean(quantity.text, QUANTITIES) or f"the figures are {' and '.join(QUANTITIES)}"
                yield from CnnError.of("name", message, quantity.span, help=help).diagnostics
            elif budget.relation not in ("=", "<", "<="):
                message = f"a budget is `=`, `<` or `<=`, not `{budget.relation}`"
                help = f"an upper bound: {quantity.text} <= {budget.digits}"
                yield from CnnError.of("budget", message, budget.span, help=help).diagnostics


def _judge(budget: syntax.Budget, variant: str | None, graph: Graph) -> Iterator[Diagnostic]:
    if budget.quantity.text not in QUANTITIES or budget.relation not in ("=", "<", "<="):
        return
    actual = graph.trainable_count if budget.quantity.text == "params" else graph.mac_count
    if not _holds(Decimal(actual), budget):
        suffix = _suffix(budget.digits)
        name = budget.quantity.text
        whose = "" if variant is None else f" of `{variant}`"
        wanted = {"=": "", "<": "less than ", "<=": "at most "}[budget.relation]
        message = f"`{name}`{whose} is {actual:,}, but the spec expects {wanted}{budget.digits}"
        written = actual if not suffix else f"{_rounded(Decimal(actual), budget)}{suffix}"
        help = f"if the model is right: {name} = {written}" if budget.relation == "=" else None
        yield from CnnError.of("budget", message, budget.span, help=help).diagnostics


def _holds(actual: Decimal, budget: syntax.Budget) -> bool:
    suffix = _suffix(budget.digits)
    figure = Decimal(budget.digits.rstrip("kKMGT"))
    if budget.relation == "=":
        return (_rounded(actual, budget) if suffix else actual) == figure
    bound = figure * _unit(suffix)
    return actual < bound if budget.relation == "<" else actual <= bound


def _rounded(actual: Decimal, budget: syntax.Budget) -> Decimal:
    """The actual figure in the budget's unit, rounded to as many digits as the budget writes."""
    figure = Decimal(budget.digits.rstrip("kKMGT"))
    return (actual / _unit(_suffix(budget.digits))).quantize(figure)


def _suffix(digits: str) -> str:
    return digits[-1] if digits[-1] in "kKMGT" else ""


def _unit(suffix: str) -> Decimal:
    return _SUFFIXES[suffix.replace("K", "k")] if suffix else Decimal(1)
