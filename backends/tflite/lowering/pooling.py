"""Pools as AVERAGE_POOL_2D and MAX_POOL_2D. A pool of a volume is one of its planes, then one along its depth."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

import numpy as np

from cnnc import ops
from cnnc.backends.tflite.lowering.lowering_site import Site, lower_op
from cnnc.backends.tflite.lowering.tensor_moves import pad_with
from cnnc.ops.window import Window, window, windows
from cnnc.tflite_file.program import Array

LOWEST: Final = -3.0e38
"""The padding before a maximum: below every value, and finite, so that ranges stay measurable."""
_FEW_TAPS: Final = 25
"""Depthwise kernels of more values are slower than a pool."""
_OPERATORS: Final = {"max": "MAX_POOL_2D", "average": "AVERAGE_POOL_2D"}


@lower_op.register
def _(op: ops.MaxPool, site: Site) -> str:
    return _pool(site, "max", op.kernel, op.stride, op.padding, count_padding=False)


@lower_op.register
def _(op: ops.AvgPool, site: Site) -> str:
    return _pool(site, "average", op.kernel, op.stride, op.padding, count_padding=op.count_padding)


@lower_op.register
def _(op: ops.GlobalPool, site: Site) -> str:
    """A pool over the full window for the Edge TPU, which may refuse MEAN; MEAN elsewhere, which XNNPACK is fast at."""
    shape = site.out.shape(site.x)
    if len(shape) == 5:
        shape = (1, prod(shape[1:3]), *shape[3:])
    x = site.out.reshape(site.x, shape, site.part("plane"))
    if op.mode == "average" and site.flavour != "edgetpu":
        reduced = (1, 1, 1, shape[-1]) if op.keepdims else (1, shape[-1])
        name = site.name if reduced == site.shape else site.part("mean")
        axes = site.out.constant(site.part("axes"), [1, 2])
        y = site.out.emit("MEAN", (x, axes), reduced, name, keep_dims=op.keepdims)
        return site.out.reshape(y, site.shape, site.name)
    pooled = (1, 1, 1, shape[-1])
    name = site.name if pooled == site.shape else site.part("mean" if op.mode == "average" else "maximum")
    y = _emit(site, _OPERATORS[op.mode], x, shape[1:3], (1, 1), "VALID", pooled, name)
    return site.out.reshape(y, site.shape, site.name)


def _pool(
    site: Site,
    mode: str,
    kernel: tuple[int, ...],
    stride: tuple[int, ...] | None,
    padding: str | tuple[tuple[int, int], ...],
    *,
    count_padding: bool,
) -> str:
    assert stride is not None, site.node
    geometry = windows(site.shapes[0], kernel, stride, (1,) * len(kernel), padding)
    if len(kernel) == 1:
        kernel, stride = (1, *kernel), (1, *stride)
        geometry = (Window(1, 0, 0), *geometry)
    if len(kernel) == 2:
        y = _planes(site, mode, site.x, kernel, stride, geometry, site.name, count_padding=count_padding)
        return y
    depth, height, width, channels = site.out.shape(site.x)[1:]
    planes = site.out.reshape(site.x, (depth, height, width, channels), site.part("planes"))
    flat = _planes(
        site, mode, planes, kernel[1:], stride[1:], geometry[1:], site.part("within"), count_padding=count_padding
    )
    height, width = geometry[1].size, geometry[2].size
    column = site.out.reshape(flat, (1, depth, height * width, channels), site.part("column"))
    rest = (geometry[0], Window(height * width, 0, 0))
    y = _planes(
        site, mode, column, (kernel[0], 1), (stride[0], 1), rest, site.part("along"), count_padding=count_padding
    )
    return site.out.reshape(y, site.shape, site.name)


def _planes(
    site: Site,
    mode: str,
    x: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    geometry: Sequence[Window],
    name: str,
    *,
    count_padding: bool,
) -> str:
    """A pool along height and width of `(planes, height, width, channels)`."""
    before = site.out.shape(x)
    shape = (before[0], geometry[0].size, geometry[1].size, before[-1])
    pairs = [(axis.before, axis.after) for axis in geometry]
    padded = any(map(any, pairs))
    as_same = all(
        window(n, k, s, 1, "same") == own for n, k, s, own in zip(before[1:3], kernel, stride, geometry, strict=True)
    )
    if mode == "average" and not padded and site.flavour == "int8" and prod(kernel) <= _FEW_TAPS:
        return _as_convolution(site, x, kernel, stride, shape, name)
    if not padded or (as_same and not count_padding):
        return _emit(site, _OPERATORS[mode], x, kernel, stride, "SAME" if padded else "VALID", shape, name)
    if mode == "max":
        around = _pad_lowest(site, x, pairs, f"{name}:padded")
        return _emit(site, "MAX_POOL_2D", around, kernel, stride, "VALID", shape, name)
    around = pad_with(site, "PAD", x, pairs, f"{name}:padded")
    if count_padding:
        return _emit(site, "AVERAGE_POOL_2D", around, kernel, stride, "VALID", shape, name)
    # TFLite's mean over explicit zeros counts them: undo that by how many values each window really has.
    mean = _emit(site, "AVERAGE_POOL_2D", around, kernel, stride, "VALID", shape, f"{name}:sum")
    share = site.out.constant(f"{name}:share", _shares(before[1:3], kernel, stride, geometry))
    return site.out.emit("MUL", (mean, share), shape, name, activation="NONE")


def _as_convolution(
    site: Site, x: str, kernel: Sequence[int], stride: Sequence[int], shape: Sequence[int], name: str
) -> str:
    """A mean as a depthwise convolution of equal weights: in int8 XNNPACK takes that, and no AVERAGE_POOL_2D."""
    channels = shape[-1]
    weights = site.out.constant(f"{name}:share", np.full((1, *kernel, channels), 1 / prod(kernel), np.float32))
    bias = site.out.constant(f"{name}:bias", np.zeros(channels, np.float32))
    return site.out.emit(
        "DEPTHWISE_CONV_2D",
        (x, weights, bias),
        shape,
        name,
        padding="VALID",
        stride_h=stride[0],
        stride_w=stride[1],
        dilation_h=1,
        dilation_w=1,
        multiplier=1,
        activation="NONE",
    )


def _emit(
    site: Site,
    kind: str,
    x: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: str,
    shape: Sequence[int],
    name: str,
) -> str:
    return site.out.emit(
        kind,
        (x,),
        shape,
        name,
        padding=padding,
        filter_h=kernel[0],
        filter_w=kernel[1],
        stride_h=stride[0],
        stride_w=stride[1],
        activation="NONE",
    )


def _pad_lowest(site: Site, x: str, pairs: Sequence[tuple[int, int]], name: str) -> str:
    """Padding that no maximum takes: zeros where nothing is below them, else the lowest value."""
    if _is_positive(site, x):
        return pad_with(site, "PAD", x, pairs, name)
    value = site.out.constant(f"{name}:value", np.float32(LOWEST))
    return pad_with(site, "PADV2", x, pairs, name, value)


def _is_positive(site: Site, x: str) -> bool:
    """Whether a tensor's operator cannot give a value below zero."""
    for operator in reversed(site.out.operators):
        if x in operator.outputs:
            if operator.kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE"):
                return _is_positive(site, operator.inputs[0])
            return operator.kind in ("RELU", "RELU6", "LOGISTIC", "SOFTMAX")
    return False


def _shares(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], geometry: Sequence[Window]) -> Array:
    """For every window the kernel's values over those that lie within the input: `(1, height, width, 1)`."""
    axes = []
    for n, k, s, own in zip(sizes, kernel, stride, geometry, strict=True):
        starts = np.arange(own.size) * s - own.before
        axes.append(k / (np.minimum(starts + k, n) - np.maximum(starts, 0)))
    return np.asarray(np.outer(axes[0], axes[1])[None, :, :, None], np.float32)
