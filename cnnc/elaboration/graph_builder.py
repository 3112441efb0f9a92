"""Operators one after another to a shape-checked graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from math import prod

from cnnc.diagnostics import Span
from cnnc.elaboration.values import Shared, Tensor
from cnnc.ir import Graph, Node, Origin, Repeat, is_same
from cnnc.ops import BatchNorm, Embedding, Input, Op, OpError, Shape, format_shape

MOST_NODES = 50_000
LARGEST_TENSOR = 2**36
MOST_WEIGHTS = 2**38


class LimitReached(Exception):
    """The graph grows beyond a limit; `span` is the statement of the model that it does so in."""

    span: Span | None = None


class GraphBuilder:
    """Adds nodes, inferring each one's shape from those before it."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self.count = 0
        self._integers: set[str] = set()
        self._weights = 0
        self._index: dict[str, int] = {}
        self._again: list[Iterator[str]] = []
        """Of every shared layer that is being used again, the nodes of its first use that are still to come."""

    @contextmanager
    def use(self, shared: Shared) -> Iterator[None]:
        """Add the nodes of a shared layer: those of its first use are kept, those of later uses take their weights.

        Raises:
            OpError: another use has other nodes.
        """
        if shared.nodes is None:
            start = len(self._nodes)
            yield
            shared.nodes = [node.name for node in self._nodes[start:]]
            return
        first = iter(shared.nodes)
        self._again.append(first)
        try:
            yield
        finally:
            self._again.pop()
        missing = next(first, None)
        if missing is not None:
            raise OpError(f"the first use of this shared layer has a `{missing}`, and this one lacks it")

    def add(
        self, name: str, op: Op, inputs: Sequence[Tensor], repeats: tuple[Repeat, ...], origin: Origin | None
    ) -> Tensor:
        """The result of an operator applied to earlier results.

        Raises:
            OpError: the operator cannot be, or does not fit its inputs.
            LimitReached: there are too many nodes, or the sizes are absurd.
        """
        if self.count >= MOST_NODES:
            raise LimitReached(f"the network has more than {MOST_NODES:,} layers")
        shapes = tuple(tensor.shape for tensor in inputs)
        resolved, shape, weights = _inferred(op, shapes)
        owner = self._owner(resolved, shapes)
        self._weights += 0 if owner else weights
        if self._weights > MOST_WEIGHTS:
            raise LimitReached(f"the network has more than {MOST_WEIGHTS:,} weights")
        self._check_integers(name, op, inputs)
        self.count += 1
        self._index[name] = len(self._nodes)
        node = Node(name, resolved, tuple(t.node for t in inputs), shape, repeats, origin, owner)
        self._nodes.append(node)
        return Tensor(name, shape)

    def _owner(self, op: Op, shapes: tuple[Shape, ...]) -> str | None:
        """The node whose weights an operator uses, where it is part of a shared layer that was used before."""
        first = None
        for nodes in self._again:
            name = next(nodes, None)
            if name is None:
                raise OpError(f"the first use of this shared layer has no such `{op.name}`")
            first = self._nodes[self._index[name]]
        if first is None:
            return None
        if type(first.op) is not type(op):
            raise OpError(f"the first use of this shared layer has a `{first.op.name}` here, `{first.name}`")
        weights = op.weights(*shapes)
        if not weights:
            return None
        if first.op != op:
            raise OpError(f"this shared layer is not the same in its first use, `{first.name}`", code="value")
        before = [self._nodes[self._index[each]].shape for each in first.inputs]
        if not is_same(weights, first.op.weights(*before)):
            read, reads = format_shape(before[0]), format_shape(shapes[0])
            raise OpError(f"this shared layer reads {reads} here, but {read} in its first use, `{first.name}`")
        return first.owner

    def _check_integers(self, name: str, op: Op, inputs: Sequence[Tensor]) -> None:
        """Whole numbers, indices say, are read by an embedding alone, and an embedding reads nothing else."""
        if isinstance(op, Input):
            if op.dtype == "int":
                self._integers.add(name)
            return
        if not self._integers and not isinstance(op, Embedding):
            return
        if isinstance(op, Embedding) and inputs[0].node not in self._integers:
            message = "`embedding` looks whole numbers up, but its input is not declared as such"
            raise OpError(message, code="type", help=f"declare the input: input words {inputs[0].shape[0]} int")
        if not isinstance(op, Embedding) and any(tensor.node in self._integers for tensor in inputs):
            message = f"`{op.name}` works on numbers, but its input holds whole numbers to look up"
            raise OpError(message, code="type", help="put embedding(vocabulary, features) first")

    def finish(self, name: str, outputs: Sequence[tuple[str, str]]) -> Graph:
        """The graph. Layers whose bias is left open have one, unless a batch norm alone reads their result."""
        readers: dict[str, list[Op]] = {}
        users: dict[str, list[Node]] = {}
        for node in self._nodes:
            for source in node.inputs:
                readers.setdefault(source, []).append(node.op)
            users.setdefault(node.owner, []).append(node)
        shown = {node for _, node in outputs}
        settled: dict[tuple[Op, bool], Op] = {}
        for index, node in enumerate(self._nodes):
            if getattr(node.op, "bias", True) is None:
                bias = not all(
                    _is_normed(readers.get(user.name, [])) and user.name not in shown for user in users[node.owner]
                )
                key = (node.op, bias)
                if key not in settled:
                    settled[key] = replace(node.op, **{"bias": bias})
                self._nodes[index] = replace(node, op=settled[key])
        return Graph(name, tuple(self._nodes), tuple(outputs))


def _is_normed(readers: Sequence[Op]) -> bool:
    """Whether a batch norm alone reads a result, which would undo a bias."""
    return len(readers) == 1 and isinstance(readers[0], BatchNorm)


@lru_cache(maxsize=4096)
def _inferred(op: Op, shapes: tuple[Shape, ...]) -> tuple[Op, Shape, int]:
    """The operator resolved for its inputs, its output's shape, and how many weights it has."""
    low, high = op.arity
    if not low <= len(shapes) <= (high or len(shapes)):
        wanted = "no input" if high == 0 else f"{low} inputs" if low > 1 else "one input"
        raise OpError(f"`{op.name}` takes {wanted}, but gets {len(shapes)}", code="arity")
    op.validate()
    resolved = op.resolve(*shapes)
    shape = resolved.infer(*shapes)
    if prod(shape) > LARGEST_TENSOR or max(shape, default=1) > 2**31:
        raise OpError(
            f"a result of {format_shape(shape)} is beyond the limit of {LARGEST_TENSOR:,} values", code="limit"
        )
    weights = sum(prod(weight.shape) for weight in resolved.weights(*shapes).values())
    return resolved, shape, weights
