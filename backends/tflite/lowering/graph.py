"""A graph to a float program of TFLite operators, one function for every operator of the graph.

Tensors are `(1, height, width, channels)`; a signal `(length, channels)` is `(1, 1, length, channels)`, a volume
`(1, depth, height, width, channels)`, a vector `(1, features)`. A tensor bears the name of the node whose value it
holds, so that tools find layers again; parts of a node that takes several operators are called `<node>:<part>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnc import ops
from cnnc.backends.tflite.lowering import (  # noqa: F401  # each registers its operators with lower_op
    activation,
    attention,
    convolution,
    normalization,
    pooling,
    shape,
)
from cnnc.backends.tflite.lowering.emitter import Emitter
from cnnc.backends.tflite.lowering.fusion import FUSED, fuse
from cnnc.backends.tflite.lowering.lowering_site import Flavour, Site, device_shape, lower_op
from cnnc.backends.tflite.lowering.op_versions import set_versions
from cnnc.backends.tflite.lowering.widen import widen
from cnnc.ir import Graph
from cnnc.ir.model import Model
from cnnc.tflite_file.program import Program


@dataclass(frozen=True, eq=False)
class Lowered:
    """A float program, and the tensors of it whose operators have no int8 form."""

    program: Program
    float_only: frozenset[str] = frozenset()


def lower(model: Model, flavour: Flavour = "float") -> Lowered:
    """The program of a graph that the passes for inference went over.

    Args:
        model: the graph with its weights.
        flavour: what the operators are chosen for.

    Raises:
        CnnError: `backend`, for an operator that has no lowering.
    """
    graph, out = model.graph, Emitter()
    inputs, values = _lower_nodes(model, flavour, out)
    outputs = _output_tensors(graph, values, inputs, out)
    program = out.program(graph.name, inputs, outputs, [label for label, _ in graph.outputs])
    for operator in program:  # an activation that follows an island is of it, fused or not
        if operator.kind in FUSED and operator.inputs[0] in out.float_only:
            out.float_only.update(operator.outputs)
    program = set_versions(widen(fuse(program, out.float_only), flavour))
    return Lowered(program, frozenset(out.float_only & program.tensors.keys()))


def _lower_nodes(model: Model, flavour: Flavour, out: Emitter) -> tuple[list[str], dict[str, str]]:
    """Emit every node; the tensors of the inputs, and those that hold the nodes' values, by node."""
    graph = model.graph
    work = graph.mac_count
    values: dict[str, str] = {}
    inputs: list[str] = []
    for node in graph:
        out.origin = node.name
        if isinstance(node.op, ops.Input):
            is_float = node.op.dtype == "float"
            name = out.tensor(node.name, (1, *node.shape), "FLOAT32" if is_float else "INT32")
            inputs.append(name)
            rows = f"{node.name}:rows"
            values[node.name] = out.reshape(name, device_shape(node.shape), rows) if is_float else name
            continue
        site = Site(
            node,
            tuple(values[name] for name in node.inputs),
            graph.input_shapes(node),
            {short: np.asarray(array) for short, array in model.weights.get(node.name, {}).items()},
            out,
            flavour,
            work,
        )
        values[node.name] = lower_op(node.op, site)
        assert out.shape(values[node.name]) == device_shape(node.shape), (node, out.shape(values[node.name]))
    return inputs, values


def _output_tensors(graph: Graph, values: Mapping[str, str], inputs: Sequence[str], out: Emitter) -> list[str]:
    """The tensors of the outputs, of the shapes that the graph gives them."""
    outputs: list[str] = []
    for label, name in graph.outputs:
        out.origin = name
        plain = out.reshape(values[name], (1, *graph[name].shape), f"{name}:output")
        if plain in (*inputs, *outputs):  # TFLite wants outputs apart from inputs and from each other
            shape = out.shape(plain)
            operands = (plain, out.constant(f"{label}:shape", list(shape)))
            plain = out.emit("RESHAPE", operands, shape, f"{label}:output", new_shape=shape)
        outputs.append(plain)
    return outputs
