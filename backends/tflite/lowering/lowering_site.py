"""Where an operator of the graph is lowered: what it reads, its weights, and the function for each operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Literal

from cnnc import ops
from cnnc.backends.tflite.lowering.emitter import Emitter
from cnnc.diagnostics import CnnError
from cnnc.ir import Node
from cnnc.ops.base import Shape
from cnnc.tflite_file.program import Array

Flavour = Literal["float", "int8", "edgetpu"]
"""The purpose that operators are chosen for: exact float32, int8 on any LiteRT, or int8 for the Edge TPU."""


@dataclass(frozen=True, eq=False)
class Site:
    """A node to lower: the tensors that it reads with their shapes in the graph, its weights, and where to write.

    `work` is what the whole network multiplies and accumulates: beside it, what a node costs is much or little.
    """

    node: Node
    inputs: tuple[str, ...]
    shapes: tuple[Shape, ...]
    weights: Mapping[str, Array]
    out: Emitter
    flavour: Flavour
    work: int

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def x(self) -> str:
        return self.inputs[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor that holds the node's value."""
        return device_shape(self.node.shape)

    def part(self, name: str) -> str:
        return f"{self.node.name}:{name}"


def device_shape(shape: Shape) -> tuple[int, ...]:
    """The shape of the tensor for a value of the graph: signals get a height of 1."""
    return (1, 1, *shape) if len(shape) == 2 else (1, *shape)


@singledispatch
def lower_op(op: ops.Op, site: Site) -> str:
    """Emit an operator of the graph; the name of the tensor with its value."""
    origin = site.node.origin
    raise CnnError.of(
        "backend",
        f"the backend `tflite` has no operator `{op.name}`, which `{site.node.name}` is",
        origin.span if origin else None,
        notes=origin.notes if origin else (),
    )
