"""Limits of an expansion's length and depth: a spec that grows without end stops soon."""

from __future__ import annotations

from cnnc.diagnostics import Span
from cnnc.elaboration.graph_builder import LimitReached

MOST_STEPS = 40_000
STEPS_A_LAYER = 3
DEEPEST_LAYERS = 250
_STEP_LENGTH = 200


class ExpansionLimits:
    """Counts the steps of an expansion and how many layers and bodies are open."""

    def __init__(self) -> None:
        self._steps = 0
        self._depth = 0

    def step(self, span: Span, nodes: int) -> None:
        """Count a step, of a length as the text that it may have to evaluate, at so many nodes.

        Raises:
            LimitReached: there are too many steps for so few nodes.
        """
        self._steps += 1 + (span.end - span.start) // _STEP_LENGTH
        most = MOST_STEPS + STEPS_A_LAYER * nodes
        if self._steps > most:
            layers = "1 layer" if nodes == 1 else f"{nodes:,} layers"
            raise LimitReached(f"the spec expands on and on: more than {most:,} steps so far, for {layers}")

    def __enter__(self) -> None:
        """Go into a layer or a body: Python's own stack, at some frames each, would end before a thousand frames."""
        self._depth += 1
        if self._depth > DEEPEST_LAYERS:
            self._depth -= 1
            raise LimitReached(f"layers and blocks nest more than {DEEPEST_LAYERS} deep")

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
