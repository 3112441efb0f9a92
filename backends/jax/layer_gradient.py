"""How a network's score for a class changes with what one of its layers gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from cnnc.backends.jax.apply import activations, apply
from cnnc.backends.jax.layers import Weights
from cnnc.backends.jax.xla import compile
from cnnc.ir import Graph
from cnnc.ops import Input


def score_gradient(
    graph: Graph, weights: Weights, inputs: Mapping[str, Array], name: str, index: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A node's value `(batch, *shape)`, and the gradient of a class's score with regard to it, of the same shape.

    The score is what enters the softmax or sigmoid that ends the network's only output `(batch, classes)`. Of a single
    sigmoid, class 1 has the score and class 0 its opposite.

    Args:
        graph: the network.
        weights: its arrays by node and short name.
        inputs: arrays by the names of the input nodes.
        name: the node.
        index: the class, 0-based.
    """
    cut = _cut(graph, name)
    ((label, _),) = graph.outputs

    def score(value: Array, weights: Weights, inputs: Mapping[str, Array]) -> Array:
        outputs, _ = apply(cut, weights, {**inputs, name: value}, logits=True)
        scores = outputs[label]
        if scores.shape[-1] == 1:
            return (scores if index else -scores).sum()
        return scores[:, index].sum()

    def both(weights: Weights, inputs: Mapping[str, Array]) -> tuple[Array, Array]:
        value = activations(graph, weights, inputs)[name]
        return value, jax.grad(score)(value, weights, inputs)

    value, gradient = compile.jit(both)(weights, dict(inputs))
    return np.asarray(value, np.float32), np.asarray(gradient, np.float32)


def _cut(graph: Graph, name: str) -> Graph:
    """The graph with a node in the place of an input: what else reads the same picture still does."""
    node = graph[name]
    fed = replace(node, op=Input(node.shape), inputs=())
    return replace(graph, nodes=tuple(fed if each.name == name else each for each in graph))
