"""How long an inference takes on a Coral USB Accelerator at a desktop, fitted to what Google published.

    t = 0.79 ms + sum over operators (MACs / 1.15e12 + bytes / 11.5e9) + streamed / 0.51e9 + what runs on the CPU

`bytes` are those of an operator's activations, in and out. Four constants were fitted to 15 networks of
coral.ai/docs/edgetpu/benchmarks and coral.ai/models (`bench/edgetpu.py` makes the table); Inception-ResNet v2 was left
out of the fit: its printed 57 ms are less than its parameters take to be sent. The median error is 5 % over all
networks of the table, and 7 % for those of the fit left out one at a time; DenseNet-121 takes 1.5 times the estimate.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import floor, log10, prod
from typing import Final

from cnnc.frozen import dataclass
from cnnc.tflite_file.program import ABSENT, Operator, Program

FIXED_MS: Final = 0.792
MACS_PER_MS: Final = 1.155e9
BYTES_PER_MS: Final = 11.52e6
STREAMED_PER_MS: Final = 0.508e6
LOW: Final = 0.75
HIGH: Final = 1.6
"""Times the estimate: between them lie all networks of the fit, also when they are left out of it."""

CPU_MACS_PER_MS: Final = 10.7e6
"""Of int8 on the desktop of the published tables (MobileNet v1 in 53 ms)."""
CPU_BYTES_PER_MS: Final = 0.5e6
"""Of operators without multiplications on that CPU, resizing and sorting above all; a guess."""
MODERN_MACS_PER_MS: Final = 30e6
MODERN_BYTES_PER_MS: Final = 4e6
"""A core of today's desktops with XNNPACK, roughly: only for saying that a CPU is likely to be faster."""
CLEARLY: Final = 1.5
"""How many times slower the Edge TPU has to be estimated before that is said."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of an inference, and the range in which to expect them."""

    ms: float
    low: float
    high: float
    cpu_ms: float
    """The whole model on one core of a desktop of today, roughly."""
    with_edge_tpu_ms: float
    """The model with the Edge TPU, what stays on the CPU on that same core."""

    @property
    def is_cpu_faster(self) -> bool:
        return self.with_edge_tpu_ms > CLEARLY * self.cpu_ms


def latency(program: Program, mapped: Iterable[int], streamed: int) -> Latency:
    """The estimate for a program of which the operators of these indices run on the Edge TPU."""
    inside = set(mapped)
    edge_tpu = FIXED_MS + streamed / STREAMED_PER_MS if inside else 0.0
    published = modern = cpu = 0.0
    for i, operator in enumerate(program.operators):
        work, moved = macs(program, operator), moved_bytes(program, operator)
        on_cpu = work / MODERN_MACS_PER_MS + moved / MODERN_BYTES_PER_MS
        cpu += on_cpu
        if i in inside:
            edge_tpu += work / MACS_PER_MS + moved / BYTES_PER_MS
        else:
            published += work / CPU_MACS_PER_MS + (0 if work else moved / CPU_BYTES_PER_MS)
            modern += on_cpu
    ms = edge_tpu + published
    return Latency(ms, LOW * ms, HIGH * ms, cpu, edge_tpu + modern)


def show_ms(ms: float) -> str:
    """Milliseconds with three digits and no power of ten: `0.792`, `41.2`, `1,230`."""
    if ms < 0.001:
        return "under 0.001" if ms else "0"
    decimals = 2 - floor(log10(ms))
    return f"{round(ms, decimals):,.{max(decimals, 0)}f}"


def macs(program: Program, operator: Operator) -> int:
    """Multiply-accumulates of an operator; 0 for those that have no weights."""
    if len(operator.inputs) < 2 or operator.inputs[1] == ABSENT or not operator.outputs:
        return 0
    weights, result = program[operator.inputs[1]].shape, _shape(program, operator.outputs[0])
    if operator.kind == "CONV_2D" and len(weights) == 4:
        return prod(result) * prod(weights[1:])
    if operator.kind == "DEPTHWISE_CONV_2D" and len(weights) == 4:
        return prod(result) * prod(weights[1:3])
    if operator.kind == "FULLY_CONNECTED" and len(weights) == 2:
        return prod(result) * weights[1]
    if operator.kind == "TRANSPOSE_CONV" and len(weights) == 4 and len(operator.inputs) > 2:
        source = _shape(program, operator.inputs[2])
        return prod(source) * prod(weights[:3])
    return 0


def moved_bytes(program: Program, operator: Operator) -> int:
    """Bytes of an operator's computed inputs and of its outputs."""
    inputs = (program[name] for name in operator.inputs if name != ABSENT)
    outputs = (program[name] for name in operator.outputs if name != ABSENT)
    return sum(each.nbytes for each in inputs if each.data is None) + sum(each.nbytes for each in outputs)


def _shape(program: Program, name: str) -> tuple[int, ...]:
    return () if name == ABSENT else program[name].shape
