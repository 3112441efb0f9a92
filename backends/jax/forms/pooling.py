"""Max pooling over windows that touch and do not overlap, with its gradient written out.

Each input value lies in one window, so its slope is the window's or nothing: a comparison, where autodiff adds up a
padded array for every value of a window. Where values tie the first of them, in row-major order, gets the whole slope,
as in PyTorch and in XLA's select-and-scatter; autodiff of the sum of slices shares it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
from jax import Array

from cnnc.backends.jax.layers.convolution import shifted
from cnnc.ops.window import Window


def is_of_cells(kernel: Sequence[int], windows: Sequence[Window], stride: Sequence[int]) -> bool:
    """Whether the windows stand side by side, without padding."""
    return tuple(kernel) == tuple(stride) and not any(axis.before or axis.after for axis in windows)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool_of_cells(x: Array, kernel: tuple[int, ...], windows: tuple[Window, ...]) -> Array:
    """The largest value of every cell of `kernel` values; what does not fill a cell at the ends is left out."""
    return _forward(x, kernel, windows)[0]


def _forward(x: Array, kernel: tuple[int, ...], windows: tuple[Window, ...]) -> tuple[Array, tuple[Array, Array]]:
    """The maxima, and where in its cell each was found first; and an empty array that keeps the input's shape."""
    sizes = [axis.size for axis in windows]
    cuts = [shifted(x, tap, kernel, sizes) for tap in product(*map(range, kernel))]
    largest, place = cuts[0], jnp.zeros(cuts[0].shape, jnp.uint8 if len(cuts) <= 256 else jnp.int32)
    for index, cut in enumerate(cuts[1:], 1):
        place = jnp.where(cut > largest, jnp.asarray(index, place.dtype), place)
        largest = jnp.maximum(largest, cut)
    return largest, (place, jnp.empty((0, *x.shape[1:]), x.dtype))


def _backward(
    kernel: tuple[int, ...], windows: tuple[Window, ...], kept: tuple[Array, Array], slope: Array
) -> tuple[Array]:
    place, like = kept
    full = slope
    own = jnp.zeros((), place.dtype)
    for axis, length in enumerate(kernel):
        place, full = (jnp.repeat(array, length, axis + 1) for array in (place, full))
        along = jnp.arange(full.shape[axis + 1], dtype=jnp.int32) % length
        own = own * length + along.reshape(-1, *[1] * (len(kernel) - axis)).astype(place.dtype)
    found = jnp.where(place == own, full, jnp.zeros((), full.dtype))
    lengths = zip(like.shape[1:-1], found.shape[1:-1], strict=True)
    return (jnp.pad(found, [(0, 0), *((0, whole - covered) for whole, covered in lengths), (0, 0)]),)


max_pool_of_cells.defvjp(_forward, _backward)
