"""Random dropping in training. Every function takes the key that it spends."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def keep(share: float | Array, key: Array, x: Array) -> Array:
    """Dropout: each value stays with probability `share`, divided by it, and is else 0."""
    return _kept(share, key, x, x.shape)


def keep_paths(share: float | Array, key: Array, x: Array) -> Array:
    """Stochastic depth: each sample as a whole stays with probability `share`, divided by it, and is else 0."""
    return _kept(share, key, x, (x.shape[0], *[1] * (x.ndim - 1)))


def _kept(share: float | Array, key: Array, x: Array, shape: tuple[int, ...]) -> Array:
    divisor = jnp.asarray(share, x.dtype)
    return jnp.where(jax.random.bernoulli(key, share, shape), x / divisor, jnp.zeros((), x.dtype))
