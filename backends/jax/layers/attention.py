"""Multi-head self-attention: Vaswani et al. 2017, equation 1 and section 3.2.2."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import jax
import jax.numpy as jnp
from jax import Array

from cnnc.backends.jax.layers.normalization import widened
from cnnc.backends.jax.layers.wide_sums import widely


def attend(weights: Mapping[str, Array], x: Array) -> Array:
    """Every position of `(batch, ..., channels)` reads all of them. The softmax is in float32 at least."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    query, key, value = (
        widely(jnp.add, jnp.einsum("bpc,chf->bphf", flat, weights[f"{part}_kernel"]), weights[f"{part}_bias"])
        for part in ("query", "key", "value")
    )
    scores = jnp.einsum("bqhf,bkhf->bhqk", query, key) / sqrt(query.shape[-1])
    shares = jax.nn.softmax(widened(scores)).astype(x.dtype)
    mixed = jnp.einsum("bhqk,bkhf->bqhf", shares, value)
    joined = jnp.einsum("bqhf,hfc->bqc", mixed, weights["output_kernel"])
    return widely(jnp.add, joined, weights["output_bias"]).reshape(x.shape)
