"""Computes a graph with JAX: weights by `init`, values by `apply`, one function an operator in `layers.lower`."""

from cnnc.backends.jax import apply as apply
from cnnc.backends.jax import bind as bind
from cnnc.backends.jax import init as init
from cnnc.backends.jax.layers import lower as lower
from cnnc.backends.jax.xla import compile as compile
