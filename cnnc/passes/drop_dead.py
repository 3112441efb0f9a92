"""Leave out what no output needs. An output is a function of the nodes it reads, and they of theirs."""

from __future__ import annotations

from cnnc import ops
from cnnc.ir.model import Model
from cnnc.passes.edit import without


def drop_dead(model: Model) -> Model:
    """The model without nodes that no output needs. Inputs stay: they are how the model is called."""
    graph = model.graph
    needed = {name for _, name in graph.outputs}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return without(
        model, {node.name for node in graph if node.name not in needed and not isinstance(node.op, ops.Input)}
    )
