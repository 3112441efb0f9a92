"""The values of expressions while a spec expands.

Numbers, truth values and strings are Python's; dims are tuples, lists are lists. Beside them:
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from cnnc.diagnostics import Span
from cnnc.frozen import dataclass
from cnnc.language import syntax
from cnnc.ops import Shape

if TYPE_CHECKING:
    from cnnc.elaboration.namespace import Namespace


class Count(int):
    """A number that scaling is done with: a tensor's channels, a block's `channels` or `repeats`, `fixed(32)`."""


@dataclass(frozen=True)
class Tensor:
    """The result of a node. If it is a block's, `before` is what came into that, and `inner` are its labels.

    Of a repeat of blocks, `inner` are lists with an entry for each turn.
    """

    node: str
    shape: Shape
    before: Tensor | None = field(default=None, repr=False, compare=False)
    inner: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclasses.dataclass(eq=False)
class Shared:
    """A layer of `shared(...)`: the nodes of its first use, whose weights all others use; None before that."""

    nodes: list[str] | None = None


@dataclass(frozen=True)
class Layer:
    """A layer as a value: an expression and the scope that it was written in, and what its uses share, if anything."""

    expression: syntax.Expression
    scope: Scope = field(repr=False)
    shared: Shared | None = field(default=None, repr=False)


class Poisoned(Exception):
    """A value that an error, reported already, left without meaning is needed here."""


class Poison:
    """Stands for a value or tensor that an error, reported already, left without meaning."""

    def __repr__(self) -> str:
        return "POISON"


POISON = Poison()


@dataclass(frozen=True)
class Turn:
    """The turn of the repeats around it that a layer is expanded for; all 0-based."""

    stage: int = 0
    stages: int = 1
    repeat: int = 0
    repeats: int = 1
    written: int = 1
    """The repeats as written, before `depth`."""
    by_stage: bool = False
    count: Span | None = None
    """The expression of the count."""
    progress: float = 0.0
    """The share of all turns, of all stages, that came before: 0 up to, not including, 1."""

    def pick(self, values: list[Any]) -> Any:
        """This turn's entry of a list that has one for each stage, or for each repeat as written."""
        return values[self.stage if self.by_stage else self.repeat * self.written // self.repeats]

    @property
    def length(self) -> int:
        """The number of entries that a list must have."""
        return self.stages if self.by_stage else self.written


@dataclasses.dataclass
class Scope:
    """The names that an expression sees: parameters, assigned values, labels. A block sees nothing of its caller.

    A name stands for what is defined above it, also where a layer is used further down or in a later turn of a repeat.
    """

    namespace: Namespace
    values: dict[str, Any]
    incoming: Tensor | Poison | None
    """The value of `in`; None where several inputs leave it open."""
    scales: bool
    """Whether numbers written here are scaled by width and depth: in a model's body, not in a block's."""
    turn: Turn | None = None
    position: float | None = None
    """The offset that stands for those of the names, where they are not written in the body itself."""
    ends: dict[str, int] = field(default_factory=dict)
    """Offsets of the ends of definitions; a name without one is seen everywhere."""

    def within(self, turn: Turn | None) -> Scope:
        """The same names, seen from a turn of a repeat."""
        return Scope(self.namespace, self.values, self.incoming, self.scales, turn, self.position, self.ends)

    def at(self, position: float) -> Scope:
        """The same names, as seen from an offset in the body."""
        return Scope(self.namespace, self.values, self.incoming, self.scales, self.turn, position, self.ends)

    def define(self, name: str, value: Any, end: int) -> None:
        """Give a name its value, from the offset `end` on: in `bn = bn(momentum=0.9)` the second is the operator."""
        self.values[name] = value
        self.ends[name] = end

    def value(self, name: syntax.Name) -> Any:
        """The value of a name where it is written; None where nothing above defines it."""
        value = self.values.get(name.text)
        if value is None:
            return None
        position = name.span.start if self.position is None else self.position
        return value if self.ends.get(name.text, 0) <= position else None
