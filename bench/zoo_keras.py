"""Networks of keras.applications, and their weights in a graph: layers of one kind and one shape in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import keras
import numpy as np
from numpy.typing import NDArray

from bench.zoo_peers import Peer, Pictures
from cnnc import ops
from cnnc.ir import Graph, Node
from cnnc.net import Net
from cnnc.ops.preprocessing import PRESETS

T = TypeVar("T")
Arrays = dict[str, NDArray[np.float32]]

_KINDS: dict[type[ops.Op], str] = {
    ops.Conv: "linear",
    ops.Dense: "linear",  # as good as a 1x1 convolution: papers and Keras choose one or the other
    ops.Depthwise: "depthwise",
    ops.BatchNorm: "batch_norm",
    ops.LayerNorm: "layer_norm",
    ops.LayerScale: "layer_scale",
}


@dataclass
class Unit:
    """The arrays of one operator, by our names and in our layout, but kernels of 1x1 without their axes of 1."""

    kind: str
    arrays: Arrays

    def fits(self, other: Unit) -> bool:
        return self.kind == other.kind and _shapes(self.arrays) == _shapes(other.arrays)


def answer(peer: Peer, net: Net, pictures: Pictures) -> tuple[NDArray[np.float32], Mapping[str, Arrays]]:
    """The network's logits for pictures of 0 to 255, and its weights by the nodes of ours."""
    model = getattr(keras.applications, peer.name)(
        weights=None, input_shape=pictures.shape[1:], classifier_activation=None, **peer.options
    )
    randomize(model, seed=0)
    calm(model)
    if peer.walked:
        layers = walk(model.output._keras_history.operation, lambda layer: [i.operation for i in _sources(layer)])
        graph = net.graph
        nodes = walk(graph[graph.outputs[0][1]], lambda node: [graph[name] for name in node.inputs])
    else:
        layers, nodes = model.layers, list(net.graph)
    weights = moved(layers, nodes, net.graph)
    module = getattr(keras.applications, peer.pixels) if peer.pixels else None
    given = module.preprocess_input(pictures.copy()) if module else pictures
    return np.asarray(model(given, training=False)), weights


def randomize(model: Any, seed: int) -> None:
    """New values for all weights, statistics included: none is neutral, and activations keep their size."""
    rng = np.random.default_rng(seed)
    for layer in _with_weights(model.layers):
        if isinstance(layer, keras.layers.Normalization):
            _normalize_as_imagenet(layer)
        else:
            layer.set_weights([_drawn(rng, layer, weight) for weight in layer.weights])


def calm(model: Any) -> None:
    """Make residual branches small: sums would grow with every block, until it is rounding errors that are compared."""
    for layer in _with_weights(model.layers):
        if isinstance(layer, keras.layers.BatchNormalization) and _is_added(layer):
            layer.gamma.assign(layer.gamma / 4)


def _is_added(layer: Any) -> bool:
    """Whether a sum reads it, but for dropout between them."""
    readers = [node.operation for node in layer._outbound_nodes]
    return any(
        isinstance(each, keras.layers.Add) or (isinstance(each, keras.layers.Dropout) and _is_added(each))
        for each in readers
    )


def moved(layers: Iterable[Any], nodes: Iterable[Node], graph: Graph) -> dict[str, Arrays]:
    """A model's weights by a graph's nodes.

    Each node takes the first layer left of its kind and shapes: branches of equal shapes must come in one order on both
    sides. All layers must be taken.
    """
    left = [unit for layer in _with_weights(layers) for unit in _units(layer)]
    found: dict[str, Arrays] = {}
    for node in nodes:
        if not (own := graph.weights(node)):
            continue
        empty = {name: np.empty(weight.shape, np.float32) for name, weight in own.items()}
        wanted = Unit(_KINDS[type(node.op)], {name: _squeezed(array) for name, array in empty.items()})
        index = next((i for i, unit in enumerate(left) if unit.fits(wanted)), None)
        assert index is not None, f"Keras has nothing for {node.name}, {_shapes(wanted.arrays)}"
        arrays = left.pop(index).arrays
        found[node.name] = {name: arrays[name].reshape(array.shape) for name, array in empty.items()}
    assert not left, f"nothing here for {[(unit.kind, _shapes(unit.arrays)) for unit in left]}"
    return found


def walk(last: T, inputs: Callable[[T], Iterable[T]]) -> list[T]:
    """Everything that `last` needs, each after what it reads, and `last` itself: branch after branch."""
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


def _sources(layer: Any) -> list[Any]:
    return [tensor._keras_history for tensor in layer._inbound_nodes[0].input_tensors]


def _with_weights(layers: Iterable[Any]) -> Iterator[Any]:
    """The layers that have weights, those of models within the model included."""
    for layer in layers:
        if hasattr(layer, "layers"):
            yield from _with_weights(layer.layers)
        elif layer.weights:
            yield layer


def _units(layer: Any) -> Iterator[Unit]:
    arrays = {weight.name: np.asarray(weight) for weight in layer.weights}
    bias = {"bias": arrays["bias"]} if "bias" in arrays else {}
    match layer:
        case keras.layers.SeparableConv2D():
            yield Unit("depthwise", {"kernel": arrays["depthwise_kernel"]})
            yield Unit("linear", {"kernel": _squeezed(arrays["pointwise_kernel"]), **bias})
        case keras.layers.DepthwiseConv2D():
            yield Unit("depthwise", {"kernel": arrays["kernel"], **bias})
        case keras.layers.Conv2D() if layer.groups > 1 and arrays["kernel"].shape[2] == 1:
            yield Unit("depthwise", {"kernel": arrays["kernel"].swapaxes(2, 3), **bias})
        case keras.layers.Conv2D() | keras.layers.Dense():
            yield Unit("linear", {"kernel": _squeezed(arrays["kernel"]), **bias})
        case keras.layers.BatchNormalization():
            names = {"gamma": "gamma", "beta": "beta", "mean": "moving_mean", "variance": "moving_variance"}
            yield Unit("batch_norm", {ours: arrays[theirs] for ours, theirs in names.items() if theirs in arrays})
        case keras.layers.LayerNormalization():
            yield Unit("layer_norm", arrays)
        case keras.layers.Normalization():
            pass
        case _:
            assert type(layer).__name__ == "LayerScale", layer
            yield Unit("layer_scale", {"gamma": next(iter(arrays.values()))})


def _squeezed(array: NDArray[np.float32]) -> NDArray[np.float32]:
    return array.reshape(array.shape[-2:]) if array.ndim == 4 and array.shape[:2] == (1, 1) else array


def _shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _drawn(rng: np.random.Generator, layer: Any, weight: Any) -> NDArray[np.float64]:
    shape = weight.shape
    if "kernel" in weight.name:
        over_space = isinstance(layer, keras.layers.DepthwiseConv2D) or weight.name == "depthwise_kernel"
        return np.asarray(rng.normal(0, np.sqrt(2 / prod(shape[:2] if over_space else shape[:-1])), shape))
    if weight.name in ("bias", "beta", "moving_mean"):
        return np.asarray(rng.normal(0, 0.2, shape))
    return np.asarray(rng.uniform(0.5, 1.5, shape))


def _normalize_as_imagenet(layer: Any) -> None:
    """Statistics that adapt to data, in the unit that pixels have after `Rescaling(1 / 255)`."""
    mean, std = (np.array(values) / 255 for values in PRESETS["imagenet"])
    if layer.weights:
        layer.set_weights([mean, std**2, np.zeros(())])
        layer.finalize_state()
