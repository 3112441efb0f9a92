"""One function an operator: what it computes in JAX."""
