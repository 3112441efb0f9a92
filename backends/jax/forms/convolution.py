"""Convolutions whose value and gradients are each computed in a named form: the same sums, at other speeds.

With y = x * w, the input's gradient is a convolution of y's gradient with w turned round, and the weight's is one of x
with y's gradient (Dumoulin & Visin 2016, section 4). XLA derives both by itself; on a CPU others are often faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from math import prod
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from cnnc.backends.jax.forms.winograd import convolve_3x3
from cnnc.backends.jax.layers.convolution import convolve, shifted
from cnnc.ops.window import Window

_CHUNK: Final = 8
"""Pictures whose weight gradient is taken at once: what they need stays in a core's cache."""
_MOST_CHUNKS: Final = 16
"""Larger batches are cut into larger chunks: the program would grow with every chunk."""


class Geometry(NamedTuple):
    """Where the windows of a convolution stand: all but its arrays."""

    windows: tuple[Window, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1


class Forms(NamedTuple):
    """How to compute a convolution: keys of `FORWARD`, `INPUT_GRADIENT` and `WEIGHT_GRADIENT`."""

    forward: str
    input_gradient: str
    weight_gradient: str


PLAIN: Final = Forms("xla", "xla", "xla")


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_as(x: Array, kernel: Array, geometry: Geometry, forms: Forms) -> Array:
    """`convolution.convolve` of `x` `(batch, ..., channels)` with `kernel` `(*sizes, channels / groups, filters)`."""
    return FORWARD[forms.forward](x, kernel, geometry)


def _forward(x: Array, kernel: Array, geometry: Geometry, forms: Forms) -> tuple[Array, tuple[Array, Array]]:
    return convolve_as(x, kernel, geometry, forms), (x, kernel)


def _backward(geometry: Geometry, forms: Forms, kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    # Of an input that needs no gradient the first is never asked for, and XLA drops it.
    x, kernel = kept
    return (
        INPUT_GRADIENT[forms.input_gradient](x, kernel, slope, geometry),
        WEIGHT_GRADIENT[forms.weight_gradient](x, kernel, slope, geometry),
    )


convolve_as.defvjp(_forward, _backward)


def possible_forms(
    geometry: Geometry, kernel: tuple[int, ...]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The forms of each part that hold for the geometry and the kernel's sizes, the plain ones first."""
    ungrouped = geometry.groups == 1
    turned = ungrouped and set(geometry.stride) == {1} == set(geometry.dilation)
    holds = {
        "xla": True,
        "chunks": True,
        "columns": ungrouped,
        "turned": turned,
        "winograd": turned and kernel == (3, 3),
    }
    forward, input_gradient, weight_gradient = (
        tuple(name for name in forms if holds[name]) for forms in (FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT)
    )
    return forward, input_gradient, weight_gradient


def by_xla(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """XLA's own convolution, or where that is the same a matrix product."""
    return convolve(x, kernel, *geometry)


def by_columns(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """One matrix product with the values under each window side by side ("im2col"): for a picture's few channels."""
    columns = _columns(x, kernel.shape[:-2], geometry)
    flat = columns.reshape(-1, columns.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return flat.reshape(*columns.shape[:-1], kernel.shape[-1])


def by_winograd(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """16 matrix products and additions round them: for kernels of 3x3 at stride 1."""
    return convolve_3x3(x, kernel, geometry.windows)


def input_gradient_by_xla(x: Array, kernel: Array, slope: Array, geometry: Geometry) -> Array:
    """The transposition that JAX derives."""
    (gradient,) = jax.linear_transpose(lambda x: by_xla(x, kernel, geometry), x)(slope)
    return gradient  # type: ignore[no-any-return]  # linear_transpose is untyped


def input_gradient_turned(x: Array, kernel: Array, slope: Array, geometry: Geometry) -> Array:
    """A convolution with the kernel turned round, written out: for stride 1."""
    turned, back = _turned(x, kernel, geometry)
    return convolve(slope, turned, back, geometry.stride, geometry.dilation, 1)


def input_gradient_by_winograd(x: Array, kernel: Array, slope: Array, geometry: Geometry) -> Array:
    """A convolution with the kernel turned round, by way of `by_winograd`."""
    _, back = _turned(x, kernel, geometry)
    return convolve_3x3(slope, kernel, back, turned=True)


def weight_gradient_by_xla(x: Array, kernel: Array, slope: Array, geometry: Geometry) -> Array:
    """The transposition that JAX derives."""
    (gradient,) = jax.linear_transpose(lambda kernel: by_xla(x, kernel, geometry), kernel)(slope)
    return gradient  # type: ignore[no-any-return]  # linear_transpose is untyped


def weight_gradient_in_chunks(x: Array, kernel: Array, slope: Array, geometry: Geometry) -> Array:
    """The sum of what a few pictures at a time give, added up in float32 at least."""
    length = max(_CHUNK, -(-x.shape[0] // _MOST_CHUNKS))
    wide = jnp.promote_types(kernel.dtype, jnp.float32)
    parts = (
        weight_gradient_by_xla(x[start : start + length], kernel, slope[start : start + length], geometry)
        for start in range(0, x.shape[0], length)
    )
    return sum((part.astype(wide) for part in parts), start=jnp.zeros(kernel.shape, wide)).astype(kernel.dtype)


def weight_gradient_by_winograd(x: Array, kernel: Array, slope: Array, geometry: Geometry) -> Array:
    """The transposition of `by_winograd`: 16 matrix products over all tiles."""
    (gradient,) = jax.linear_transpose(lambda kernel: by_winograd(x, kernel, geometry), kernel)(slope)
    return gradient  # type: ignore[no-any-return]  # linear_transpose is untyped


def weight_gradient_by_columns(x: Array, kernel: Array, slope: Array, geometry: Geometry) -> Array:
    """One matrix product with the values under each window side by side.

    XLA turns the first operand over, so that is the smaller one.
    """
    columns = _columns(x, kernel.shape[:-2], geometry)
    flat, slopes = (array.reshape(-1, array.shape[-1]) for array in (columns, slope))
    over_all = (((0,), (0,)), ((), ()))
    if flat.shape[-1] <= slopes.shape[-1]:
        return lax.dot_general(flat, slopes, over_all).reshape(kernel.shape)
    return lax.dot_general(slopes, flat, over_all).T.reshape(kernel.shape)


FORWARD: Final[Mapping[str, Callable[[Array, Array, Geometry], Array]]] = {
    "xla": by_xla,
    "columns": by_columns,
    "winograd": by_winograd,
}
INPUT_GRADIENT: Final[Mapping[str, Callable[[Array, Array, Array, Geometry], Array]]] = {
    "xla": input_gradient_by_xla,
    "turned": input_gradient_turned,
    "winograd": input_gradient_by_winograd,
}
WEIGHT_GRADIENT: Final[Mapping[str, Callable[[Array, Array, Array, Geometry], Array]]] = {
    "xla": weight_gradient_by_xla,
    "chunks": weight_gradient_in_chunks,
    "columns": weight_gradient_by_columns,
    "winograd": weight_gradient_by_winograd,
}


def _turned(x: Array, kernel: Array, geometry: Geometry) -> tuple[Array, tuple[Window, ...]]:
    """The kernel turned round, and where its windows stand on the slope of a convolution of stride 1."""
    rank = len(geometry.windows)
    axes = zip(x.shape[1:-1], kernel.shape[:rank], geometry.dilation, geometry.windows, strict=True)
    back = []
    for size, length, step, found in axes:
        before = (length - 1) * step - found.before
        back.append(Window(size, before, size - 1 + (length - 1) * step - before - (found.size - 1)))
    return jnp.flip(kernel, range(rank)).swapaxes(-1, -2), tuple(back)


def _columns(x: Array, sizes: tuple[int, ...], geometry: Geometry) -> Array:
    """`(batch, ..., taps * channels)`: what each window sees, in the order of the kernel's values."""
    assert geometry.groups == 1, geometry
    padded = jnp.pad(x, [(0, 0), *((axis.before, axis.after) for axis in geometry.windows), (0, 0)])
    outputs = [axis.size for axis in geometry.windows]
    taps = product(*map(range, sizes))
    starts = ([i * d for i, d in zip(tap, geometry.dilation, strict=True)] for tap in taps)
    parts = [shifted(padded, start, geometry.stride, outputs) for start in starts]
    assert len(parts) == prod(sizes), sizes
    return jnp.concatenate(parts, axis=-1)
