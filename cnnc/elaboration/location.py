"""Locations in the network: the path that names are made from, the calls that led there, the repeats around it."""

from __future__ import annotations

from dataclasses import field, replace

from cnnc.diagnostics import CnnError, Diagnostic, Label, Span
from cnnc.elaboration.names import branch_labels
from cnnc.elaboration.namespace import PRELUDE
from cnnc.elaboration.values import Turn
from cnnc.frozen import dataclass
from cnnc.ir import Frame, Origin, Repeat, call_notes
from cnnc.language import syntax

DEEPEST_CALLS = 64


@dataclass(frozen=True)
class Location:
    """A scope of names within the network, `resnet.2.0` say; the model's own is empty.

    A layer without a label is named after its operator and counted: `resnet.2.0.conv1`.
    """

    path: str = ""
    frames: tuple[Frame, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    turns: int = 1
    """The counts of the repeats around this location, multiplied."""
    taken: frozenset[str] = frozenset()
    """Labels of this scope, which no counted name may equal."""
    _counts: dict[str, int] = field(default_factory=dict)

    def child(self, label: str) -> str:
        """The path of a label of this scope."""
        return f"{self.path}.{label}" if self.path else label

    def fresh(self, kind: str) -> str:
        """The path of the next unlabelled layer or block of a kind."""
        while True:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            name = f"{kind}{self._counts[kind]}"
            if name not in self.taken:
                return self.child(name)

    def origin(self, span: Span) -> Origin:
        """The origin of a node that is written at a span."""
        return Origin(span, self.frames)

    @property
    def notes(self) -> tuple[str, ...]:
        """The chain of calls that led here, innermost first, as diagnostics show it."""
        return call_notes(self.frames)

    def group(self, path: str, taken: frozenset[str]) -> Location:
        """The scope of the layers of a labelled pipeline, in which branches have the labels `taken`."""
        return Location(path, self.frames, self.repeats, self.turns, taken)

    def block(self, path: str, span: Span, taken: frozenset[str]) -> Location:
        """The scope of a block's body, called at a span."""
        return Location(path, (*self.frames, Frame(path, span)), self.repeats, self.turns, taken)

    def turn(self, repeat: Repeat) -> Location:
        """This scope, in one turn of a repeat. Names are counted on."""
        repeats = (*self.repeats, repeat)
        return Location(self.path, self.frames, repeats, self.turns * repeat.count, self.taken, self._counts)


@dataclass(frozen=True)
class Use:
    """A use of a layer: its location, its name, the line that it is called from.

    `path` is the exact name, None for a counted one. `turn` is that of the repeat whose body this is, to the first of
    which a `stride` belongs; `span` is what the chain of calls shows.
    """

    location: Location
    path: str | None = None
    turn: Turn | None = None
    span: Span | None = None

    def group(self, layer: syntax.Expression) -> Location:
        """The scope of names in a layer expression: its own where it has a label."""
        if self.path is None:
            return self.location
        return self.location.group(self.path, frozenset(label.text for label in branch_labels(layer)))


def kind_of(body: syntax.Expression) -> str:
    """The word that a repeat without a label is named after."""
    match body:
        case syntax.Name(text=text):
            return text
        case syntax.Call(function=function):
            return function.text
        case _:
            return "repeat"


# Errors


def too_deep(calls: list[str], span: Span) -> CnnError:
    """The error for blocks that call each other too deep; the last of `calls` is one too many."""
    name = calls[-1]
    if name in calls[:-1]:
        start = len(calls) - 2 - calls[-2::-1].index(name)
        cycle = " -> ".join(calls[start:])
        message = f"the block `{name}` calls itself, {cycle}, more than {DEEPEST_CALLS} calls deep"
        return CnnError.of("recursion", message, span, help="an `if` must end it, or write it as a repeat: N x ...")
    return CnnError.of("limit", f"blocks call each other more than {DEEPEST_CALLS} deep", span)


def locate(diagnostic: Diagnostic, location: Location) -> Diagnostic:
    """The diagnostic with its chain of calls, and at the user's own call where it arose in the prelude."""
    notes = diagnostic.notes or location.notes
    primary, secondary = diagnostic.primary, diagnostic.secondary
    if primary is not None and _is_in_prelude(diagnostic):
        own = [f.span for f in location.frames if f.span.source.name != PRELUDE]
        if own:
            secondary = (Label(primary.span, primary.message or "here, in the prelude"), *secondary)
            primary = Label(own[-1])
    return replace(diagnostic, primary=primary, secondary=secondary, notes=notes)


def _is_in_prelude(diagnostic: Diagnostic) -> bool:
    return diagnostic.primary is not None and diagnostic.primary.span.source.name == PRELUDE
