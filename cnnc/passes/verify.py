"""Invariants of every model, before and after every pass."""

from __future__ import annotations

from cnnc.ir import verify
from cnnc.ir.model import Model


def verify_model(model: Model) -> None:
    """Assert that the graph is sound, and that the weights are those that its nodes declare, in their shapes."""
    graph = model.graph
    verify(graph)
    strangers = model.weights.keys() - graph.by_name.keys()
    assert not strangers, f"weights of no node: {', '.join(sorted(strangers))}"
    for node in graph:
        declared = {short: weight.shape for short, weight in graph.weights(node).items()}
        found = {short: array.shape for short, array in model.weights.get(node.name, {}).items()}
        assert found == declared, f"{node.name}: weights {found}, declared {declared}"
