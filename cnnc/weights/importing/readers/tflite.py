"""The layers of a TFLite file: float, half precision, int8 and uint8, with the graph that they stand in.

Quantised numbers become real ones. What stands beside the layers is told apart by its place: numbers that pictures are
shifted or scaled by come before the first layer and are no weights; a vector that activations are multiplied with or
that is added to them is a batch norm or layer scale which the converter did not fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.tflite.lowering.widen import narrow
from cnnc.tflite_file.conversion import is_conversion
from cnnc.tflite_file.program import ABSENT, Operator, Program
from cnnc.tflite_file.read import open_file
from cnnc.weights.importing.layers.file_errors import CUT_SHORT, fault
from cnnc.weights.importing.layers.file_layers import Kind, Read, Role, Source, SourceLayer, SourceTensor
from cnnc.weights.importing.layers.steps import Step, unknown
from cnnc.weights.importing.readers.sizes import MOST_BYTES, require_size
from cnnc.weights.importing.readers.tflite_constants import (
    inputs,
    is_weight,
    layer_name,
    numbers,
    producer,
    scales,
    stored,
)
from cnnc.weights.importing.readers.tflite_steps import activated, step_of, window_of

COMPILED = "edgetpu-custom-op"
PREPARATION = "numbers that pictures are shifted or scaled by before the first layer"
"""Why a constant is no weight; a file with one takes pixels."""
_COPIES_INTO = ("CONCATENATION", "PACK")
_ARITHMETIC = ("MUL", "ADD", "SUB", "DIV")
_GRAPHS = ("WHILE", "IF", "CALL", "CALL_ONCE", "STABLEHLO_COMPOSITE")


@dataclass(frozen=True)
class _Weighted:
    """Where an operator has its arrays: places among its inputs, the axes of the kernel, and its kind."""

    kernel: int
    x: int
    layouts: tuple[str, ...]
    kind: Kind
    bias: int | None = None
    role: Role = "kernel"


_WEIGHTED: Mapping[str, _Weighted] = {
    "CONV_2D": _Weighted(1, 0, ("OHWI",), "linear", 2),
    "DEPTHWISE_CONV_2D": _Weighted(1, 0, ("1HWC",), "depthwise", 2),
    "FULLY_CONNECTED": _Weighted(1, 0, ("OI",), "linear", 2),
    "CONV_3D": _Weighted(1, 0, ("DHWIO",), "linear", 2),
    "TRANSPOSE_CONV": _Weighted(1, 2, ("OHWI",), "transposed", 3),
    "PRELU": _Weighted(1, 0, ("O",), "prelu", role="alpha"),
    "GATHER": _Weighted(0, 1, ("IO",), "embedding", role="table"),
    "EMBEDDING_LOOKUP": _Weighted(1, 0, ("IO",), "embedding", role="table"),
}


def read_tflite(path: Path, most: int = MOST_BYTES) -> Source:
    """The layers of a TFLite file in the order that they run.

    Raises:
        CnnError: the file is damaged, is compiled for the Edge TPU, or holds weights in operators that are not read.
    """
    require_size(path, path.stat().st_size, most)
    file = open_file(path)
    if any(operator.custom == COMPILED for operator in file.main):
        raise fault(
            path,
            "it is compiled for the Edge TPU, which hides its weights",
            help="give the int8 file that it was compiled from",
        )
    walk = _Walk(path, narrow(file.main))
    for index in range(len(walk.program.operators)):
        walk.visit(index)
    return Source(
        path, f"TFLite, {walk.type()}", tuple(walk.layers), "running", channels_first=False, ignored=walk.ignored
    )


class _Walk:
    """Goes through the operators as they run, and keeps which layers each tensor comes from."""

    def __init__(self, path: Path, program: Program) -> None:
        self.path = path
        self.program = program
        self.layers: list[SourceLayer] = []
        self.ignored: dict[str, str] = {}
        self.reads: dict[str, tuple[Read, ...]] = {name: () for name in program.inputs}
        self.steps = {name: Step("input", name=name) for name in program.inputs}
        self.owners: dict[str, int] = {}
        """The layer that writes a tensor itself."""
        self.merged: set[int] = set()
        """Operators that belong to a layer which began before them."""
        self.names: set[str] = set()
        self.types: dict[str, int] = {}

    def visit(self, index: int) -> None:
        operator = self.program.operators[index]
        outputs = [name for name in operator.outputs if name != ABSENT]
        if index in self.merged or all(stored(self.program, name) is not None for name in outputs):
            return
        if operator.kind in _GRAPHS:
            raise fault(self.path, f"it holds {operator.name}, and graphs within graphs are not read")
        weighted = _WEIGHTED.get(operator.kind)
        if weighted is not None and ABSENT in self.required(operator, weighted):
            raise fault(self.path, f"operator {index}, {operator.name}, lacks an input or its output", help=CUT_SHORT)
        if weighted is not None and self.holds(operator, weighted.kernel):
            self.add_weighted(operator, weighted)
        elif (
            operator.kind in _ARITHMETIC and any(self.constants(operator)) and not is_conversion(self.program, operator)
        ):
            self.add_arithmetic(index, operator)
        else:
            self.pass_through(operator)

    def required(self, operator: Operator, weighted: _Weighted) -> list[str]:
        """The tensors that an operator cannot do without."""
        given = dict(enumerate(operator.inputs))
        return [given.get(weighted.kernel, ABSENT), given.get(weighted.x, ABSENT), *(operator.outputs[:1] or (ABSENT,))]

    def holds(self, operator: Operator, place: int) -> bool:
        found = stored(self.program, operator.inputs[place])
        return found is not None and is_weight(found)

    def constants(self, operator: Operator) -> list[str]:
        """The inputs that are constants of numbers."""
        return [name for i, name in enumerate(operator.inputs) if name != ABSENT and self.holds(operator, i)]

    def pass_through(self, operator: Operator) -> None:
        unread = [name for name in self.constants(operator) if self.program[name].size > 1]
        if unread:
            raise self.unsupported(operator, unread[0])
        reads: dict[Read, None] = {}
        for place, name in enumerate(inputs(operator)):
            for read in self.reads.get(name, ()):
                if operator.kind in _COPIES_INTO:
                    read = replace(read, place=f"{read.place}.{place}" if read.place else str(place))
                reads[read] = None
        computed = [name for name in inputs(operator) if stored(self.program, name) is None]
        self.write(operator, tuple(reads), step_of(self.program, operator, [self.step(name) for name in computed]))

    def step(self, name: str) -> Step:
        """How a tensor comes about."""
        return self.steps.get(name) or unknown()

    def write(self, operator: Operator, reads: tuple[Read, ...], step: Step) -> None:
        for place, name in enumerate(operator.outputs):
            self.reads[name] = reads
            self.steps[name] = unknown(step) if place else activated(operator, step)

    def add_weighted(self, operator: Operator, weighted: _Weighted) -> None:
        name = operator.inputs[weighted.kernel]
        if self.is_preparation(operator, weighted):
            self.ignored[self.stored_name(name)] = PREPARATION
            self.write(operator, (), self.step(operator.inputs[weighted.x]))
            return
        kernel = numbers(self.path, self.program, name)
        kind: Kind | None = weighted.kind
        layouts = weighted.layouts
        if layouts[0] != "O" and kernel.ndim != len(layouts[0]) and operator.kind != "GATHER":
            raise self.unsupported(operator, name)
        if operator.kind == "PRELU":
            kernel = self.vector(operator, name, kernel)
        elif operator.kind == "GATHER" and (kernel.ndim != 2 or operator.options.get("axis", 0) != 0):
            raise self.unsupported(operator, name)
        elif kind == "depthwise" and self.program[operator.inputs[weighted.x]].shape[-1:] == (1,):
            kind, layouts = None, ("1HWC", "IHWO")  # of one channel a convolution is both
        elif operator.kind == "CONV_2D" and kernel.shape[1] == 1 < kernel.shape[2]:
            layouts = ("OHWI", "O1WI")  # one over a signal is stored as one over a picture of height 1
        tensors: dict[Role, SourceTensor] = {weighted.role: SourceTensor(self.stored_name(name), kernel, layouts)}
        if weighted.bias is not None and len(operator.inputs) > weighted.bias and operator.inputs[weighted.bias]:
            tensors["bias"] = self.bias(operator, weighted, operator.inputs[weighted.bias])
        self.count(name)
        self.add(operator, operator, kind, tensors, operator.inputs[weighted.x])

    def is_preparation(self, operator: Operator, weighted: _Weighted) -> bool:
        """Whether it scales and shifts an input's rows of pixels, as cnnc writes `normalize`."""
        before = producer(self.program, operator.inputs[weighted.x])
        return (
            weighted.kind == "depthwise"
            and self.program[operator.inputs[weighted.kernel]].shape[:3] == (1, 1, 1)
            and before is not None
            and before.kind == "RESHAPE"
            and before.inputs[0] in self.program.inputs
        )

    def bias(self, operator: Operator, weighted: _Weighted, name: str) -> SourceTensor:
        if stored(self.program, name) is None:
            raise fault(self.path, f"the bias `{name}` of {operator.name} is computed, and none of its own")
        kernel, x = self.program[operator.inputs[weighted.kernel]], self.program[operator.inputs[weighted.x]]
        # The format wants it in steps of the input's times the kernel's; some converters leave that unsaid.
        step = scales(x)[0] * scales(kernel)
        return SourceTensor(self.stored_name(name), numbers(self.path, self.program, name, step).reshape(-1), ("O",))

    def add_arithmetic(self, index: int, operator: Operator) -> None:
        constant = self.constants(operator)[0]
        x = next((name for name in inputs(operator) if name != constant), constant)
        reads = self.reads.get(x, ())
        if self.program[constant].size == 1 or not reads:
            if not reads:
                self.ignored[constant] = PREPARATION
            self.write(operator, reads, unknown(self.step(x)) if reads else self.step(x))
            return
        run = self.run_of(index)
        scale: NDArray[np.float64] | None = None
        shift: NDArray[np.float64] | None = None
        for each in run:
            (name,) = self.constants(each)[:1]
            value = self.vector(each, name, numbers(self.path, self.program, name)).astype(np.float64)
            is_first = each.inputs[0] == name
            if each.kind == "DIV" and is_first:
                raise self.unsupported(each, name)
            if each.kind == "SUB" and is_first:  # the constant less what is computed
                scale = np.asarray(-np.ones_like(value) if scale is None else -scale)
                shift = value if shift is None else value - shift
            elif each.kind in ("MUL", "DIV"):
                factor = value if each.kind == "MUL" else 1 / value
                scale = factor if scale is None else scale * factor
                shift = None if shift is None else shift * factor
            else:
                added = value if each.kind == "ADD" else -value
                shift = added if shift is None else shift + added
        self.add_affine(operator, run[-1], x, scale, shift)

    def run_of(self, index: int) -> list[Operator]:
        """The arithmetic that begins at an operator: others with vectors that alone read what it gives."""
        run = [self.program.operators[index]]
        while run[-1].options.get("activation", "NONE") == "NONE":
            readers = self.program.consumers[run[-1].outputs[0]]
            following = self.program.operators[readers[0]] if len(readers) == 1 else None
            if following is None or following.kind not in _ARITHMETIC or run[-1].outputs[0] in self.program.outputs:
                break
            found = self.constants(following)
            if len(found) != 1 or self.program[found[0]].size == 1:
                break
            self.merged.add(readers[0])
            run.append(following)
        return run

    def add_affine(
        self,
        first: Operator,
        last: Operator,
        x: str,
        scale: NDArray[np.float64] | None,
        shift: NDArray[np.float64] | None,
    ) -> None:
        name = self.stored_name(self.constants(first)[0])
        reads = self.reads.get(x, ())
        owner = self.owners.get(x)
        if scale is None and shift is not None and owner is not None and self.takes_bias(x, owner):
            layer = self.layers[owner]
            bias = SourceTensor(name, shift.astype(np.float32), ("O",))
            self.layers[owner] = replace(layer, tensors={**layer.tensors, "bias": bias})
            self.write(last, reads, layer.gives)
            return
        if shift is None and scale is not None:
            gamma = SourceTensor(name, scale.astype(np.float32), ("O",))
            self.add(first, last, "layer_scale", {"gamma": gamma}, x)
            return
        size = len(scale if scale is not None else shift if shift is not None else ())
        arrays: dict[Role, NDArray[np.float64]] = {
            "gamma": scale if scale is not None else np.ones(size),
            "beta": shift if shift is not None else np.zeros(size),
            "mean": np.zeros(size),
            "variance": np.ones(size),
        }
        tensors = {role: SourceTensor(name, array.astype(np.float32), ("O",)) for role, array in arrays.items()}
        self.add(first, last, "batch_norm", tensors, x, epsilon=0.0)

    def takes_bias(self, x: str, owner: int) -> bool:
        layer, operator = self.layers[owner], producer(self.program, x)
        return (
            "kernel" in layer.tensors
            and "bias" not in layer.tensors
            and len(self.program.consumers[x]) == 1
            and operator is not None
            and operator.options.get("activation", "NONE") == "NONE"
        )

    def add(
        self,
        first: Operator,
        last: Operator,
        kind: Kind | None,
        tensors: Mapping[Role, SourceTensor],
        x: str,
        epsilon: float | None = None,
    ) -> None:
        """Add a layer: the operators from the first up to the last, and the tensor that it sees."""
        number = len(self.layers)
        name = layer_name(last)
        if name in self.names:
            name = f"{name}#{number}"
        self.names.add(name)
        short = {
            role: replace(tensor, name=f"{name}/{role}") if ";" in tensor.name else tensor
            for role, tensor in tensors.items()
        }  # a joined name is that of several layers
        gives = Step("layer", name=name)
        reads, sees = self.reads.get(x, ()), self.step(x)
        self.layers.append(SourceLayer(name, kind, short, reads, epsilon, window_of(first), sees, gives))
        self.write(last, (Read(number),), gives)
        self.owners[last.outputs[0]] = number

    def vector(self, operator: Operator, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A constant with one number a channel, `(channels,)`."""
        channels = self.program[operator.outputs[0]].shape[-1] if self.program[operator.outputs[0]].shape else 1
        if any(size != 1 for size in values.shape[:-1]) or values.size not in (1, channels):
            raise self.unsupported(operator, name)
        return np.broadcast_to(values.reshape(-1), (channels,)).copy()

    def stored_name(self, name: str) -> str:
        found = stored(self.program, name)
        return name if found is None else found.name

    def count(self, name: str) -> None:
        found = stored(self.program, name)
        assert found is not None, name
        self.types[found.type] = self.types.get(found.type, 0) + found.size

    def type(self) -> str:
        """The type that most weights are stored in."""
        kind = max(self.types, key=lambda each: self.types[each], default="FLOAT32")
        return {"FLOAT32": "float", "FLOAT16": "half precision"}.get(kind, kind.lower())

    def unsupported(self, operator: Operator, name: str) -> Exception:
        shape = " x ".join(map(str, self.program[name].shape))
        known = ", ".join([*_WEIGHTED, *_ARITHMETIC])
        return fault(
            self.path,
            f"the constant `{self.stored_name(name)}` of {shape} is an input of {operator.name}, which is not read",
            help=f"weights are read from {known} with a number a channel",
        )
