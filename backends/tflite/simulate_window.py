"""Convolutions of any number of spatial axes as matrix products, in whatever type the arrays have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from cnnc.backends.tflite.simulate_call import Array, Call
from cnnc.ops.window import Window, window

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Geometry:
    """How a kernel moves over the spatial axes; `padding` is `SAME` or `VALID`."""

    kernel: Sizes
    stride: Sizes
    dilation: Sizes
    padding: str

    def windows(self, sizes: Sizes) -> tuple[Window, ...]:
        axes = zip(sizes, self.kernel, self.stride, self.dilation, strict=True)
        return tuple(window(*axis, self.padding.lower()) for axis in axes)


def geometry(call: Call, kernel: Sizes) -> Geometry:
    """The geometry that an operator's options say, for a kernel of 2 or 3 axes."""
    names = ("d", "h", "w")[-len(kernel) :]
    stride, dilation = (
        tuple(int(call.option(f"{option}_{name}", 1)) for name in names) for option in ("stride", "dilation")
    )
    return Geometry(kernel, stride, dilation, call.option("padding", "SAME"))


def pool_geometry(call: Call) -> Geometry:
    """The geometry of a pool of two axes."""
    return geometry(call, (int(call.option("filter_h")), int(call.option("filter_w"))))


def taps(x: Array, shape: Geometry, fill: float = 0) -> Iterator[tuple[Sizes, Array]]:
    """For every tap of the kernel the values `(batch, *output, channels)` that it meets, `fill` in the padding."""
    found = shape.windows(x.shape[1:-1])
    sides = ((0, 0), *((axis.before, axis.after) for axis in found), (0, 0))
    padded = np.pad(x, sides, constant_values=fill) if any(map(any, sides)) else x
    for tap in np.ndindex(*shape.kernel):
        axes = zip(tap, shape.stride, shape.dilation, found, strict=True)
        yield tap, padded[(slice(None), *(slice(t * d, t * d + (a.size - 1) * s + 1, s) for t, s, d, a in axes))]


def convolve(x: Array, kernel: Array, shape: Geometry) -> Array:
    """A convolution of `(batch, *input, channels)`. Kernels of fewer channels make a grouped one.

    Args:
        x: what is convolved.
        kernel: weights `(*kernel, channels, filters)`.
        shape: where the kernel moves.
    """
    groups = x.shape[-1] // kernel.shape[-2]
    parts = zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
    results = [np.stack([_convolve(each[None], weights, shape) for each in part]) for part, weights in parts]
    return results[0] if groups == 1 else np.concatenate(results, -1)


def _convolve(x: Array, kernel: Array, shape: Geometry) -> Array:
    # Of one picture at a time: patches are large.
    output = tuple(axis.size for axis in shape.windows(x.shape[1:-1]))
    channels, filters = kernel.shape[-2:]
    matrix = kernel.reshape(-1, filters)
    if prod(shape.kernel) == 1:
        ((_, only),) = taps(x, shape)
        return (only.reshape(-1, channels) @ matrix).reshape(*output, filters)
    patches = np.empty((*output, *shape.kernel, channels), x.dtype)
    for tap, values in taps(x, shape):
        place: tuple[Any, ...] = (..., *tap, slice(None))
        patches[place] = values[0]
    return (patches.reshape(-1, len(matrix)) @ matrix).reshape(*output, filters)


def convolve_channels(x: Array, kernel: Array, shape: Geometry) -> Array:
    """A depthwise convolution of `(batch, *input, channels)` by weights `(*kernel, channels * multiplier)`."""
    repeated = np.repeat(x, kernel.shape[-1] // x.shape[-1], -1)
    total: Array | None = None
    for tap, values in taps(repeated, shape):
        product = values * kernel[tap]
        total = product if total is None else np.add(total, product, out=total)
    assert total is not None, shape
    return total


def convolve_transposed(x: Array, kernel: Array, shape: Geometry, output: Sizes) -> Array:
    """A transposed convolution: the gradient of a convolution from `output` to the size of `x` by its input.

    Args:
        x: `(batch, *input, channels)`.
        kernel: weights `(*kernel, channels, filters)`.
        shape: where the kernel of that convolution moves.
        output: the spatial sizes of the result.
    """
    filters = kernel.shape[-1]
    found = shape.windows(output)
    spatial = x.shape[1:-1]
    extents = tuple(max(w.before + w.after + size, 1) for w, size in zip(found, output, strict=True))
    reach = tuple(
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(spatial, shape.stride, shape.kernel, shape.dilation, strict=True)
    )
    total = np.zeros((len(x), *map(max, extents, reach), filters), x.dtype)
    for tap in np.ndindex(*shape.kernel):
        axes = zip(tap, shape.stride, shape.dilation, spatial, strict=True)
        total[(slice(None), *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, s, d, n in axes))] += x @ kernel[tap]
    return total[(slice(None), *(slice(w.before, w.before + size) for w, size in zip(found, output, strict=True)))]
