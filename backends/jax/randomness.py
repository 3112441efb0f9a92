"""What drops at random in training. Every function takes the key that it spends."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def dropout(rate: float, key: Array, x: Array) -> Array:
    """Each value is 0 with probability `rate`, else divided by 1 - rate."""
    return _kept(rate, key, x, x.shape)


def drop_path(rate: float, key: Array, x: Array) -> Array:
    """Each sample is 0 as a whole with probability `rate`, else divided by 1 - rate."""
    return _kept(rate, key, x, (x.shape[0], *[1] * (x.ndim - 1)))


def _kept(rate: float, key: Array, x: Array, shape: tuple[int, ...]) -> Array:
    return jnp.where(jax.random.bernoulli(key, 1 - rate, shape), x / (1 - rate), jnp.zeros((), x.dtype))
