"""Fits what a user passes, an array or several and weights, to what a graph declares. Misfits are `CnnError`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from cnnc.backends.jax.layers import Weights
from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.ir import Graph, Node
from cnnc.ops import Input
from cnnc.wording import quoted


def bind_inputs(graph: Graph, x: Any) -> dict[str, Array]:
    """Arrays by input name, from one array, a mapping by name, or a sequence in the order of the spec."""
    given = _by_name(graph, x)
    arrays = {node.name: _checked(node, jnp.asarray(given[node.name])) for node in graph.inputs}
    (first, one), *rest = arrays.items()
    for name, other in rest:
        if other.shape[0] != one.shape[0]:
            raise CnnError.of(
                "shape", f"input `{name}` holds {other.shape[0]} samples, but `{first}` holds {one.shape[0]}"
            )
    return arrays


def check_weights(graph: Graph, weights: Weights) -> None:
    """Raises CnnError when an array of the graph is missing or of another shape."""
    for node in graph:
        arrays = weights.get(node.name, {})
        for short, weight in graph.weights(node).items():
            name = f"{node.name}.{short}"
            if short not in arrays:
                known = [f"{n}.{s}" for n, own in weights.items() for s in own]
                raise CnnError.of("weights", f"`{name}` is missing", help=did_you_mean(name, known))
            if arrays[short].shape != weight.shape:
                found = _tuple(arrays[short].shape)
                raise CnnError.of("weights", f"`{name}` must be {_tuple(weight.shape)}, found {found}")


def _by_name(graph: Graph, x: Any) -> Mapping[str, Any]:
    names = [node.name for node in graph.inputs]
    listed = quoted(names)
    if isinstance(x, Mapping):
        for name in x:
            if name not in names:
                help = did_you_mean(str(name), names) or f"the inputs are {listed}"
                raise CnnError.of("input", f"no input is called `{name}`", help=help)
        for name in names:
            if name not in x:
                raise CnnError.of("input", f"no array is given for input `{name}`", help=f"the inputs are {listed}")
        return x
    if len(names) == 1:
        return {names[0]: x[0] if isinstance(x, tuple) and len(x) == 1 else x}
    if not isinstance(x, Sequence):
        help = "pass a mapping by input name, or a tuple in that order"
        raise CnnError.of("input", f"one array is given for {len(names)} inputs: {listed}", help=help)
    if len(x) != len(names):
        raise CnnError.of("input", f"{len(x)} arrays are given for {len(names)} inputs: {listed}")
    return dict(zip(names, x, strict=True))


def _checked(node: Node, array: Array) -> Array:
    assert isinstance(node.op, Input)
    if array.shape[1:] != node.shape:
        expected = ", ".join(["batch", *map(str, node.shape)])
        raise CnnError.of(
            "shape",
            f"input `{node.name}` takes ({expected}), found {_tuple(array.shape)}",
            help="one sample is a batch of one: `x[None]`" if array.shape == node.shape else None,
        )
    if node.op.dtype == "int" and not jnp.issubdtype(array.dtype, jnp.integer):
        raise CnnError.of("type", f"input `{node.name}` takes integers, found {array.dtype}")
    return array


def _tuple(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"
