"""Operators one after another to a shape-checked graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import prod

from cnnc.diagnostics import Span
from cnnc.ir import Graph, Node, Origin, Repeat
from cnnc.ops import BatchNorm, Embedding, Input, Op, OpError, Shape, format_shape
from cnnc.values import Tensor

MOST_NODES = 50_000
LARGEST_TENSOR = 2**36
MOST_WEIGHTS = 2**38


class LimitReached(Exception):
    """The graph grows beyond a limit; `span` is the statement of the model that it does so in."""

    span: Span | None = None


class Builder:
    """Adds nodes, inferring each one's shape from those before it."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self.count = 0
        self._integers: set[str] = set()
        self._weights = 0

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
        self._weights += weights
        if self._weights > MOST_WEIGHTS:
            raise LimitReached(f"the network has more than {MOST_WEIGHTS:,} weights")
        self._check_integers(name, op, inputs)
        self.count += 1
        self._nodes.append(Node(name, resolved, tuple(t.node for t in inputs), shape, repeats, origin))
        return Tensor(name, shape)

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
        for node in self._nodes:
            for source in node.inputs:
                readers.setdefault(source, []).append(node.op)
        shown = {node for _, node in outputs}
        settled: dict[tuple[Op, bool], Op] = {}
        for index, node in enumerate(self._nodes):
            if getattr(node.op, "bias", True) is None:
                after = readers.get(node.name, [])
                bias = not (len(after) == 1 and isinstance(after[0], BatchNorm) and node.name not in shown)
                key = (node.op, bias)
                if key not in settled:
                    settled[key] = replace(node.op, **{"bias": bias})
                self._nodes[index] = replace(node, op=settled[key])
        return Graph(name, tuple(self._nodes), tuple(outputs))


@lru_cache(maxsize=4096)
def _inferred(op: Op, shapes: tuple[Shape, ...]) -> tuple[Op, Shape, int]:
    """The operator resolved for its inputs, its output's shape, and how many weights it has."""
    low, high = op.arity
    if not low <= len(shapes) <= (high or len(shapes)):
        wanted = "no input" if high == 0 else f"{low} inputs" if low > 1 else "one input"
        raise OpError(f"`{op.name}` takes {wanted}, but gets {len(shapes)}", code="arity")
    op.validate()
    resolved = op.resolve(*shapes) if shapes else op
    shape = resolved.infer(*shapes)
    if prod(shape) > LARGEST_TENSOR or max(shape, default=1) > 2**31:
        raise OpError(
            f"a result of {format_shape(shape)} is beyond the limit of {LARGEST_TENSOR:,} values", code="limit"
        )
    weights = sum(prod(weight.shape) for weight in resolved.weights(*shapes).values())
    return resolved, shape, weights
