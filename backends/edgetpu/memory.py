"""The memory of the Edge TPU that a model takes: parameters on the chip, parameters sent each time, activations.

Parameters lie in the chip's wide memory in rows of 64 output channels and columns of 4 input channels; a compiled file
has a part that loads them once. The sizes of that part in models that Google and others compiled gave the rule here,
which is exact or within 1.8 % for convolutional networks, and wrong for recurrent ones and for 3x3 convolutions of a
single channel to a single one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Final

from cnnc.frozen import dataclass
from cnnc.tflite_file.program import ABSENT, Operator, Program, Quantization

TILES: Final = 16
ACTIVATION_CAPACITY: Final = TILES * 196_608
"""Bytes of the narrow memories. Source: libedgetpu, driver/config/beagle/beagle_chip_structures.h."""
CACHE_CAPACITY: Final = 7.5 * 2**20
"""Bytes for parameters: 8 MiB less what the compiler reserves, which varies. In its logs 6.1 to 7.98 MiB, and 1.1 MiB
in one; 7.5 is typical for detectors of 320 pixels."""
_LARGEST_GROUP: Final = 256 * 2**10
"""Bytes of a dense layer for one group of 64 outputs. Of two layers 16,384 wide (pairs `*_128x128`) nothing stayed on
the chip, of two 4,096 wide all did; half of a tile's 512 KiB lies between."""
_SOFTMAX_BYTES: Final = 48
"""For each class, where they are no multiple of 4: two models with 1,001 of them have 47,936 and 48,256 bytes more than
their layers explain, those with 256, 4,096 and 16,384 have none. It may as well be an older compiler's doing."""
_JOINT_BYTES: Final = 64
"""For each CONCATENATION and SPLIT: pairs `split_concat` (three of them, 192 bytes) and the trackers (one)."""
_PIXELS: Final = 16
"""A 1x1 convolution to a single channel is laid out as if for this many pixels side by side: 1,152 bytes for 3 channels
in all pairs `color_*`, which are one observation."""


@dataclass(frozen=True)
class Parameters:
    """Bytes of a model's parameters on the Edge TPU: `cached` once, `streamed` with every inference."""

    cached: int
    streamed: int


def parameters(program: Program, mapped: Iterable[Operator]) -> Parameters:
    """The parameters of the mapped operators, put into the cache in the order they run as long as they fit.

    A layer that is larger than the room left is streamed whole; its scales and biases stay where they fit.
    """
    cached = streamed = 0
    for operator in mapped:
        weights, scales = layer_bytes(program, operator)
        whole = cached + weights + scales <= CACHE_CAPACITY and not _is_too_wide(program, operator)
        kept = weights + scales if whole else scales if cached + scales <= CACHE_CAPACITY else 0
        cached += kept
        streamed += weights + scales - kept
    return Parameters(cached, streamed)


def layer_bytes(program: Program, operator: Operator) -> tuple[int, int]:
    """Bytes of an operator's weights as the chip lays them out, and of its scales and biases."""
    if operator.kind == "SOFTMAX":
        classes = program[operator.outputs[0]].shape[-1:] if operator.outputs else ()
        return 0, sum(_SOFTMAX_BYTES * size for size in classes if size % 4)
    if operator.kind in ("CONCATENATION", "SPLIT"):
        return 0, _JOINT_BYTES
    shape, each = _weights(program, operator)
    if shape is None:
        return 0, 0
    if operator.kind == "CONV_2D" and shape[:3] == (1, 1, 1):
        return _PIXELS * _PIXELS * _up(shape[3], 4), _PIXELS * 8
    if operator.kind == "DEPTHWISE_CONV_2D":
        rows = depthwise_rows(shape[3])
        return rows * shape[1] * shape[2] * 4, rows * each
    if operator.kind == "UNIDIRECTIONAL_SEQUENCE_LSTM":
        return prod(shape), 0
    rows = dense_rows(shape[0])
    return rows * prod(shape[1:-1]) * _up(shape[-1], 4), rows * each


def dense_rows(channels: int) -> int:
    """Output channels as stored: to 16, 32 or 64, beyond that to multiples of 64."""
    return _up(channels, 64) if channels > 64 else _power(channels)


def depthwise_rows(channels: int) -> int:
    """Channels of a depthwise convolution as stored: whole groups of 64, and the rest to 16, 32 or 64."""
    return channels // 64 * 64 + (_power(channels % 64) if channels % 64 else 0)


def activation_bytes(program: Program, mapped: Sequence[int]) -> int:
    """The most bytes of activations that are alive at once while the operators of these indices run."""
    inside = set(mapped)
    last: Mapping[str, int] = {name: max(readers) for name, readers in program.consumers.items() if readers}
    alive: dict[str, int] = {}
    most = 0
    for i, operator in enumerate(program.operators):
        if i not in inside:
            continue
        for name in (*operator.inputs, *operator.outputs):
            if name != ABSENT and program[name].data is None:
                alive[name] = program[name].nbytes
        most = max(most, sum(alive.values()))
        done = [name for name in alive if last.get(name, i) <= i and name not in program.outputs]
        for name in done:
            del alive[name]
    return most


def _weights(program: Program, operator: Operator) -> tuple[tuple[int, ...] | None, int]:
    """The shape of an operator's weights, None without any, and the bytes of a channel's scale and bias."""
    ranks = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 4, "TRANSPOSE_CONV": 4, "FULLY_CONNECTED": 2}
    if operator.kind == "UNIDIRECTIONAL_SEQUENCE_LSTM":
        held = (program[name] for name in operator.inputs if name != ABSENT)
        return (sum(tensor.size for tensor in held if tensor.data is not None),), 0
    if operator.kind not in ranks or len(operator.inputs) < 2 or operator.inputs[1] == ABSENT:
        return None, 0
    tensor = program[operator.inputs[1]]
    if len(tensor.shape) != ranks[operator.kind]:
        return None, 0
    return tensor.shape, 8 if _has_many_scales(tensor.quantization) else 4


def _has_many_scales(quantization: Quantization | None) -> bool:
    """Whether scales differ: a list of equal ones is stored as one (pairs `gabor_*`)."""
    return quantization is not None and len(set(quantization.scale)) > 1


def _is_too_wide(program: Program, operator: Operator) -> bool:
    if operator.kind != "FULLY_CONNECTED":
        return False
    shape, _ = _weights(program, operator)
    return shape is not None and min(dense_rows(shape[0]), 64) * _up(shape[1], 4) >= _LARGEST_GROUP


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _power(size: int) -> int:
    """The next power of two, at least 16."""
    return max(16, 1 << (size - 1).bit_length())
