"""Convolutions of 3x3 kernels at stride 1 with 16 products for every 4 results, where plainly there are 36.

Winograd's minimal filtering F(2x2, 3x3), equation 8 of Lavin & Gray 2015 ("Fast Algorithms for Convolutional Neural
Networks"): a tile of 4x4 values d and a kernel g give 2x2 results A'((G g G') * (B' d B))A, ' for transposition. The
products of all tiles are 16 matrix products over the channels. Its additions cost half a digit of float32; those of
F(4x4, 3x3) cost two and gained nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import jax.numpy as jnp
from jax import Array, lax

from cnnc.ops.window import Window

_STEP: Final = 2
"""Results of a tile along an axis, and how far apart tiles stand."""

_DATA: Final = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
"""B' of the paper."""
_KERNEL: Final = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
"""G of the paper."""
_RESULT: Final = ((1, 1, 1, 0), (0, 1, -1, -1))
"""A' of the paper."""


def convolve_3x3(x: Array, kernel: Array, windows: Sequence[Window], *, turned: bool = False) -> Array:
    """Convolution at stride 1 of `x` `(batch, height, width, channels)` with `kernel` `(3, 3, channels, filters)`.

    Computes in float32 at least. `turned`: with the kernel turned round, `(3, 3, filters, channels)`.
    """
    assert kernel.shape[:2] == (3, 3), kernel.shape
    wide = jnp.promote_types(x.dtype, jnp.float32)
    tall, broad = (-(-axis.size // _STEP) for axis in windows)
    tiles = _tiles(x.astype(wide), windows, tall, broad)
    over_channels = (((1,), (1 if turned else 0,)), ((), ()))
    products = [
        [lax.dot_general(tile, matrix, over_channels) for tile, matrix in zip(*pair, strict=True)]
        for pair in zip(tiles, _transformed(kernel.astype(wide), turned), strict=True)
    ]
    columns = [_combined(_RESULT, list(column)) for column in zip(*products, strict=True)]
    rows = [_combined(_RESULT, list(row)) for row in zip(*columns, strict=True)]
    shape = (x.shape[0], tall, broad, products[0][0].shape[-1])
    mixed = jnp.stack([jnp.stack([result.reshape(shape) for result in row], 3) for row in rows], 2)
    whole = mixed.reshape(x.shape[0], _STEP * tall, _STEP * broad, shape[-1])
    return whole[:, : windows[0].size, : windows[1].size].astype(x.dtype)


def _tiles(x: Array, windows: Sequence[Window], tall: int, broad: int) -> list[list[Array]]:
    """B' d B of all tiles: 4 rows of 4 arrays `(tiles, channels)`."""
    batch, *sizes, channels = x.shape
    extents = [_STEP * count + 2 for count in (tall, broad)]
    ends = zip(extents, windows, sizes, strict=True)
    pads = [(0, 0, 0), *((axis.before, extent - axis.before - size, 0) for extent, axis, size in ends), (0, 0, 0)]
    # The barriers keep XLA from computing what stands before them anew for each of its uses.
    barrier: Any = lax.optimization_barrier
    padded = barrier(lax.pad(x, jnp.zeros((), x.dtype), pads))
    last_row, last_column = (_STEP * (count - 1) + 1 for count in (tall, broad))
    cuts = [
        lax.slice(padded, (0, at, 0, 0), (batch, at + last_row, extents[1], channels), (1, _STEP, 1, 1))
        for at in range(4)
    ]
    found = []
    for row in barrier(_combined(_DATA, cuts)):
        parts = [
            lax.slice(row, (0, 0, at, 0), (batch, tall, at + last_column, channels), (1, 1, _STEP, 1))
            for at in range(4)
        ]
        found.append(_combined(_DATA, [part.reshape(-1, channels) for part in parts]))
    return found


def _transformed(kernel: Array, turned: bool) -> list[list[Array]]:
    """G g G': 4 rows of 4 matrices of the kernel's two last axes."""
    order = (2, 1, 0) if turned else (0, 1, 2)
    columns = [_combined(_KERNEL, [kernel[i, j] for i in order]) for j in order]
    return [_combined(_KERNEL, list(row)) for row in zip(*columns, strict=True)]


def _combined(matrix: Sequence[Sequence[float]], arrays: Sequence[Array]) -> list[Array]:
    """The product of a matrix with a column of arrays; each row's values are 0 or of one size."""
    found = []
    for row in matrix:
        (first, sign), *rest = ((array, value) for array, value in zip(arrays, row, strict=True) if value)
        total = first if sign > 0 else -first
        for array, value in rest:
            total = total + array if value > 0 else total - array
        found.append(total if abs(sign) == 1 else total * abs(sign))
    return found
