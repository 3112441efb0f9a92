"""Views of models: a network or a TFLite file, its layers, and their values on one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from cnnc import ops
from cnnc.activations.class_output import ClassOutput, file_output, network_output
from cnnc.backends.tflite.litert.runner import dequantized
from cnnc.diagnostics import CnnError
from cnnc.evaluation.difference import float_values
from cnnc.evaluation.predictor import single_input
from cnnc.evaluation.tflite import TFLitePredictor, open_tflite
from cnnc.ir import Graph, Node
from cnnc.ir.model import Model
from cnnc.ir.pixels import PIXEL_LAYERS
from cnnc.ops import Shape
from cnnc.runs.trained import Trained
from cnnc.tflite_file.program import ABSENT, DTYPES, Operator, Program, Tensor

Values = Mapping[str, NDArray[np.float32]]
"""Arrays of one picture's shape, without a batch, by the names of layers."""

_NORMS: Final = ops.BatchNorm | ops.GroupNorm | ops.LayerNorm | ops.LayerScale | ops.LocalResponseNorm
_ACTIVATIONS: Final = (
    ops.Elu
    | ops.Gelu
    | ops.HardSigmoid
    | ops.HardSwish
    | ops.LeakyRelu
    | ops.Mish
    | ops.Prelu
    | ops.Relu
    | ops.Relu6
    | ops.Sigmoid
    | ops.Softmax
    | ops.Swish
    | ops.Tanh
)
_CONVOLUTIONS: Final = ops.Conv | ops.ConvTranspose | ops.Depthwise
_POOLS: Final = ops.AvgPool | ops.GlobalPool | ops.MaxPool
_MERGES: Final = ops.Add | ops.Concat | ops.Mul
_SHOWN: Final = _NORMS | _ACTIVATIONS | _CONVOLUTIONS | _POOLS | _MERGES | ops.Attention | ops.Dense
_FOLLOWERS: Final = _NORMS | _ACTIVATIONS

FILE_ACTIVATIONS: Final = frozenset(
    [
        "ELU",
        "GELU",
        "HARD_SWISH",
        "LEAKY_RELU",
        "LOGISTIC",
        "PRELU",
        "RELU",
        "RELU6",
        "RELU_0_TO_1",
        "RELU_N1_TO_1",
        "SOFTMAX",
        "TANH",
    ]
)
FILE_CONVOLUTIONS: Final = frozenset(["CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"])
FILE_POOLS: Final = frozenset(["AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN"])
FILE_MERGES: Final = frozenset(["ADD", "CONCATENATION", "DIV", "MAXIMUM", "MINIMUM", "MUL", "SUB"])
_FILE_SHOWN: Final = FILE_ACTIVATIONS | FILE_CONVOLUTIONS | FILE_POOLS | FILE_MERGES | {"FULLY_CONNECTED"}


@dataclass(frozen=True)
class Layer:
    """A layer whose value can be seen. `title` is its name for people, `is_end` whether nothing but a norm or an
    activation reads it, so that what comes after it is worth seeing instead when it is not.
    """

    name: str
    title: str
    kind: str
    shape: Shape
    is_end: bool

    @property
    def is_map(self) -> bool:
        """Whether its filters have more than one place."""
        return len(self.shape) > 1 and prod(self.shape[:-1]) > 1


@dataclass(frozen=True, eq=False)
class NetworkView:
    """A network with weights: `model` is its own, or what passes have made of it, and `layers` are the model's."""

    name: str
    trained: Trained
    model: Model
    layers: tuple[Layer, ...]
    output: ClassOutput | None
    dtype: ClassVar[str] = "float32"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.trained.classes

    @property
    def input_shape(self) -> Shape:
        return self.model.graph.inputs[0].shape

    def evaluate(self, value: NDArray[Any], names: Sequence[str]) -> Values:
        """The values of layers on an input of the input's shape."""
        values = float_values(self.model, list(names))((value[None],))
        return {name: np.asarray(array[0], np.float32) for name, array in values.items()}


@dataclass(frozen=True, eq=False)
class FileView:
    """A TFLite file that was opened with all its tensors."""

    predictor: TFLitePredictor
    layers: tuple[Layer, ...]
    output: ClassOutput | None

    @property
    def name(self) -> str:
        return self.predictor.name

    @property
    def program(self) -> Program:
        return self.predictor.program

    @cached_property
    def dtype(self) -> str:
        """The type that the file computes in: that of most tensors that its operators write."""
        types = [self.program[name].type for operator in self.program for name in operator.outputs if name != ABSENT]
        return max(sorted(set(types)), key=types.count, default="nothing").lower()

    @property
    def is_int8(self) -> bool:
        """Whether the file computes in 8 bits."""
        return self.dtype in ("int8", "uint8")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.predictor.classes

    @property
    def input_shape(self) -> Shape:
        return self.predictor.inputs[0].shape

    def evaluate(self, value: NDArray[Any], names: Sequence[str]) -> Values:
        """The values of layers on an input of the input's shape. Raises CnnError where a layer's size is not fixed."""
        program = self.program
        tensors = self.predictor.runner.tensors(self.predictor.feed((value[None],)), names)
        for name in names:
            if tensors[name][0].size != program[name].size:
                raise CnnError.of("tflite", f"the layer `{title_of(name)}` of `{self.name}` has no fixed size")
        return {name: dequantized(program[name], tensors[name][0]) for name in names}


ModelView = NetworkView | FileView
"""A model to look into: its name for people, its layers, and their values on one input."""


def view_network(trained: Trained, name: str, labels: tuple[str, ...] = ()) -> NetworkView:
    """A view of a network with weights; `labels` name its classes in place of its own."""
    output = network_output(trained)  # before it has the labels, which do not say how it was trained
    named = replace(trained, classes=labels or trained.classes)
    return NetworkView(name, named, trained.model, _layers_of(trained.net.graph), output)


def with_model(view: NetworkView, model: Model) -> NetworkView:
    """A view of what passes have made of a network."""
    return replace(view, model=model, layers=_layers_of(model.graph))


def open_file(path: Path, labels: Path | None) -> FileView:
    """A view of a TFLite file with its labels, or those of a list."""
    return view_file(open_tflite(path, labels=labels, all_tensors=True))


def view_file(predictor: TFLitePredictor) -> FileView:
    """A view of a TFLite file. Layers whose size changes, and complex ones, are left out.

    Raises:
        CnnError: it has no input, or several, or no layer that can be shown.
    """
    program = predictor.program
    single_input(predictor)
    layers = tuple(
        _layer_of_file(program, operator)
        for operator in program
        if operator.outputs and operator.outputs[0] != ABSENT and _is_shown(program[operator.outputs[0]])
    )
    if not layers:
        raise CnnError.of("tflite", f"`{predictor.name}` has no layer of real numbers whose size is fixed")
    return FileView(predictor, layers, file_output(predictor))


def _is_shown(tensor: Tensor) -> bool:
    """Whether a tensor holds real numbers, and the file says how many they are for one picture."""
    return tensor.type in DTYPES and tensor.shape != () and -1 not in (tensor.signature or ())[1:]


def picture_layers(graph: Graph) -> list[Node]:
    """The input and what brings its pixels to the range and order that the network wants, in order."""
    layers = [graph.inputs[0]]
    while len(readers := graph.consumers[layers[-1].name]) == 1 and isinstance(readers[0].op, PIXEL_LAYERS):
        layers.append(readers[0])
    return layers


def is_reversed(graph: Graph) -> bool:
    """Whether the channels of pixels are in another order, blue first, when the first layer that computes gets them."""
    return sum(isinstance(node.op, ops.Bgr) for node in picture_layers(graph)) % 2 == 1


def title_of(name: str) -> str:
    """A layer's name for people: of the names that converters join by `;`, the first, without their prefixes."""
    first = name.split(";")[0].removeprefix("StatefulPartitionedCall/")
    return first or name


def _layers_of(graph: Graph) -> tuple[Layer, ...]:
    return tuple(_layer_of(graph, node) for node in graph if not isinstance(node.op, ops.Input))


def _layer_of(graph: Graph, node: Node) -> Layer:
    readers = graph.consumers[node.name]
    goes_on = len(readers) == 1 and isinstance(readers[0].op, _FOLLOWERS)
    return Layer(node.name, node.name, node.op.name, node.shape, isinstance(node.op, _SHOWN) and not goes_on)


def _layer_of_file(program: Program, operator: Operator) -> Layer:
    name = operator.outputs[0]
    readers = [program.operators[i] for i in program.consumers[name]]
    goes_on = len(readers) == 1 and readers[0].kind in FILE_ACTIVATIONS
    shape = program[name].shape
    shape = shape[1:] if shape[0] == 1 and len(shape) > 1 else shape
    return Layer(name, title_of(name), operator.name, shape, operator.kind in _FILE_SHOWN and not goes_on)
