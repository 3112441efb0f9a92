"""TFLite's operators without weights as steps, and how those with weights go over their maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from cnnc.tflite_file.conversion import is_conversion
from cnnc.tflite_file.program import ABSENT, Operator, Program
from cnnc.weights.importing.layers.steps import JOINED, PAD, PRODUCT, SUM, Step, Window, activation, combined, unknown

_ACTIVATIONS: Final[Mapping[str, str]] = {
    "NONE": "linear",
    "RELU": "relu",
    "RELU6": "relu6",
    "TANH": "tanh",
    "LOGISTIC": "sigmoid",
    "SOFTMAX": "softmax",
    "HARD_SWISH": "hard swish",
}
_NOTHING: Final = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CAST")
_MERGES: Final = {"ADD": SUM, "ADD_N": SUM, "MUL": PRODUCT, "CONCATENATION": JOINED}
_POOLS: Final = {
    "MAX_POOL_2D": "max pool",
    "AVERAGE_POOL_2D": "average pool",
    "MEAN": "average pool",
    "REDUCE_MAX": "max pool",
}
_RESIZES: Final = {"RESIZE_BILINEAR": "bilinear", "RESIZE_NEAREST_NEIGHBOR": "nearest"}


def step_of(program: Program, operator: Operator, inputs: Sequence[Step]) -> Step:
    """An operator without weights as a step on the values that it computes with; its activation is apart."""
    kind = operator.kind
    if kind in _MERGES and len(inputs) > 1:
        is_last = kind != "CONCATENATION" or _is_last_axis(program, operator)
        return combined(_MERGES[kind], inputs) if is_last else unknown(*inputs)
    if len(inputs) != 1:
        return unknown(*inputs)
    (value,) = inputs
    if kind in _NOTHING or is_conversion(program, operator):
        return value
    if kind in _ACTIVATIONS:
        return activation(_ACTIVATIONS[kind], value)
    if kind == "ELU":
        return activation("elu", value, 1.0)
    if kind == "LEAKY_RELU":
        return activation("leaky relu", value, round(float(operator.options.get("alpha", 0)), 6))
    found = None
    if kind in _POOLS:
        found = _pool(program, operator, value)
    elif kind == "PAD":
        found = _zeros(program, operator, value)
    elif kind in _RESIZES:
        found = _resize(program, operator, value)
    return unknown(value) if found is None else found


def activated(operator: Operator, value: Step) -> Step:
    """The step that the activation within an operator takes."""
    kind = _ACTIVATIONS.get(str(operator.options.get("activation", "NONE")))
    return unknown(value) if kind is None else activation(kind, value)


def window_of(operator: Operator) -> Window | None:
    """How a convolution goes over its map; None for what is none."""
    if operator.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D", "TRANSPOSE_CONV"):
        return None
    axes = "dhw" if operator.kind == "CONV_3D" else "hw"
    options = operator.options
    stride = tuple(int(options.get(f"stride_{axis}", 0)) for axis in axes)
    if operator.kind == "TRANSPOSE_CONV":  # the shape of its output says what is cut off
        return Window(stride)
    dilation = tuple(max(int(options.get(f"dilation_{axis}", 1)), 1) for axis in axes)
    return Window(stride, dilation, _padding(operator))


def _padding(operator: Operator) -> str | None:
    return {"SAME": "same", "VALID": "valid"}.get(str(operator.options.get("padding")))


def _pool(program: Program, operator: Operator, value: Step) -> Step | None:
    kind, shape = _POOLS[operator.kind], program[operator.inputs[0]].shape
    if operator.kind in ("MEAN", "REDUCE_MAX"):
        axes = _constant(program, operator, 1)
        if axes is None or {int(axis) % max(len(shape), 1) for axis in axes} != set(range(1, len(shape) - 1)):
            return None
        return Step(kind, (value,), window=Window())
    options, padding = operator.options, _padding(operator)
    kernel = tuple(int(options.get(f"filter_{axis}", 0)) for axis in "hw")
    if padding == "valid" and kernel == shape[1:-1]:
        return Step(kind, (value,), window=Window())
    stride = tuple(int(options.get(f"stride_{axis}", 0)) for axis in "hw")
    return Step(kind, (value,), window=Window(stride, None, padding, kernel))


def _zeros(program: Program, operator: Operator, value: Step) -> Step | None:
    amounts, rank = _constant(program, operator, 1), len(program[operator.inputs[0]].shape)
    if amounts is None or amounts.shape != (2 * rank,) or rank < 3:
        return None
    pairs = tuple((int(before), int(after)) for before, after in amounts.reshape(rank, 2))
    if any(pairs[0]) or any(pairs[-1]):
        return None
    return Step(PAD, (value,), window=Window(padding=pairs[1:-1]))


def _resize(program: Program, operator: Operator, value: Step) -> Step | None:
    sizes, outputs = (program[name].shape[1:-1] for name in (operator.inputs[0], operator.outputs[0]))
    if len(sizes) != len(outputs) or any(not n or m % n for n, m in zip(sizes, outputs, strict=True)):
        return None
    method = _RESIZES[operator.kind]
    if operator.options.get("align_corners") or (
        method == "bilinear" and not operator.options.get("half_pixel_centers")
    ):
        method = f"{method}, corners aligned or centres at whole places"
    return Step("resize", (value,), (method, tuple(m // n for n, m in zip(sizes, outputs, strict=True))))


def _is_last_axis(program: Program, operator: Operator) -> bool:
    rank = len(program[operator.outputs[0]].shape)
    return int(operator.options.get("axis", 0)) in (-1, rank - 1)


def _constant(program: Program, operator: Operator, place: int) -> Any:
    """The numbers of a constant input in one row, if there is one."""
    name = operator.inputs[place] if place < len(operator.inputs) else ABSENT
    data = program[name].data if name != ABSENT else None
    return None if data is None else np.asarray(data).reshape(-1)
