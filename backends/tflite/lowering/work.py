"""How much an operator computes, as far as that decides anything: multiply-accumulates of those with weights."""

from __future__ import annotations

from math import prod
from typing import Final

from cnnc.tflite_file.program import Operator, Program

LANES: Final = 8
"""Channels that XNNPACK's int8 kernels sum at once. Fewer take as long: 3 of a picture, or the one of a depthwise
convolution, whose products were measured to take 7 times as long as those of a full one."""


def macs(program: Program, operator: Operator, lanes: int = 1) -> int:
    """Multiply-accumulates of an operator for one sample; the channels that it sums count in multiples of `lanes`."""
    if operator.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return 0
    shape = program[operator.inputs[1]].shape
    summed = 1 if operator.kind == "DEPTHWISE_CONV_2D" else shape[-1]
    return program[operator.outputs[0]].size * prod(shape[1:-1]) * -(-summed // lanes) * lanes
