"""Small graphs built by hand, for tests that need a network and no spec."""

from __future__ import annotations

from cnnc import ops
from cnnc.ir import Graph, Node, verify
from cnnc.net import Net
from cnnc.ops import Op, Shape


class Builder:
    """Adds nodes one after the other; each call gives the name of its node."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def input(self, name: str, shape: Shape, dtype: str = "float") -> str:
        op = ops.Input(shape, "int" if dtype == "int" else "float")
        self.nodes[name] = Node(name, op, (), shape)
        return name

    def add(self, name: str, op: Op, *inputs: str) -> str:
        shapes = [self.nodes[each].shape for each in inputs]
        op = op.resolve(*shapes)
        op.validate()
        self.nodes[name] = Node(name, op, inputs, op.infer(*shapes))
        return name

    def net(self, **outputs: str) -> Net:
        graph = Graph("test", tuple(self.nodes.values()), tuple(outputs.items()))
        verify(graph)
        return Net(graph)


def sequential(shape: Shape, *layers: Op, dtype: str = "float") -> Net:
    """A chain of layers, named by their operator and position: `conv0`, `bn1`, ..."""
    builder = Builder()
    last = builder.input("input", shape, dtype)
    for position, op in enumerate(layers):
        last = builder.add(f"{op.name}{position}", op, last)
    return builder.net(output=last)
