"""The turns of `[3, 4, 6, 3] x ...` and `40 x ...`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cnnc.diagnostics import CnnError
from cnnc.elaboration.arithmetic import show_value, type_name
from cnnc.elaboration.expressions import evaluate
from cnnc.elaboration.graph_builder import MOST_NODES
from cnnc.elaboration.scaling import round_repeats
from cnnc.elaboration.values import Count, Scope, Turn
from cnnc.language import syntax


def turns_of(layer: syntax.Repeat, scope: Scope, depth: float, around: int) -> Iterator[Turn]:
    """Every turn of a repeat, stage by stage.

    Args:
        layer: the repeat.
        scope: where its count is evaluated.
        depth: the factor on counts that the model's body states.
        around: how often the repeats around this one run, multiplied.

    Raises:
        CnnError: `type`, `value` or `limit`, for a count that is none, or turns beyond the limit.
    """
    counts = evaluate(layer.count, scope)
    stages = counts if isinstance(counts, list) else [counts]
    scaled = [_scaled(written, scope, depth, around, layer.count) for written in stages]
    done, total = 0, sum(scaled)
    for stage, (written, turns) in enumerate(zip(stages, scaled, strict=True)):
        for index in range(turns):
            progress = done / total
            yield Turn(stage, len(stages), index, turns, written, isinstance(counts, list), layer.count.span, progress)
            done += 1


def _scaled(written: Any, scope: Scope, depth: float, around: int, count: syntax.Expression) -> int:
    if not isinstance(written, int) or isinstance(written, bool):
        message = f"a repeat counts in whole numbers, but `{show_value(written)}` is {type_name(written)}"
        raise CnnError.of("type", message, count.span)
    if written < 0:
        raise CnnError.of("value", f"a repeat counts from 0, but this is {written}", count.span)
    is_scaled = scope.scales and not isinstance(written, Count) and written < MOST_NODES
    turns = round_repeats(written, depth) if is_scaled else written
    if turns * around > MOST_NODES:
        message = f"repeats of {turns * around:,} turns in all; at most {MOST_NODES:,} are expanded"
        raise CnnError.of("limit", message, count.span)
    return turns
