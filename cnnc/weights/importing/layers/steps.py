"""Steps between layers with weights, in words that files and graphs share, each in one normal form.

A file with a graph says strides, padding, pools and activations; weights alone fit whatever these are. Only what both
sides can say for sure is compared: anything else is `unknown`, and agrees with everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

Padding = str | tuple[tuple[int, int], ...]
"""`same` or `valid`, or what comes before and after along each axis."""

UNKNOWN: Final = "unknown"
SUM: Final = "sum"
PRODUCT: Final = "product"
JOINED: Final = "concatenation"
PAD: Final = "zeros around"
POOLS: Final = ("max pool", "average pool")
_UNORDERED: Final = (SUM, PRODUCT)
_RECTIFIERS: Final = ("relu", "relu6")
_MOST_JOINED: Final = 64
"""Sums of sums and the like are one of so many values at most: a chain of thousands is not written out each time."""


@dataclass(frozen=True)
class Window:
    """How a kernel goes over a map, the outermost axis first; None for what is not said.

    Attributes:
        stride: places from one value to the next.
        dilation: places between two taps.
        padding: around the map.
        kernel: of a pool, None for one over the whole map.
    """

    stride: tuple[int, ...] | None = None
    dilation: tuple[int, ...] | None = None
    padding: Padding | None = None
    kernel: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """A value in a network, as an operator without weights on others.

    Attributes:
        kind: the operator; `layer` for what a layer with weights gives, `input`, `unknown`.
        inputs: what it takes; nothing for a layer.
        facts: numbers that make it what it is, such as a slope.
        window: of a pool.
        name: of a layer or an operator, for messages.
        shape: of a pool's input without the batch, `(height, width, channels)`, where it is known.
    """

    kind: str
    inputs: tuple[Step, ...] = ()
    facts: tuple[object, ...] = ()
    window: Window | None = None
    name: str = ""
    shape: tuple[int, ...] | None = None

    @property
    def is_unordered(self) -> bool:
        return self.kind in _UNORDERED


def unknown(*inputs: Step) -> Step:
    """A step that is not compared."""
    return Step(UNKNOWN, inputs)


def activation(kind: str, value: Step, *facts: object) -> Step:
    """A function of each value. One that rectifies goes before a max pool and a concatenation: it is the same there."""
    if kind == "linear" or (kind == "relu" and value.kind in _RECTIFIERS):
        return value
    if kind in _RECTIFIERS and value.kind in ("max pool", JOINED):
        return replace(value, inputs=tuple(activation(kind, each) for each in value.inputs))
    return Step(kind, (value,), facts)


def combined(kind: str, values: Iterable[Step]) -> Step:
    """A sum, a product or a concatenation; those within one of their own kind are part of it."""
    flat: list[Step] = []
    for value in values:
        flat += value.inputs if value.kind == kind and len(value.inputs) < _MOST_JOINED else (value,)
    if len(flat) == 1:
        return flat[0]
    if kind == PRODUCT and len(flat) == 2:
        for value, gate in (flat, flat[::-1]):
            gated = {"sigmoid": "swish", "hard sigmoid": "hard swish"}.get(gate.kind)
            if gated is not None and gate.inputs == (value,):
                return Step(gated, (value,))
    return Step(kind, tuple(flat))


def is_positive(value: Step) -> bool:
    """Whether no value is below zero, so that a pool's zeros are as good as none."""
    return value.kind in (*_RECTIFIERS, "sigmoid", "softmax")


def described(step: Step, depth: int = 3) -> str:
    """A step in words: `relu of max pool 3x3 with stride 2x2 of conv1`."""
    if step.kind in ("layer", "input"):
        return f"`{step.name}`" if step.kind == "layer" else "the input"
    words = [step.kind, *map(str, step.facts), *_words(step)]
    inner = " and ".join(described(each, depth - 1) for each in step.inputs[:3]) if depth else "..."
    more = " and others" if len(step.inputs) > 3 and depth else ""
    return f"{' '.join(words)} of {inner}{more}" if step.inputs else " ".join(words)


def _words(step: Step) -> list[str]:
    if step.kind not in POOLS or step.window is None:
        return []
    window = step.window
    if window.kernel is None or window.stride is None:
        return ["over all places"]
    kernel, stride = ("x".join(map(str, each)) for each in (window.kernel, window.stride))
    return [kernel, f"(stride {stride}, padding {margins(window.padding or 'valid')})"]


def margins(padding: Padding) -> str:
    """Padding in words: `same`, or what comes before and after each axis, `0+1 x 0+1`."""
    return padding if isinstance(padding, str) else " x ".join(f"{before}+{after}" for before, after in padding)
