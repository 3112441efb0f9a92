"""A float program to int8: every tensor a scale, weights whole numbers, what has no int8 form left as float islands.

Source: the TensorFlow Lite 8-bit quantization specification; Jacob et al. 2018, Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference; for the correction of biases Nagel et al. 2019, Data-Free
Quantization Through Weight Equalization and Bias Correction, section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.tflite.lowering.graph import Lowered
from cnnc.backends.tflite.lowering.op_versions import set_versions
from cnnc.backends.tflite.quantization.scale_groups import MOVES, constant_range, group, moved_inputs
from cnnc.backends.tflite.quantization.scales import NARROW, ONE, Range, affine, encode, weight_scales
from cnnc.tflite_file.program import ABSENT, Array, Operator, Program, Quantization, Tensor

Io = Literal["int8", "uint8", "float32"]


class Rounded(NamedTuple):
    """Weights as whole numbers, and what that adds to each output channel for each of input.

    `error` is `(out, in)`, or `(out,)` where each output channel reads one of input.
    """

    codes: NDArray[np.int8]
    error: NDArray[np.float32]


Known = dict[tuple[str, tuple[float, ...]], Rounded]
"""Rounded weights by the tensor's name and its scales."""

_KERNEL_AXES: Final[Mapping[str, int | None]] = {
    "CONV_2D": 0,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": None,
    "TRANSPOSE_CONV": 0,
}
"""Operators with weights: the axis along which each slice has its own scale; None for one scale in all."""
_TO_UINT8: Final = 128
_MOST_MULTIPLIER: Final = 64.0
"""Of input scales over the output's: half of what every kernel takes."""


def quantize(
    lowered: Lowered,
    ranges: Mapping[str, Range],
    *,
    io: Io = "int8",
    given: Mapping[str, Quantization] | None = None,
    means: Mapping[str, Array] | None = None,
    known: Known | None = None,
) -> Program:
    """The int8 program.

    Args:
        lowered: the float program.
        ranges: the range of the values of every activation, by tensor.
        io: the type of the inputs and outputs. uint8 is int8 + 128, float32 are real values.
        given: the quantisation of inputs whose codes are theirs already, as bytes are.
        means: the mean of every channel of the tensors that weights meet; with them biases are corrected for what
            rounding the weights adds on average.
        known: rounded weights of earlier calls for the same weights, which are added to.
    """
    program = _Quantizer(lowered, ranges, given or {}, means or {}, {} if known is None else known).run(io)
    return set_versions(program)


class _Quantizer:
    def __init__(
        self,
        lowered: Lowered,
        ranges: Mapping[str, Range],
        given: Mapping[str, Quantization],
        means: Mapping[str, Array],
        known: Known,
    ) -> None:
        self.program = lowered.program
        self.means = means
        self.rounded = known
        self.float = _float_tensors(lowered)
        constants = {
            name
            for op in self.program
            if op.kind in MOVES and op.outputs[0] not in self.float
            for name in moved_inputs(op)
            if self.program[name].data is not None
        }
        all_ranges = {**ranges, **{name: constant_range(self.program, name) for name in constants}}
        self.int8 = frozenset(
            tensor.name
            for tensor in self.program.tensors.values()
            if tensor.type == "FLOAT32"
            and tensor.name not in self.float
            and (tensor.data is None or tensor.name in constants)
        )
        self.ranges = ranges
        self.groups = group(self.program, self.int8, all_ranges, given)
        for op in self.program:
            if op.outputs[0] in self.int8:
                self.groups.widen(op.outputs[0], self.least_scale(op))
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []

    def run(self, io: Io) -> Program:
        inputs = [self.input(name, io) for name in self.program.inputs]
        for index, operator in enumerate(self.program):
            if operator.outputs[0] in self.float:
                self.float_operator(operator)
            else:
                self.int8_operator(index, operator)
        outputs = [self.output(name, io) for name in self.program.outputs]
        return replace(
            self.program,
            tensors=self.tensors,
            operators=tuple(self.operators),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
        )

    def least_scale(self, operator: Operator) -> float:
        """The smallest output scale that the operator's kernels can reach from those of its inputs.

        XNNPACK refuses multipliers above 256, and HARD_SWISH's kernel, in 16 bits, gets those from 128 on wrong. They
        arise where an output stays far below what inputs and weights allow, as when large weights read a dead channel.
        """
        scales = [self.scale_of(name) for name in operator.inputs if name != ABSENT]
        if operator.kind in _KERNEL_AXES:
            x, kernel = operator.inputs[::-1][:2] if operator.kind == "TRANSPOSE_CONV" else operator.inputs[:2]
            weights = self.program[kernel].data
            assert weights is not None, kernel
            return self.scale_of(x) * float(max(weights.max(), -weights.min())) / NARROW / _MOST_MULTIPLIER
        if operator.kind == "MUL":
            return scales[0] * scales[1] / _MOST_MULTIPLIER
        return 0.0 if operator.kind in MOVES else max(scales) / _MOST_MULTIPLIER

    def scale_of(self, name: str) -> float:
        """The scale of an input, of whatever kind."""
        if name in self.int8:
            return self.groups.quantization(name).scale[0]
        tensor = self.program[name]
        if tensor.type != "FLOAT32":
            return 0.0
        return affine(*(self.ranges[name] if tensor.data is None else constant_range(self.program, name))).scale[0]

    # The ends

    def input(self, name: str, io: Io) -> str:
        tensor = self.program[name]
        if tensor.type != "FLOAT32":
            self.tensors[name] = tensor
            return name
        quantization = self.groups.quantization(name)
        if io == "int8":
            self.add(name, quantization)
            return name
        outer = f"{name}:{io}"
        outer_quantization = _as_uint8(quantization) if io == "uint8" else None
        self.tensors[outer] = Tensor(outer, tensor.shape, io.upper(), outer_quantization)
        self.add(name, quantization)
        self.operators.append(Operator("QUANTIZE", (outer,), (name,), origin=name))
        return outer

    def output(self, name: str, io: Io) -> str:
        tensor = self.program[name]
        origin = self.program.operators[self.program.producers[name]].origin
        if name in self.float:
            return name if io == "float32" else self.as_int8(name, origin, io)
        if io == "int8":
            return name
        outer = f"{name}:{io}"
        outer_quantization = _as_uint8(self.groups.quantization(name)) if io == "uint8" else None
        self.tensors[outer] = Tensor(outer, tensor.shape, io.upper(), outer_quantization)
        kind = "QUANTIZE" if io == "uint8" else "DEQUANTIZE"
        self.operators.append(Operator(kind, (name,), (outer,), origin=origin))
        return outer

    # Operators

    def float_operator(self, operator: Operator) -> None:
        inputs = tuple(self.as_float(name, operator.origin) for name in operator.inputs)
        for name in operator.outputs:
            self.tensors[name] = self.program[name]
        self.operators.append(replace(operator, inputs=inputs))

    def int8_operator(self, index: int, operator: Operator) -> None:
        if operator.kind in _KERNEL_AXES:
            inputs = self.weighted(operator)
        else:
            inputs = tuple(self.operand(index, operator, name) for name in operator.inputs)
        for name in operator.outputs:
            self.add(name, self.groups.quantization(name))
        self.operators.append(replace(operator, inputs=inputs))

    def operand(self, index: int, operator: Operator, name: str) -> str:
        """An input of an operator without weights, as int8."""
        if name == ABSENT:
            return name
        tensor = self.program[name]
        if tensor.type != "FLOAT32":
            self.tensors[name] = tensor
        elif tensor.data is not None:
            shared = operator.kind in MOVES
            quantization = self.groups.quantization(name) if shared else affine(*constant_range(self.program, name))
            self.tensors[name] = replace(
                tensor, type="INT8", quantization=quantization, data=encode(tensor.data, quantization)
            )
        elif name in self.float and operator.kind in MOVES:
            return self.for_group(name, operator)
        elif name in self.float:
            return self.as_int8(name, operator.origin, "int8")
        elif (index, name) in self.groups.requantised:
            return self.for_group(name, operator)
        return name

    def weighted(self, operator: Operator) -> tuple[str, ...]:
        """The inputs of an operator with weights: these by their scales, the bias by input's times weight's."""
        if operator.kind == "TRANSPOSE_CONV":
            where, kernel, x = operator.inputs
            bias = ABSENT
            self.tensors[where] = self.program[where]
        else:
            x, kernel, bias = operator.inputs
        if x in self.float:
            x = self.as_int8(x, operator.origin, "int8")
            read = self.tensors[x].quantization
        else:
            read = self.groups.quantization(x)
        written = self.groups.quantization(operator.outputs[0])
        assert read is not None, x
        weights = self.program[kernel].data
        shift = None if bias == ABSENT else self.program[bias].data
        assert weights is not None, kernel
        quantization = weight_scales(weights, shift, read.scale[0], written.scale[0], _KERNEL_AXES[operator.kind])
        key = (kernel, quantization.scale)
        if key not in self.rounded:
            self.rounded[key] = _round(operator, weights, quantization)
        rounded = self.rounded[key]
        self.tensors[kernel] = replace(self.program[kernel], type="INT8", quantization=quantization, data=rounded.codes)
        if shift is None:
            return (*operator.inputs[:-1], x)
        if operator.inputs[0] in self.means:
            shift = shift - _drift(rounded.error, self.means[operator.inputs[0]])
        scales = np.asarray(quantization.scale, np.float64) * read.scale[0]
        whole = np.rint(shift / scales)
        assert np.abs(whole).max(initial=0.0) < 2**31, operator.origin
        numbers = tuple(map(float, scales.astype(np.float32)))
        self.tensors[bias] = replace(
            self.program[bias],
            type="INT32",
            quantization=Quantization(numbers, (0,) * len(numbers)),
            data=whole.astype(np.int32),
        )
        return (x, kernel, bias)

    # Conversions

    def add(self, name: str, quantization: Quantization) -> None:
        self.tensors[name] = replace(self.program[name], type="INT8", quantization=quantization)

    def as_float(self, name: str, origin: str) -> str:
        if name == ABSENT:
            return name
        tensor = self.program[name]
        if tensor.type != "FLOAT32" or tensor.data is not None or name in self.float:
            self.tensors[name] = tensor
            return name
        return self.convert(name, "DEQUANTIZE", Tensor(f"{name}:float", tensor.shape), origin)

    def as_int8(self, name: str, origin: str, io: Io) -> str:
        quantization = affine(*self.ranges[name])
        if io == "uint8":
            tensor = Tensor(f"{name}:uint8", self.program[name].shape, "UINT8", _as_uint8(quantization))
        else:
            tensor = Tensor(f"{name}:int8", self.program[name].shape, "INT8", quantization)
        return self.convert(name, "QUANTIZE", tensor, origin)

    def for_group(self, name: str, operator: Operator) -> str:
        """A tensor with the scale that an operator of `MOVES` has, for that operator alone.

        From int8 it is a product with one, which is exact to half a step: XNNPACK's QUANTIZE takes the ratio of the
        scales to the next 256th and rounds halves up, LiteRT's own rounds twice, and both are off by nearly a step.
        """
        quantization = self.groups.quantization(operator.outputs[0])
        label = f"{name}:for {operator.outputs[0]}"
        tensor = Tensor(label, self.program[name].shape, "INT8", quantization)
        if name in self.float:
            return self.convert(name, "QUANTIZE", tensor, operator.origin)
        one = f"{label}:one"
        self.tensors[one] = Tensor(one, (), "INT8", ONE, np.array(round(1 / ONE.scale[0]), np.int8))
        if label not in self.tensors:
            self.tensors[label] = tensor
            options = {"activation": "NONE"}
            self.operators.append(Operator("MUL", (name, one), (label,), options, origin=operator.origin))
        return label

    def convert(self, name: str, kind: str, tensor: Tensor, origin: str) -> str:
        if tensor.name not in self.tensors:
            self.tensors[tensor.name] = tensor
            self.operators.append(Operator(kind, (name,), (tensor.name,), origin=origin))
        return tensor.name


def _float_tensors(lowered: Lowered) -> frozenset[str]:
    """The activations that stay float: those of float operators, and what is only moved between such."""
    program, float_only = lowered.program, set(lowered.float_only)
    for operator in reversed(program.operators):
        if operator.kind in MOVES and operator.outputs[0] not in float_only:
            readers = [program.operators[i] for name in operator.outputs for i in program.consumers[name]]
            sources = [program.producers.get(name) for name in moved_inputs(operator) if program[name].data is None]
            from_float = all(i is not None and program.operators[i].outputs[0] in float_only for i in sources)
            ends = any(name in program.outputs for name in operator.outputs)
            if readers and not ends and from_float and all(reader.outputs[0] in float_only for reader in readers):
                float_only.update(operator.outputs)
    return frozenset(float_only)


def _round(operator: Operator, weights: Array, quantization: Quantization) -> Rounded:
    """Weights by their scales, symmetric about zero, in float32: a step's half either way is as good."""
    axis = _KERNEL_AXES[operator.kind]
    depthwise = operator.kind == "DEPTHWISE_CONV_2D"
    if not weights.any():
        outputs = weights.shape[-1] if depthwise else len(weights)
        error = np.zeros(outputs if depthwise else (outputs, weights.shape[-1]), np.float32)
        return Rounded(np.zeros(weights.shape, np.int8), error)
    shape = [1] * weights.ndim
    if axis is not None:
        shape[axis] = -1
    scale = np.asarray(quantization.scale, np.float32).reshape(shape)
    whole = np.rint(weights / scale)
    np.clip(whole, -NARROW, NARROW, out=whole)
    codes = whole.astype(np.int8)
    whole *= scale
    whole -= weights
    if depthwise:
        return Rounded(codes, whole.sum((0, 1, 2)))
    return Rounded(codes, whole.reshape(len(whole), -1, whole.shape[-1]).sum(1))


def _drift(error: Array, mean: Array) -> Array:
    """The mean error of each output channel by rounded weights: of every group those of its input channels."""
    if error.ndim == 1:
        drift: Array = error * np.repeat(mean, len(error) // len(mean))
        return drift
    inside = error.shape[-1]
    drift = error.reshape(len(mean) // inside, -1, inside) @ mean.reshape(-1, inside, 1)
    return drift.reshape(-1)


def _as_uint8(quantization: Quantization) -> Quantization:
    return Quantization(quantization.scale, tuple(zero + _TO_UINT8 for zero in quantization.zero_point))
