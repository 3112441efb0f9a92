"""Write explicit padding as SAME or VALID where that is the same zeros.

TensorFlow and TFLite know no other padding: what is neither costs a PAD of its own. SAME depends on the input's size:
`padding=1` under a 3x3 kernel is SAME with stride 1, and with stride 2 only for an odd size.
"""

from __future__ import annotations

from dataclasses import replace

from cnnc import ops
from cnnc.ir import Node
from cnnc.ir.model import Model
from cnnc.ops import Op, Shape
from cnnc.passes.edit import rewrite
from cnnc.passes.padding import Windowed, zeros_read


def prefer_same(model: Model) -> Model:
    """Every explicit padding as `same` or `valid` where it is equal, else without zeros that no window reads."""
    graph = model.graph
    nodes: dict[str, Node] = {}
    for node in graph:
        if isinstance(node.op, Windowed | ops.ConvTranspose) and not isinstance(node.op.padding, str):
            (shape,) = graph.input_shapes(node)
            op = _transposed(node.op, shape) if isinstance(node.op, ops.ConvTranspose) else _windowed(node.op, shape)
            if op != node.op:
                nodes[node.name] = replace(node, op=op)
    return rewrite(model, nodes=nodes)


def _windowed(op: Windowed, shape: Shape) -> Op:
    zeros = zeros_read(op, shape)
    if not any(map(any, zeros)):
        return replace(op, padding="valid")
    same = replace(op, padding="same")
    if same.infer(shape) == op.infer(shape) and zeros_read(same, shape) == zeros:
        return same
    return replace(op, padding=zeros)


def _transposed(op: ops.ConvTranspose, shape: Shape) -> Op:
    for padding in ("same", "valid"):
        named = replace(op, padding=padding)
        if named.windows(shape) == op.windows(shape):
            return named
    return op
