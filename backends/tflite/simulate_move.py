"""Operators that only move values or change their type, the same in every type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnc.backends.tflite.simulate_call import Array, Call
from cnnc.backends.tflite.simulate_window import pool_geometry, taps
from cnnc.diagnostics import CnnError
from cnnc.tflite.program import DTYPES


def _reshape(call: Call) -> Array:
    # A batch that the program does not have goes to the first axis, whatever that is.
    shape = call.outputs[0].shape
    more = call[0].size // max(call.tensor(0).size, 1)
    return call[0].reshape(shape[0] * more, *shape[1:]) if shape else call[0].reshape(())


def _pad(call: Call) -> Array:
    zero = call.outputs[0].quantization.zero_point[0] if call.outputs[0].quantization else 0
    value = call[2].reshape(()) if len(call) > 2 else zero
    return np.pad(call[0], call[1].reshape(-1, 2).tolist(), constant_values=value)


def _slice(call: Call) -> Array:
    # An axis that stays whole is sliced by nothing, so that any batch passes.
    whole = _whole(call)
    parts = zip(call.axes(1), call.axes(2), whole, strict=True)
    return call[0][
        tuple(slice(None) if all_ else slice(start, None if size < 0 else start + size) for start, size, all_ in parts)
    ]


def _strided_slice(call: Call) -> Array:
    if call.option("ellipsis_mask") or call.option("new_axis_mask"):
        raise CnnError.of("backend", "the simulation has no STRIDED_SLICE with an ellipsis or a new axis")
    index: list[slice | int] = []
    whole = _whole(call)
    for axis, (begin, end, stride) in enumerate(zip(*map(call.axes, (1, 2, 3)), strict=True)):
        if _bit(call, "shrink_axis_mask", axis):
            index.append(0 if _bit(call, "begin_mask", axis) else begin)
        elif len(whole) > axis and whole[axis] and stride == 1:
            index.append(slice(None))
        else:
            start = None if _bit(call, "begin_mask", axis) else begin
            stop = None if _bit(call, "end_mask", axis) else end
            index.append(slice(start, stop, stride))
    return call[0][tuple(index)]


def _whole(call: Call) -> list[bool]:
    before, after = call.tensor(0).shape, call.outputs[0].shape
    return [size == kept for size, kept in zip(before, after, strict=True)] if len(before) == len(after) else []


def _bit(call: Call, mask: str, axis: int) -> bool:
    return bool(int(call.option(mask)) >> axis & 1)


def _split(call: Call) -> list[Array]:
    (axis,) = call.axes(0)
    return list(np.split(call[1], int(call.option("splits")), axis))


def _space_to_depth(call: Call) -> Array:
    block = int(call.option("block"))
    n, height, width, channels = call[0].shape
    blocks = call[0].reshape(n, height // block, block, width // block, block, channels)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, height // block, width // block, -1)


def _max_pool(call: Call) -> Array:
    x = call[0]
    lowest = -np.inf if x.dtype.kind == "f" else int(np.iinfo(x.dtype).min)
    found: Array | None = None
    for _, values in taps(x, pool_geometry(call), lowest):
        found = values if found is None else np.maximum(found, values)
    assert found is not None, call.operator
    if x.dtype.kind == "f":
        return found.clip(*call.limits)
    return call.stored(found.astype(np.int32) - call.output_zero_point)


def _resize_nearest(call: Call) -> Array:
    x = call[0]
    for axis, size in enumerate(call.axes(1), start=1):
        x = np.take(x, _nearest(call, x.shape[axis], size), axis)
    return x


def _nearest(call: Call, before: int, after: int) -> Array:
    corners = bool(call.option("align_corners")) and after > 1
    ratio = np.float32(before - 1) / np.float32(after - 1) if corners else np.float32(before) / np.float32(after)
    middle = np.float32(0.5 if call.option("half_pixel_centers") else 0)
    place = (np.arange(after, dtype=np.float32) + middle) * ratio
    nearest: Array = np.floor(place + np.float32(0.5) if corners else place).astype(np.int64)
    return nearest.clip(0, before - 1)


FUNCTIONS: Mapping[str, Callable[[Call], Any]] = {
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "EXPAND_DIMS": _reshape,
    "PAD": _pad,
    "PADV2": _pad,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "SPLIT": _split,
    "TILE": lambda call: np.tile(call[0], call.axes(1)),
    "CONCATENATION": lambda call: np.concatenate(call.all, int(call.option("axis"))),
    "TRANSPOSE": lambda call: call[0].transpose(call.axes(1)),
    "GATHER": lambda call: np.take(call[0], call[1], int(call.option("axis"))),
    "SPACE_TO_DEPTH": _space_to_depth,
    "MAX_POOL_2D": _max_pool,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "MAXIMUM": lambda call: np.maximum(call[0], call[1]),
    "MINIMUM": lambda call: np.minimum(call[0], call[1]),
    "CAST": lambda call: call[0].astype(DTYPES[call.outputs[0].type]),
}
