"""Norms, in float32 at least whatever the network computes in. Statistics are biased and taken in two passes."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

from cnnc.backends.jax.layers import NodeWeights
from cnnc.ops import BatchNorm, GroupNorm, LayerNorm, LocalResponseNorm


def batch_norm(op: BatchNorm, weights: NodeWeights, x: Array) -> Array:
    """By the running statistics, as at inference."""
    scale = lax.rsqrt(weights["variance"] + op.epsilon) * weights.get("gamma", 1)
    return ((widened(x) - weights["mean"]) * scale + weights.get("beta", 0)).astype(x.dtype)


def batch_norm_of_batch(op: BatchNorm, weights: NodeWeights, x: Array) -> tuple[Array, dict[str, Array]]:
    """By the statistics of the batch, and the running statistics that follow: equations 1 to 4 of the paper."""
    normal, mean, variance = _standardize(widened(x), tuple(range(x.ndim - 1)), op.epsilon)
    return _affine(weights, normal).astype(x.dtype), updated_statistics(op, weights, mean, variance)


def batch_norm_of_shards(op: BatchNorm, weights: NodeWeights, x: Array, shards: int) -> tuple[Array, dict[str, Array]]:
    """By the statistics of each equal part of the batch; the running statistics follow the mean of theirs."""
    parted = widened(x).reshape(shards, -1, *x.shape[1:])
    normal, mean, variance = _standardize(parted, tuple(range(1, x.ndim)), op.epsilon)
    known = updated_statistics(op, weights, mean.mean(axis=0), variance.mean(axis=0))
    return _affine(weights, normal.reshape(x.shape)).astype(x.dtype), known


def updated_statistics(op: BatchNorm, weights: NodeWeights, mean: Array, variance: Array) -> dict[str, Array]:
    """The running statistics after a batch of these; they get no gradient."""
    return {
        short: lax.stop_gradient(op.momentum * weights[short] + (1 - op.momentum) * value.reshape(-1))
        for short, value in (("mean", mean), ("variance", variance))
    }


def layer_norm(op: LayerNorm, weights: NodeWeights, x: Array) -> Array:
    """Over the channels of every position."""
    return _affine(weights, _standardize(widened(x), (-1,), op.epsilon)[0]).astype(x.dtype)


def group_norm(op: GroupNorm, weights: NodeWeights, x: Array) -> Array:
    """Over space and each run of neighbouring channels."""
    grouped = widened(x).reshape(*x.shape[:-1], op.groups, -1)
    axes = (*range(1, x.ndim - 1), x.ndim)
    return _affine(weights, _standardize(grouped, axes, op.epsilon)[0].reshape(x.shape)).astype(x.dtype)


def local_response_norm(op: LocalResponseNorm, x: Array) -> Array:
    """The sum over neighbouring channels is a product with a matrix of ones along its diagonals."""
    wide = widened(x)
    channels = jnp.arange(x.shape[-1])
    band = (jnp.abs(channels[:, None] - channels) <= op.radius).astype(wide.dtype)
    energy = jnp.matmul(wide * wide, band, precision=lax.Precision.HIGHEST)
    return (wide / (op.bias + op.alpha * energy) ** op.beta).astype(x.dtype)


def widened(x: Array) -> Array:
    """The array in float32, or in float64 where it already is."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _standardize(x: Array, axes: Sequence[int], epsilon: float) -> tuple[Array, Array, Array]:
    mean = jnp.mean(x, axes, keepdims=True)
    centred = x - mean
    variance = jnp.mean(centred * centred, axes, keepdims=True)
    return centred * lax.rsqrt(variance + epsilon), mean, variance


def _affine(weights: NodeWeights, normal: Array) -> Array:
    return normal * weights.get("gamma", 1) + weights.get("beta", 0)
