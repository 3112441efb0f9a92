"""Where in the network the expander is: the path that names are made from, the calls that led there, the repeats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

from cnnc.diagnostics import Span
from cnnc.elaboration.values import Turn
from cnnc.frozen import dataclass
from cnnc.ir import Frame, Origin, Repeat, call_notes
from cnnc.language import syntax


@dataclass(frozen=True)
class Place:
    """A scope of names within the network, `resnet.2.0` say; the model's own is empty.

    A layer without a label is named after its operator and counted: `resnet.2.0.conv1`.
    """

    path: str = ""
    frames: tuple[Frame, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    turns: int = 1
    """How often the repeats around this place run, multiplied."""
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

    def group(self, path: str, taken: frozenset[str]) -> Place:
        """The scope of the layers of a labelled pipeline, in which branches have the labels `taken`."""
        return Place(path, self.frames, self.repeats, self.turns, taken)

    def block(self, path: str, span: Span, taken: frozenset[str]) -> Place:
        """The scope of a block's body, called at a span."""
        return Place(path, (*self.frames, Frame(path, span)), self.repeats, self.turns, taken)

    def turn(self, repeat: Repeat) -> Place:
        """This scope, in one turn of a repeat. Names are counted on."""
        repeats = (*self.repeats, repeat)
        return Place(self.path, self.frames, repeats, self.turns * repeat.count, self.taken, self._counts)


@dataclass(frozen=True)
class Use:
    """How a layer is used: in which place, under which name, from where.

    `path` is the exact name, None for a counted one. `turn` is that of the repeat whose body this is, to the first of
    which a `stride` belongs; `span` is what the chain of calls shows.
    """

    place: Place
    path: str | None = None
    turn: Turn | None = None
    span: Span | None = None

    def group(self, layer: syntax.Expression) -> Place:
        """The scope of names in a layer expression: its own where it has a label."""
        if self.path is None:
            return self.place
        return self.place.group(self.path, frozenset(label.text for label in branch_labels(layer)))


def labels(body: tuple[syntax.Statement, ...]) -> frozenset[str]:
    """The labels that a body's statements define, those inside `if` and of branches included."""
    found: set[str] = set()
    for statement in body:
        if isinstance(statement, syntax.If):
            found |= labels(statement.then) | labels(statement.otherwise)
        elif isinstance(statement, syntax.Flow):
            if statement.label is not None:
                found.add(statement.label.text)
            found |= {label.text for label in branch_labels(statement.value)}
        elif isinstance(statement, syntax.Input):
            found.add(statement.name.text if statement.name else "input")
    return frozenset(found)


def branch_labels(expression: syntax.Expression) -> Iterator[syntax.Name]:
    """The labels of the branches in a layer expression; a repeat within it has scopes of its own."""
    match expression:
        case syntax.Pipeline(items=items):
            for item in items:
                yield from branch_labels(item)
        case syntax.Branches(branches=branches):
            for branch in branches:
                if branch.label is not None:
                    yield branch.label
                yield from branch_labels(branch.value)
        case syntax.Conditional(then=then, otherwise=otherwise):
            yield from branch_labels(then)
            if otherwise is not None:
                yield from branch_labels(otherwise)
        case _:
            pass


def kind_of(body: syntax.Expression) -> str:
    """What a repeat without a label is named after."""
    match body:
        case syntax.Name(text=text):
            return text
        case syntax.Call(function=function):
            return function.text
        case _:
            return "repeat"
