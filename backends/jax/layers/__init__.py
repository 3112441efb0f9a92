"""One function for each operator: what it computes, in JAX."""

from collections.abc import Mapping
from typing import TypeAlias

from jax import Array

NodeWeights: TypeAlias = Mapping[str, Array]
"""The arrays of one node, by their short name."""
Weights: TypeAlias = Mapping[str, NodeWeights]
"""The arrays of a network, by node and short name."""
