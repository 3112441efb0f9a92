"""A graph to a float program of TFLite operators, one function for every operator of the graph.

Tensors are `(1, height, width, channels)`; a signal `(length, channels)` is `(1, 1, length, channels)`, a volume
`(1, depth, height, width, channels)`, a vector `(1, features)`. A tensor bears the name of the node whose value it
holds, so that tools find layers again; parts of a node that takes several operators are called `<node>:<part>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cnnc import ops
from cnnc.backends.tflite import (  # noqa: F401  # each registers its operators with lower_op
    lower_activation,
    lower_attention,
    lower_convolution,
    lower_normalization,
    lower_pooling,
    lower_shape,
)
from cnnc.backends.tflite.emit import Emitter
from cnnc.backends.tflite.fuse import FUSED, fuse
from cnnc.backends.tflite.site import Array, Flavour, Site, device_shape, lower_op
from cnnc.backends.tflite.versions import set_versions
from cnnc.ir import Graph
from cnnc.passes.model import Model
from cnnc.tflite.program import Program, Quantization


@dataclass(frozen=True, eq=False)
class Lowered:
    """A float program, and what quantisation must know of it.

    `float_only` names tensors whose operators have no int8 form. `fixed` holds the quantisation that an input is to
    have, since preprocessing went into it.
    """

    program: Program
    float_only: frozenset[str] = frozenset()
    fixed: Mapping[str, Quantization] = field(default_factory=dict)


def lower(
    model: Model, flavour: Flavour = "float", *, absorb: bool = False, laid_out: dict[str, Array] | None = None
) -> Lowered:
    """The program of a graph that the passes for inference went over.

    Args:
        model: the graph with its weights.
        flavour: what the operators are chosen for.
        absorb: leave a normalisation by one mean and one deviation that reads an input to that input's quantisation:
            the input tensor then holds the normalised values, which are the pixels seen through its scale.
        laid_out: large constants of another lowering of the same weights, which are taken from it and added to it.

    Raises:
        CnnError: `backend`, for an operator that has no lowering.
    """
    graph, out = model.graph, Emitter(laid_out)
    absorbed = {found.reads: found for found in _absorbable(graph)} if absorb else {}
    values: dict[str, str] = {}
    inputs: list[str] = []
    fixed: dict[str, Quantization] = {}
    offsets: dict[str, float] = {}
    for node in graph:
        out.origin = node.name
        if isinstance(node.op, ops.Input):
            name = out.tensor(node.name, (1, *node.shape), "INT32" if node.op.dtype == "int" else "FLOAT32")
            inputs.append(name)
            if node.name in absorbed:
                fixed[name] = absorbed[node.name].quantization
            shaped = (
                out.reshape(name, device_shape(node.shape), f"{node.name}:rows") if node.op.dtype == "float" else name
            )
            values[node.name] = shaped
        elif node.inputs and node.inputs[0] in absorbed and absorbed[node.inputs[0]].node == node.name:
            values[node.name] = values[node.inputs[0]]
            offsets[values[node.name]] = absorbed[node.inputs[0]].offset
        else:
            site = Site(
                node,
                tuple(values[name] for name in node.inputs),
                graph.input_shapes(node),
                {short: np.asarray(array) for short, array in model.weights.get(node.name, {}).items()},
                out,
                flavour,
                offsets,
            )
            values[node.name] = lower_op(node.op, site)
            assert out.shape(values[node.name]) == device_shape(node.shape), (node, out.shape(values[node.name]))
    outputs: list[str] = []
    for label, name in graph.outputs:
        out.origin = name
        plain = out.reshape(values[name], (1, *graph[name].shape), f"{name}:output")
        if plain in (*inputs, *outputs):  # TFLite wants outputs apart from inputs and from each other
            plain = out.emit(
                "RESHAPE",
                (plain, out.constant(f"{label}:shape", list(out.shape(plain)))),
                out.shape(plain),
                f"{label}:output",
                new_shape=out.shape(plain),
            )
        outputs.append(plain)
    program = out.program(graph.name, inputs, outputs, [label for label, _ in graph.outputs])
    for operator in program:  # an activation that follows an island is of it, fused or not
        if operator.kind in FUSED and operator.inputs[0] in out.float_only:
            out.float_only.update(operator.outputs)
    program = set_versions(fuse(program))
    return Lowered(program, frozenset(out.float_only & program.tensors.keys()), fixed)


@dataclass(frozen=True)
class _Absorbed:
    """A normalisation that an input's quantisation stands for, up to `offset`."""

    reads: str
    node: str
    quantization: Quantization
    offset: float


_TAKES_OFFSETS = (ops.Conv, ops.Depthwise)


def _absorbable(graph: Graph) -> list[_Absorbed]:
    """The normalisations `(x - mean) / std` that are the only readers of an input of pixels.

    Pixel p is the int8 value p - 128. With scale 1 / std and zero point round(mean) - 128 it stands for
    (p - round(mean)) / std, which is `offset` = (round(mean) - mean) / std too little; the convolutions that read it
    take the offset into their biases. Only zeros of padding are then off by it, at most half a pixel's step.
    """
    found = []
    for node in graph.inputs:
        readers = graph.consumers[node.name]
        if (
            len(readers) != 1
            or not isinstance(readers[0].op, ops.Normalize)
            or node.name in dict(graph.outputs).values()
        ):
            continue
        op = readers[0].op
        mean, std, nearest = op.mean[0], op.std[0], round(op.mean[0])
        if len({*op.mean}) > 1 or len({*op.std}) > 1 or not 0 <= nearest <= 255:
            continue
        offset = (nearest - mean) / std
        users = graph.consumers[readers[0].name]
        is_output = any(name == readers[0].name for _, name in graph.outputs)
        if offset and (is_output or not all(isinstance(user.op, _TAKES_OFFSETS) for user in users)):
            continue
        found.append(_Absorbed(node.name, readers[0].name, Quantization((1 / std,), (nearest - 128,)), offset))
    return found
