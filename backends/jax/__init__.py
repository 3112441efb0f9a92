"""Computes a graph with JAX: weights by `init`, values by `apply`, one function an operator in `lower`."""

from cnnc.backends.jax import apply as apply
from cnnc.backends.jax import bind as bind
from cnnc.backends.jax import compile as compile
from cnnc.backends.jax import init as init
from cnnc.backends.jax import lower as lower
