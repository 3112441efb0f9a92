"""The filters of the first convolution as pictures: what the network looks for in pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc import ops
from cnnc.activations.grid import grid
from cnnc.activations.model_view import FILE_CONVOLUTIONS, ModelView, NetworkView, is_reversed, picture_layers, title_of
from cnnc.activations.palettes import GAP, SIGNED
from cnnc.backends.tflite.lowering.widen import narrow
from cnnc.ir import Graph, Node
from cnnc.runs.trained import Trained
from cnnc.tflite_file.program import Operator, Program
from cnnc.weights.importing.readers.tflite_constants import dequantized, producer, stored

Array = NDArray[Any]
_AS_PIXELS: Final = ("QUANTIZE", "DEQUANTIZE", "PAD", "PADV2", "SUB", "MUL", "ADD", "DIV", "RESHAPE")
"""Operators before the first convolution whose channels are still those of the picture."""
_MOST_INPUTS: Final = 8
"""Of a convolution that reads more channels, the first ones are shown."""


_GAP: Final = 4
"""Pixels between filters, of which neighbours may have the same colours."""


@dataclass(frozen=True, eq=False)
class Filters:
    """The first convolution's filters.

    `kernel` is `(*kernel, inputs, filters)`; `in_colour` says that the inputs are red, green and blue, in this order.
    """

    title: str
    kernel: Array
    in_colour: bool

    @property
    def count(self) -> int:
        return int(self.kernel.shape[-1])

    @property
    def largest(self) -> float:
        """The largest weight without its sign, of those that are finite."""
        return float(_largest(self.kernel))

    def picture(self, width: int = 1000) -> NDArray[np.uint8]:
        """A square per filter as `(height, width, 4)` of red, green, blue and opacity.

        In colour, every filter by itself from minus its largest weight to that, so that grey is zero. Else a square per
        filter and input, blue below zero and red above, on one scale for all.
        """
        largest = _largest(self.kernel, axis=tuple(range(self.kernel.ndim - 1)), keepdims=True)
        if self.in_colour:
            scaled = self.kernel / np.where(largest > 0, largest, 1)
            planes = [grid(scaled[..., channel, :], -1, 1, width, _GAP) for channel in range(3)]
            gap = planes[0] == GAP
            colours = [np.where(gap, 255, np.rint(plane * (255 / 253))).astype(np.uint8) for plane in planes]
            return np.stack([*colours, np.where(gap, 0, 255).astype(np.uint8)], axis=-1)
        inputs = self.kernel[..., :_MOST_INPUTS, :]
        top = self.largest
        if self.kernel.ndim == 3:  # along one axis: a square of taps by inputs
            maps = inputs.swapaxes(0, 1)
        else:  # the inputs of a filter one after the other
            maps = inputs.swapaxes(-1, -2).reshape(*inputs.shape[:-2], -1)
        places = grid(maps, -top, top, width, _GAP)
        opacity = np.where(places == GAP, 0, 255).astype(np.uint8)
        return np.concatenate([SIGNED[places], opacity[..., None]], axis=-1)

    @property
    def shown_inputs(self) -> int:
        """How many of a filter's inputs have a square."""
        return min(_MOST_INPUTS, int(self.kernel.shape[-2]))


def _largest(kernel: Array, **axes: Any) -> Any:
    return np.max(np.abs(kernel), where=np.isfinite(kernel), initial=0, **axes)


def first_filters(view: ModelView) -> Filters | None:
    """The filters of a network's or file's first convolution, or None where it has none."""
    if isinstance(view, NetworkView):
        return _of_network(view.trained)
    program = narrow(view.program)
    for operator in program:
        if operator.kind in FILE_CONVOLUTIONS and not _is_pixelwise(program, operator):
            return _of_file(program, operator)
    return None


def _of_network(trained: Trained) -> Filters | None:
    graph, weights = trained.net.graph, trained.weights
    for node in graph:
        if isinstance(node.op, ops.Conv | ops.Depthwise | ops.ConvTranspose):
            kernel = np.asarray(weights[node.name]["kernel"], np.float32)
            if isinstance(node.op, ops.Depthwise):
                kernel = kernel.reshape(*kernel.shape[:-2], 1, -1)
            elif isinstance(node.op, ops.ConvTranspose):
                kernel = kernel.swapaxes(-1, -2)
            in_colour = _reads_pixels(graph, node) and kernel.ndim == 4 and kernel.shape[-2] == 3
            if in_colour and is_reversed(graph):
                kernel = kernel[..., ::-1, :]
            return Filters(node.name, kernel, in_colour)
    return None


def _reads_pixels(graph: Graph, node: Node) -> bool:
    return node.inputs[0] in {each.name for each in picture_layers(graph)}


def _of_file(program: Program, operator: Operator) -> Filters | None:
    source = operator.inputs[2] if operator.kind == "TRANSPOSE_CONV" else operator.inputs[0]
    tensor = stored(program, operator.inputs[1])
    if tensor is None:
        return None
    kernel = dequantized(tensor).astype(np.float32)
    if operator.kind == "DEPTHWISE_CONV_2D":
        kernel = kernel[0][..., None, :]
    elif operator.kind != "CONV_3D":  # filters first
        kernel = np.moveaxis(kernel, 0, -1)
    while (before := producer(program, source)) is not None and _is_pixelwise(program, before):
        source = before.inputs[0]
    in_colour = source in program.inputs and kernel.ndim == 4 and kernel.shape[-2] == 3
    return Filters(title_of(operator.outputs[0]), kernel, in_colour)


def _is_pixelwise(program: Program, operator: Operator) -> bool:
    """Whether an operator leaves places and channels what they are, as a normalisation before the first layer does."""
    if operator.kind == "DEPTHWISE_CONV_2D":
        return program[operator.inputs[1]].shape[:3] == (1, 1, 1)
    return operator.kind in _AS_PIXELS
