"""A network as a Python module of its own, and as StableHLO."""
