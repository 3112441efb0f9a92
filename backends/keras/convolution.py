"""Convolutions as Keras's layers.

Kernels that are dilated where Keras cannot dilate are written out with the zeros between their values: the same
function, with more weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc import ops
from cnnc.backends.keras.weighted import UNDRAWN, Arrays, cropped, padded, ranked, weighted


def convolution(op: ops.Conv, weights: Arrays, name: str, x: Any) -> Any:
    """A convolution of any rank and number of groups."""
    kernel, dilation = _dilated(weights["kernel"], op.dilation, max(op.stride) > 1)
    return _convolve(op, weights, kernel, name, x, dilation, op.groups)


def depthwise(op: ops.Depthwise, weights: Arrays, name: str, x: Any) -> Any:
    """A depthwise convolution; one of groups where Keras has no layer for it: in 3-D, or with strides that differ."""
    kernel, dilation = _dilated(weights["kernel"], op.dilation, max(op.stride) > 1)
    *sizes, channels, multiplier = kernel.shape
    if len(sizes) == 3 or len(set(op.stride)) > 1:
        grouped = kernel.reshape(*sizes, 1, channels * multiplier)
        return _convolve(op, weights, grouped, name, x, dilation, channels)
    x, padding = padded(x, op.padding, name)
    layer = ranked(
        "DepthwiseConv{}D",
        x,
        tuple(sizes) if len(sizes) > 1 else sizes[0],
        op.stride if len(sizes) > 1 else op.stride[0],
        padding,
        multiplier,
        dilation_rate=dilation if len(sizes) > 1 else dilation[0],
        use_bias="bias" in weights,
        depthwise_initializer="zeros",
        name=name,
    )
    return weighted(layer, weights, x, kernel=kernel)


def transposed(op: ops.ConvTranspose, weights: Arrays, name: str, x: Any) -> Any:
    """A transposed convolution; with explicit padding the whole one is cropped."""
    kernel, dilation = _dilated(weights["kernel"], op.dilation, True)
    sizes = kernel.shape[:-2]
    is_cut = not isinstance(op.padding, str)
    layer = ranked(
        "Conv{}DTranspose",
        x,
        op.filters,
        sizes,
        op.stride,
        "valid" if is_cut else op.padding,
        dilation_rate=dilation,
        use_bias="bias" in weights,
        name=f"{name}.full" if is_cut else name,
        **UNDRAWN,
    )
    full = weighted(layer, weights, x, kernel=kernel)
    if not is_cut:
        return full
    axes = zip(full.shape[1:-1], op.windows(x.shape[1:]), strict=True)
    return cropped(full, [(axis.before, n - axis.before - axis.size) for n, axis in axes], name)


def _convolve(
    op: ops.Conv | ops.Depthwise,
    weights: Arrays,
    kernel: NDArray[Any],
    name: str,
    x: Any,
    dilation: tuple[int, ...],
    groups: int,
) -> Any:
    x, padding = padded(x, op.padding, name)
    *sizes, _, filters = kernel.shape
    layer = ranked(
        "Conv{}D",
        x,
        filters,
        tuple(sizes),
        op.stride,
        padding,
        dilation_rate=dilation,
        groups=groups,
        use_bias="bias" in weights,
        name=name,
        **UNDRAWN,
    )
    return weighted(layer, weights, x, kernel=kernel)


def _dilated(kernel: NDArray[Any], dilation: tuple[int, ...], write_out: bool) -> tuple[NDArray[Any], tuple[int, ...]]:
    """The kernel and its dilation, which is 1 where its zeros are written out."""
    if not write_out or max(dilation) == 1:
        return kernel, dilation
    extents = [(n - 1) * d + 1 for n, d in zip(kernel.shape[:-2], dilation, strict=True)]
    spread = np.zeros((*extents, *kernel.shape[-2:]), kernel.dtype)
    spread[tuple(slice(None, None, step) for step in dilation)] = kernel
    return spread, (1,) * len(dilation)
