"""Resizing of the spatial axes with half-pixel centres, one axis after the other."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array


def nearest(x: Array, sizes: Sequence[int]) -> Array:
    """Output value i of m is the input's at floor((2 i + 1) n / (2 m))."""
    for axis, (n, m) in enumerate(zip(x.shape[1:-1], sizes, strict=True), 1):
        # A repeat's gradient is a sum, a gather's a scatter, which is far slower.
        x = jnp.repeat(x, m // n, axis) if m % n == 0 else jnp.take(x, (2 * np.arange(m) + 1) * n // (2 * m), axis)
    return x


def bilinear(x: Array, sizes: Sequence[int]) -> Array:
    """Output value i of m interpolates the input at (i + 1/2) n / m - 1/2, clamped to the axis."""
    for axis, (n, m) in enumerate(zip(x.shape[1:-1], sizes, strict=True), 1):
        at = (np.arange(m) + 0.5) * n / m - 0.5
        low = np.floor(at).astype(int)
        share = (at - low).astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1 - axis))
        below, above = (jnp.take(x, np.clip(index, 0, n - 1), axis) for index in (low, low + 1))
        x = below * (1 - share) + above * share
    return x
