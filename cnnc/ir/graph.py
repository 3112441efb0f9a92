"""The graph that every pass and backend reads: immutable, in topological order, shapes checked, spans kept.

Knows nothing of text. `verify` states what holds of every graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import cached_property
from math import prod

from cnnc.diagnostics import Span
from cnnc.frozen import dataclass
from cnnc.ops import Input, Op, Shape, Weight


@dataclass(frozen=True)
class Repeat:
    """Membership in the `index`-th (0-based) of the `count` repeats of a group, `resnet.2` say."""

    group: str
    index: int
    count: int


@dataclass(frozen=True)
class Frame:
    """A call that led to a node: the path of the scope it opened (`resnet.0.0`), and where it is written."""

    path: str
    span: Span


@dataclass(frozen=True)
class Origin:
    """Where in the spec a node comes from, innermost call last."""

    span: Span
    frames: tuple[Frame, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """The chain of calls, innermost first, as diagnostics show it."""
        return call_notes(self.frames)


def call_notes(frames: tuple[Frame, ...]) -> tuple[str, ...]:
    """A chain of calls in words, innermost first; of a long one both ends."""
    notes = []
    for frame in reversed(frames):
        call = _shortened(" ".join(frame.span.text.split()), 100)
        notes.append(f"in {_shortened(frame.path, 60)}, expanded from {frame.span.location}: {call}")
    hidden = len(notes) - 2 * _NOTES_AT_AN_END
    if hidden > 1:
        notes[_NOTES_AT_AN_END:-_NOTES_AT_AN_END] = [f"... {hidden} more calls"]
    return tuple(notes)


_NOTES_AT_AN_END = 3


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length // 2]} ... {text[-length // 2 :]}"


@dataclass(frozen=True)
class Node:
    """An operator applied to the results of earlier nodes. Weights are named `<owner>.<weight>`."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    shape: Shape
    repeats: tuple[Repeat, ...] = ()
    """Outermost first."""
    origin: Origin | None = field(default=None, compare=False, repr=False)
    weights_of: str | None = None
    """The node before this one whose weights it uses; None where it has its own, or none."""

    @property
    def owner(self) -> str:
        """The node whose weights this one uses: itself, unless they are shared."""
        return self.weights_of or self.name


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order. `outputs` pairs an output's name with its node's."""

    name: str
    nodes: tuple[Node, ...]
    outputs: tuple[tuple[str, str], ...]

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    def __getitem__(self, name: str) -> Node:
        return self.by_name[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @cached_property
    def inputs(self) -> tuple[Node, ...]:
        """The input nodes in the order the spec declares them."""
        return tuple(node for node in self.nodes if isinstance(node.op, Input))

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """For every node the nodes that read it, in order, once for each time they do."""
        readers: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                readers[name].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    def input_shapes(self, node: Node) -> tuple[Shape, ...]:
        """The shapes a node reads."""
        return tuple(self.by_name[name].shape for name in node.inputs)

    def weights(self, node: Node) -> Mapping[str, Weight]:
        """The arrays a node owns, by their short names: none where it uses those of another."""
        return {} if node.weights_of else node.op.weights(*self.input_shapes(node))

    def macs(self, node: Node) -> int:
        """Multiply-accumulates of a node for one sample."""
        return node.op.macs(node.shape, *self.input_shapes(node))

    @cached_property
    def parameter_count(self) -> int:
        """All weights, batch norm's running statistics included."""
        return sum(prod(w.shape) for node in self.nodes for w in self.weights(node).values())

    @cached_property
    def trainable_count(self) -> int:
        """The weights that training changes: what papers call the number of parameters."""
        return sum(map(self._trainable_of, self.nodes))

    def _trainable_of(self, node: Node) -> int:
        if node.weights_of:
            return 0
        key = (node.op, self.input_shapes(node))
        if key not in self._known_counts:
            self._known_counts[key] = sum(prod(w.shape) for w in node.op.weights(*key[1]).values() if w.trainable)
        return self._known_counts[key]

    @cached_property
    def _known_counts(self) -> dict[tuple[Op, tuple[Shape, ...]], int]:
        """Of operators that many nodes share."""
        return {}

    @cached_property
    def mac_count(self) -> int:
        """Multiply-accumulates of the whole graph for one sample."""
        return sum(self.macs(node) for node in self.nodes)


def scopes_of(name: str) -> tuple[str, ...]:
    """The labels and blocks that a node's name lies in, outermost first: `a` and `a.0` of `a.0.conv1`."""
    return tuple(name[:index] for index, letter in enumerate(name) if index and letter in "./")


def is_same(some: Mapping[str, Weight], others: Mapping[str, Weight]) -> bool:
    """Whether two operators' weights have the same names and shapes, so that one set serves both."""
    return {short: w.shape for short, w in some.items()} == {short: w.shape for short, w in others.items()}


def verify(graph: Graph) -> None:
    """Assert what every pass must keep: unique names, topological order, shapes as inferred, known outputs.

    Operators are resolved: what can be written in two ways has one form, so that no reader meets the other.
    A node that uses another's weights declares the same, and that other, which is before it, has its own.
    """
    seen: dict[str, Shape] = {}
    for node in graph.nodes:
        assert node.name not in seen, f"{node.name} is defined twice"
        shapes = []
        for name in node.inputs:
            assert name in seen, f"{node.name} reads {name} before it is computed"
            shapes.append(seen[name])
        low, high = node.op.arity
        assert len(shapes) >= low, f"{node.name}: {len(shapes)} inputs"
        assert high is None or len(shapes) <= high, f"{node.name}: {len(shapes)} inputs"
        assert node.op.resolve(*shapes) == node.op, f"{node.name}: {node.op} is not resolved"
        inferred = node.op.infer(*shapes)
        assert inferred == node.shape, f"{node.name}: shape {node.shape}, inferred {inferred}"
        assert all(size > 0 for size in node.shape), f"{node.name}: empty shape {node.shape}"
        if node.weights_of:
            assert node.weights_of in seen, f"{node.name} uses weights of {node.weights_of}, which is not before it"
            owner = graph[node.weights_of]
            assert owner.weights_of is None, f"{node.name} uses weights of {owner.name}, which has none of its own"
            assert is_same(node.op.weights(*shapes), graph.weights(owner)), f"{node.name}: other weights than its owner"
        seen[node.name] = node.shape
    assert graph.outputs, "a graph without outputs"
    for label, name in graph.outputs:
        assert name in seen, f"output {label} names no node: {name}"
    assert len({label for label, _ in graph.outputs}) == len(graph.outputs), "an output is named twice"
