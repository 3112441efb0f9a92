"""Batch norm of a batch with its gradient written out: equations of section 3 of Ioffe & Szegedy 2015.

Autodiff's gradient goes through mean and variance, each a pass over the batch of its own. By hand there are two: one
sums the slopes and the slopes times what was normalised, one combines them.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from cnnc.backends.jax.layers import NodeWeights
from cnnc.backends.jax.layers.normalization import updated_statistics, widened
from cnnc.ops import BatchNorm


def batch_norm_by_hand(op: BatchNorm, weights: NodeWeights, x: Array) -> tuple[Array, dict[str, Array]]:
    """The result of `normalization.batch_norm_of_batch`."""
    channels = x.shape[-1]
    wide = jnp.promote_types(x.dtype, jnp.float32)
    gamma = weights.get("gamma", jnp.ones(channels, wide))
    beta = weights.get("beta", jnp.zeros(channels, wide))
    y, mean, variance = _normalize(x, gamma, beta, op.epsilon)
    return y, updated_statistics(op, weights, mean, variance)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize(x: Array, gamma: Array, beta: Array, epsilon: float) -> tuple[Array, Array, Array]:
    return _forward(x, gamma, beta, epsilon)[0]


def _forward(
    x: Array, gamma: Array, beta: Array, epsilon: float
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array, Array]]:
    axes = tuple(range(x.ndim - 1))
    wide = widened(x)
    mean = jnp.mean(wide, axes)
    centred = wide - mean
    variance = jnp.mean(centred * centred, axes)
    deviation = jnp.sqrt(variance + epsilon)
    y = (centred * (gamma / deviation) + beta).astype(x.dtype)
    return (y, mean, variance), (x, gamma, mean, deviation)


def _backward(
    epsilon: float, kept: tuple[Array, Array, Array, Array], slopes: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    """The statistics get no slope: training's running ones are constants to it."""
    x, gamma, mean, deviation = kept
    axes = tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]
    slope, centred = widened(slopes[0]), widened(x) - mean
    beta_slope = jnp.sum(slope, axes)
    gamma_slope = jnp.sum(slope * centred, axes) / deviation
    x_slope = (gamma / deviation) * (slope - beta_slope / count - centred * (gamma_slope / (count * deviation)))
    return x_slope.astype(x.dtype), gamma_slope.astype(gamma.dtype), beta_slope.astype(gamma.dtype)


_normalize.defvjp(_forward, _backward)
