"""Arithmetic in float32 at least, for what is used by many values.

Such an operand's gradient is a sum over all that used it, in the type of the products. XLA adds in that type: a bias
whose gradient is the sum of 262,144 ones in bfloat16 gets 2,048 on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable

from jax import Array

from cnnc.backends.jax.layers.normalization import widened


def widely(function: Callable[..., Array], *arrays: Array) -> Array:
    """The function of arrays of one type, computed in float32 at least; the result is of their type again."""
    return function(*map(widened, arrays)).astype(arrays[0].dtype)
