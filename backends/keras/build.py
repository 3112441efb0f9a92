"""Builds a `keras.Model` of a graph: layers are called as the nodes are, weights are the graph's own."""

from __future__ import annotations

import re
from keyword import iskeyword
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cnnc.backends.keras.lower import lower
from cnnc.backends.keras.weighted import Arrays
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph, Node
from cnnc.net import Weights
from cnnc.ops import Input, Op, format_shape


def build(graph: Graph, weights: Weights) -> Any:
    """A functional model with the network's weights.

    It takes an array `(batch, ...)`, for several inputs a mapping by `input_name`; it returns an array, or several by
    the outputs' names. Batch norms keep their momentum, dropout and drop_path their rates, so that it trains on.

    Raises:
        CnnError: weights that do not fit, or an operator that Keras has no layer for.
    """
    values: dict[str, Any] = {}
    arrays: dict[str, Arrays] = {}
    for node in graph:
        if isinstance(node.op, Input):
            dtype = "int32" if node.op.dtype == "int" else "float32"
            values[node.name] = keras.Input(node.shape, dtype=dtype, name=input_name(node))
        else:
            if node.owner == node.name:
                arrays[node.name] = Arrays(_arrays(graph, node, weights))
            values[node.name] = _layer(node, arrays[node.owner], [values[name] for name in node.inputs])
    inputs = {input_name(node): values[node.name] for node in graph.inputs}
    outputs = {label: _own(graph[name], label, values[name]) for label, name in graph.outputs}
    return keras.Model(_single(inputs), _single(outputs), name=re.sub(r"[^\w.-]", "_", graph.name, flags=re.ASCII))


def input_name(node: Node) -> str:
    """The name of an input in Keras: its own; behind a word of Python, which TensorFlow takes for no name, a `_`."""
    return f"{node.name}_" if iskeyword(node.name) else layer_name(node.name)


def layer_name(name: str) -> str:
    """The name of a node's layer in Keras: its own; a slash, which Keras forbids, becomes a dot."""
    return name.replace("/", ".")


def _layer(node: Node, weights: Arrays, inputs: list[Any]) -> Any:
    if lower.dispatch(type(node.op)) is lower.dispatch(Op):
        raise CnnError.of(
            "backend",
            f"the backend `keras` has no operator `{node.op.name}`, which `{node.name}` needs",
            node.origin.span if node.origin else None,
            notes=node.origin.notes if node.origin else (),
        )
    return lower(node.op, weights, layer_name(node.name), *inputs)


def _arrays(graph: Graph, node: Node, weights: Weights) -> dict[str, NDArray[Any]]:
    """The node's arrays in the order that its operator declares them."""
    found: dict[str, NDArray[Any]] = {}
    for short, weight in graph.weights(node).items():
        name = f"{node.name}.{short}"
        if short not in weights.get(node.name, {}):
            raise CnnError.of("weights", f"`{name}` is missing")
        found[short] = np.asarray(weights[node.name][short], np.float32)
        if found[short].shape != weight.shape:
            wanted, shape = format_shape(weight.shape), format_shape(found[short].shape)
            raise CnnError.of("weights", f"`{name}` must be {wanted}, found {shape}")
    return found


def _own(node: Node, label: str, value: Any) -> Any:
    """The value of an output; an input that is one too needs a layer, for a model is made of layers."""
    return keras.layers.Identity(name=f"{layer_name(node.name)}.{label}")(value) if not node.inputs else value


def _single(tensors: dict[str, Any]) -> Any:
    return tensors if len(tensors) > 1 else next(iter(tensors.values()))
