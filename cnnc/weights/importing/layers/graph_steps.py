"""The operators without weights of our own graph as steps, and how those with weights go over their maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from cnnc import ops
from cnnc.ir import Graph, Node
from cnnc.ops.base import Op, Shape
from cnnc.ops.window import windows
from cnnc.weights.importing.layers.steps import JOINED, PAD, PRODUCT, SUM, Step, Window, activation, combined, unknown

_ACTIVATIONS: Final[dict[type[Op], str]] = {
    ops.Relu: "relu",
    ops.Relu6: "relu6",
    ops.Swish: "swish",
    ops.HardSwish: "hard swish",
    ops.HardSigmoid: "hard sigmoid",
    ops.Mish: "mish",
    ops.Sigmoid: "sigmoid",
    ops.Tanh: "tanh",
    ops.Softmax: "softmax",
}
_NOTHING: Final = (ops.Dropout, ops.DropPath, ops.Flatten, ops.Reshape, ops.Squeeze, ops.Normalize, ops.Bgr)
"""Nothing in a trained network, or another form of the same values; how pictures are prepared, verifying shows."""
_MERGES: Final[Mapping[type[Op], str]] = {ops.Add: SUM, ops.Mul: PRODUCT, ops.Concat: JOINED}


def step_of(graph: Graph, node: Node, inputs: Sequence[Step]) -> Step:
    """A node without weights as a step on those of its inputs."""
    op = node.op
    if isinstance(op, ops.Input):
        return Step("input", name=node.name)
    if type(op) in _ACTIVATIONS:
        return activation(_ACTIVATIONS[type(op)], inputs[0])
    if type(op) in _MERGES:
        return combined(_MERGES[type(op)], inputs)
    if isinstance(op, _NOTHING):
        return inputs[0]
    found = _of_numbers(op, inputs[0], graph.input_shapes(node)[0])
    return unknown(*inputs) if found is None else found


def activations(graph: Graph) -> frozenset[str]:
    """The functions of single values in a graph, in words of steps."""
    others = {ops.LeakyRelu: "leaky relu", ops.Elu: "elu", ops.Gelu: "gelu"}
    return frozenset(word for node in graph if (word := (_ACTIVATIONS | others).get(type(node.op))) is not None)


def _of_numbers(op: Op, value: Step, shape: Shape) -> Step | None:
    if isinstance(op, ops.LeakyRelu):
        return activation("leaky relu", value, round(op.slope, 6))
    if isinstance(op, ops.Elu):
        return activation("elu", value, round(op.alpha, 6))
    if isinstance(op, ops.Gelu):
        return activation("gelu", value, *(("by tanh",) if op.approximate else ()))
    if isinstance(op, ops.Pad) and op.value == 0 and not isinstance(op.amount, str):
        return Step(PAD, (value,), window=Window(padding=op.amount))
    if isinstance(op, ops.MaxPool):
        return Step("max pool", (value,), window=Window(op.stride, None, op.padding, op.kernel), shape=shape)
    if isinstance(op, ops.AvgPool):
        assert op.stride is not None
        margins = windows(shape, op.kernel, op.stride, (1,) * len(op.kernel), op.padding)
        is_padded = any(axis.before or axis.after > 0 for axis in margins)
        facts = ("with the padding's zeros",) if op.count_padding and is_padded else ()
        return Step("average pool", (value,), facts, Window(op.stride, None, op.padding, op.kernel), shape=shape)
    if isinstance(op, ops.GlobalPool):
        return Step(f"{op.mode} pool", (value,), window=Window(), shape=shape)
    if isinstance(op, ops.Resize) and op.scale is not None:
        return Step("resize", (value,), (op.method, op.scale))
    return None


def window_of(op: Op) -> Window | None:
    """How a convolution goes over its map."""
    if isinstance(op, ops.Conv | ops.Depthwise | ops.ConvTranspose):
        return Window(op.stride, op.dilation, op.padding, op.kernel)
    return None
