"""First values of a network's weights on the default device."""

from __future__ import annotations

import jax

from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.ir.initializers import draw


def initialize(graph: Graph, seed: int) -> dict[str, dict[str, jax.Array]]:
    """Float32 arrays for every node that owns weights, by node and by short name."""
    if seed < 0:
        raise CnnError.of("value", f"`seed` must be 0 or more, found {seed}")
    return {
        node.name: {
            short: jax.device_put(draw(weight, seed, f"{node.name}.{short}")) for short, weight in weights.items()
        }
        for node in graph
        if (weights := graph.weights(node))
    }
