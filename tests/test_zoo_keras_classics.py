"""The classics beside those of keras.applications. Theirs have branches of equal shapes, so layers meet by position."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

import cnnc
from cnnc.ir import Graph, Node
from cnnc.ops import Weight

keras: Any = pytest.importorskip("keras", reason="Keras is not installed")

from tests.keras_weights import moved, randomize  # noqa: E402  # needs Keras
from tests.test_zoo_keras import Peer, assert_same_logits  # noqa: E402

T = TypeVar("T")

PEERS = [
    *(Peer(f"ResNet{size}", f"resnet_v1_{size}", {}, {}, "resnet") for size in (50, 101, 152)),
    *(Peer(f"ResNet{size}V2", f"resnet_v2_{size}", {}, {}, "resnet_v2") for size in (50, 101, 152)),
    Peer("InceptionV3", "inception_v3", {}, {}, "inception_v3", 107),
    Peer("NASNetMobile", "nasnet", {}, {}, "nasnet", 96),
]


@dataclass(frozen=True)
class Layers:
    """The layers of a Keras model, inputs before their readers, from the output on: branch after branch."""

    layers: list[Any]


@dataclass(frozen=True)
class Walked:
    """A graph's nodes in the same order."""

    graph: Graph
    nodes: list[Node]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def weights(self, node: Node) -> Mapping[str, Weight]:
        return self.graph.weights(node)


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.spec)
def test_kerass_weights_give_kerass_outputs(peer: Peer) -> None:
    shape = (peer.size, peer.size, 3)
    model = getattr(keras.applications, peer.name)(
        weights=None, input_shape=shape, classifier_activation=None, **peer.options
    )
    randomize(model, seed=0)
    calm(model)
    net = cnnc.load(peer.spec, input=shape, **peer.overrides)
    theirs = Layers(walk(model.output._keras_history.operation, lambda layer: [i.operation for i in sources(layer)]))
    graph = net.graph
    ours = Walked(graph, walk(graph[graph.outputs[0][1]], lambda node: [graph[name] for name in node.inputs]))
    assert_same_logits(peer, model, net, moved(theirs, ours))  # type: ignore[arg-type]  # all that it asks of a graph


def calm(model: Any) -> None:
    """Make the branches of ResNet v1 small, whose sums grow with every block until the pictures make no difference."""
    for layer in model.layers:
        if layer.name.endswith("_3_bn"):
            layer.gamma.assign(layer.gamma / 4)


def sources(layer: Any) -> list[Any]:
    return [tensor._keras_history for tensor in layer._inbound_nodes[0].input_tensors]


def walk(last: T, inputs: Callable[[T], Iterable[T]]) -> list[T]:
    """Everything that `last` needs, each after what it reads, and `last` itself."""
    found: list[T] = []
    seen: set[int] = set()
    waiting: list[tuple[T, Iterator[T]]] = [(last, iter(inputs(last)))]
    while waiting:
        item, rest = waiting[-1]
        after = next((each for each in rest if id(each) not in seen), None)
        if after is not None:
            seen.add(id(after))
            waiting.append((after, iter(inputs(after))))
        else:
            found.append(item)
            waiting.pop()
    return found
