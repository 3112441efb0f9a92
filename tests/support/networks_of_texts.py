"""What the tests of the language ask of a spec: the network that its text describes, in a few words."""

from __future__ import annotations

from typing import Any

import cnnc
from cnnc.ir import Graph, Node, verify
from cnnc.net import Net
from cnnc.ops import Input, Op, Shape
from cnnc.overrides import Overrides
from cnnc.rendering.spec_text import print_spec

PICTURE = "input 8x8x3\n"


def network(text: str, **overrides: Any) -> Net:
    """The network of a spec's text; every test of the language checks that its graph holds together."""
    net = cnnc.load_text(text, overrides=Overrides(**overrides))
    verify(net.graph)
    return net


def layers(text: str, **overrides: Any) -> list[Node]:
    """The nodes of the network, without its inputs."""
    return [node for node in network(text, **overrides).graph if not isinstance(node.op, Input)]


def names(text: str, **overrides: Any) -> list[str]:
    return [node.name for node in layers(text, **overrides)]


def operators(text: str, **overrides: Any) -> list[str]:
    return [node.op.name for node in layers(text, **overrides)]


def ops(text: str, **overrides: Any) -> list[Op]:
    return [node.op for node in layers(text, **overrides)]


def channels(text: str, **overrides: Any) -> list[int]:
    """The channels that each layer puts out."""
    return [node.shape[-1] for node in layers(text, **overrides)]


def attributes(text: str, attribute: str, **overrides: Any) -> list[Any]:
    """An attribute of every layer that has it, in order."""
    found = ops(text, **overrides)
    return [getattr(op, attribute) for op in found if hasattr(op, attribute)]


def shape(text: str, **overrides: Any) -> Shape:
    """The shape of the network's only output."""
    graph = network(text, **overrides).graph
    ((_, name),) = graph.outputs
    return graph[name].shape


def edges(text: str, **overrides: Any) -> dict[str, tuple[str, ...]]:
    """What every layer reads."""
    return {node.name: node.inputs for node in layers(text, **overrides)}


def structure(graph: Graph) -> tuple[list[int], list[list[int]], dict[str, int]]:
    """The graph without names and order: digests of nodes, of those that use the same weights, and of the outputs.

    A node's digest is of its operator, its shape and all that it reads.
    """
    digests: dict[str, int] = {}
    users: dict[str, list[int]] = {}
    for node in graph:
        digests[node.name] = hash((node.op, node.shape, tuple(digests[name] for name in node.inputs)))
        if node.op.weights(*(graph[name].shape for name in node.inputs)):
            users.setdefault(node.owner, []).append(digests[node.name])
    outputs = {label: digests[name] for label, name in graph.outputs}
    return sorted(digests.values()), sorted(map(sorted, users.values())), outputs


def assert_same_text(text: str) -> None:
    """What is printed of a spec is the same network: layers, outputs, parameters, work."""
    graph = cnnc.load_text(text).graph
    printed = print_spec(graph)
    again = cnnc.load_text(printed).graph
    assert structure(again) == structure(graph), printed
    assert (again.parameter_count, again.trainable_count) == (graph.parameter_count, graph.trainable_count), printed
    assert again.mac_count == graph.mac_count
    assert [(n.shape, n.op) for n in again.inputs] == [(n.shape, n.op) for n in graph.inputs]
