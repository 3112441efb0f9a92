"""How an error shows the calls of blocks that led to it."""

from __future__ import annotations

from dataclasses import replace

from cnnc.diagnostics import CnnError, Diagnostic, Label, Span
from cnnc.elaboration.location import Place
from cnnc.elaboration.namespace import PRELUDE

DEEPEST_CALLS = 64


def too_deep(calls: list[str], span: Span) -> CnnError:
    """The error for blocks that call each other too deep; the last of `calls` is one too many."""
    name = calls[-1]
    if name in calls[:-1]:
        start = len(calls) - 2 - calls[-2::-1].index(name)
        cycle = " -> ".join(calls[start:])
        message = f"the block `{name}` calls itself, {cycle}, more than {DEEPEST_CALLS} calls deep"
        return CnnError.of("recursion", message, span, help="an `if` must end it, or write it as a repeat: N x ...")
    return CnnError.of("limit", f"blocks call each other more than {DEEPEST_CALLS} deep", span)


def located(diagnostic: Diagnostic, place: Place) -> Diagnostic:
    """The diagnostic with its chain of calls, and at the user's own call where it arose in the prelude."""
    notes = diagnostic.notes or place.notes
    primary, secondary = diagnostic.primary, diagnostic.secondary
    if primary is not None and _is_in_prelude(diagnostic):
        own = [f.span for f in place.frames if f.span.source.name != PRELUDE]
        if own:
            secondary = (Label(primary.span, primary.message or "here, in the prelude"), *secondary)
            primary = Label(own[-1])
    return replace(diagnostic, primary=primary, secondary=secondary, notes=notes)


def _is_in_prelude(diagnostic: Diagnostic) -> bool:
    return diagnostic.primary is not None and diagnostic.primary.span.source.name == PRELUDE
