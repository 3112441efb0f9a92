"""The graph in a Keras model's configuration: which layer reads which, and where the file has each one's weights.

The configuration is data and is only read: classes are known by name, and nothing of it is imported or evaluated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cnnc.weights.importing.layers.file_layers import Read, SourceLayer
from cnnc.weights.importing.layers.steps import Step, unknown
from cnnc.weights.importing.readers.keras_hdf5 import Group, layers_within, multi_head, variables
from cnnc.weights.importing.readers.keras_layers import IGNORED, SEPARABLE, make_layers, snake, with_epsilon
from cnnc.weights.importing.readers.keras_steps import activated, step_of, window_of

Reads = tuple[Read, ...]
Config = Mapping[str, Any]
_NETWORKS = ("Functional", "Model", "Sequential")
_TENSOR = "__keras_tensor__"


@dataclass(frozen=True)
class Value:
    """The part of a network between two layers: the layers that it is made of, and how."""

    reads: Reads = ()
    step: Step = field(default_factory=unknown)


@dataclass
class KerasNetwork:
    """The layers that a configuration describes. `opaque` are layers whose inside it does not show."""

    layers: list[SourceLayer] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)
    opaque: list[str] = field(default_factory=list)
    channels_first: bool = False


def walk(config: Config, weights: Group) -> KerasNetwork:
    """The layers of a network in the order that they run; without `reads` where one of them hides its inside."""
    network = KerasNetwork()
    _network(config, weights, "", [Value(step=Step("input"))], network)
    if network.opaque:
        network.layers = [replace(layer, reads=None, sees=unknown()) for layer in network.layers]
    return network


def is_network(config: Config) -> bool:
    """Whether a configuration lists its layers; that of a class of the author's own does not."""
    if not isinstance(config, Mapping) or not isinstance(config.get("config"), Mapping):
        return False
    return isinstance(config["config"].get("layers"), Sequence)


def layer_configs(config: Config) -> Iterator[Config]:
    """Every layer's configuration, those of nested networks as well."""
    for each in config["config"]["layers"]:
        yield each
        if is_network(each):
            yield from layer_configs(each)


def _network(
    config: Config, weights: Group, prefix: str, inputs: Sequence[Value], network: KerasNetwork
) -> list[Value]:
    """A network's outputs, for its inputs."""
    inside = config["config"]
    counts: Counter[str] = Counter()
    values: dict[tuple[str, int], list[Value]] = {}
    starts = {name: i for i, (name, *_) in enumerate(_ends(inside.get("input_layers", [])))}
    last: list[Value] = list(inputs)
    for each in inside["layers"]:
        name = str(each.get("name") or each["config"].get("name", ""))
        path = snake(each["class_name"])
        number = counts[path]
        counts[path] += 1
        group = _child(weights, f"{path}_{number}" if number else path)
        if each["class_name"] == "InputLayer":
            is_given = name in starts and starts[name] < len(inputs)
            values[name, 0] = [inputs[starts[name]] if is_given else Value(step=Step("input"))]
            continue
        nodes = each.get("inbound_nodes")
        if nodes is None or config["class_name"] == "Sequential":
            last = _layer(each, group, f"{prefix}{name}", [last], network)
            continue
        arguments = [[_value(values, key) for key in _tensors(node)] for node in nodes]
        results = _calls(each, group, f"{prefix}{name}", arguments, network)
        for place, result in enumerate(results):
            values[name, place] = result
        last = results[-1] if results else last
    ends = list(_ends(inside.get("output_layers", [])))
    if not ends:
        return last
    return [_value(values, (str(name), int(node), int(place))) for name, node, place in ends]


def _calls(
    each: Config, group: Group | None, name: str, arguments: list[list[Value]], network: KerasNetwork
) -> list[list[Value]]:
    """The results of every call of a layer; one with weights is one layer, however often it is called."""
    if not arguments:
        return []
    before = len(network.layers)
    first = _layer(
        each, group, name, [_join(values) for values in zip(*arguments, strict=False)], network, arguments[0]
    )
    if len(network.layers) > before:
        return [first] * len(arguments)
    return [first, *(_layer(each, None, name, values, network) for values in arguments[1:])]


def _layer(
    each: Config, group: Group | None, name: str, inputs: Any, network: KerasNetwork, own: list[Value] | None = None
) -> list[Value]:
    """Add what a layer holds; what it gives."""
    kind, config = each["class_name"], each["config"]
    flat: list[Value] = [value for item in inputs for value in (item if isinstance(item, list) else [item])]
    network.channels_first |= config.get("data_format") == "channels_first"
    if kind in _NETWORKS and is_network(each):
        inner = group.get("layers") if group is not None else None
        return _network(each, inner, f"{name}/", flat, network)
    layers: list[SourceLayer] = []
    if group is not None:
        layers = _own_layers(kind, name, group, config, network)
    if not layers:
        return [_through(kind, config, own if own is not None else flat)]
    value, window = _join(flat), window_of(kind, config)
    for layer in layers:
        number = len(network.layers)
        leaf = Step("layer", name=layer.name)
        network.layers.append(replace(layer, reads=value.reads, sees=value.step, gives=leaf, window=window))
        value, window = Value((Read(number),), leaf), None
    return [replace(value, step=activated(config, value.step))]


def _own_layers(kind: str, name: str, group: Group, config: Config, network: KerasNetwork) -> list[SourceLayer]:
    own = variables(group)
    if kind in IGNORED:
        if own:
            network.ignored[name] = IGNORED[kind]
        return []
    if kind == "MultiHeadAttention":
        whole = multi_head(name, group)
        return [] if whole is None else [whole]
    inner = layers_within(group, name, network.ignored, kind, config)
    if own and len(inner) == len(make_layers(kind, name, own, config)) and (len(inner) == 1 or kind in SEPARABLE):
        return [with_epsilon(layer, config) for layer in inner]
    if inner:
        network.opaque.append(name)
    return inner


def _through(kind: str, config: Config, inputs: Sequence[Value]) -> Value:
    step = step_of(kind, config, [value.step for value in inputs])
    if kind != "Concatenate":
        return Value(_join(inputs).reads, step)
    reads = (
        replace(read, place=f"{read.place}.{i}" if read.place else str(i))
        for i, value in enumerate(inputs)
        for read in value.reads
    )
    return Value(tuple(dict.fromkeys(reads)), step)


def _join(values: Sequence[Value]) -> Value:
    """All that values are made of; how, if all are the same one."""
    steps = list(dict.fromkeys(value.step for value in values))
    reads = tuple(dict.fromkeys(read for value in values for read in value.reads))
    return Value(reads, steps[0] if len(steps) == 1 else unknown(*steps))


def _value(values: Mapping[tuple[str, int], list[Value]], key: tuple[str, int, int]) -> Value:
    outputs = values.get(key[:2], [])
    return outputs[key[2]] if key[2] < len(outputs) else _join(outputs)


def _tensors(node: Any) -> Iterator[tuple[str, int, int]]:
    """The tensors that a call takes: version 3's marked ones, or version 2's `[name, node, place, arguments]`."""
    if isinstance(node, Mapping):
        if node.get("class_name") == _TENSOR:
            name, number, place = node["config"]["keras_history"][:3]
            yield str(name), int(number), int(place)
        else:
            for inner in node.values():
                yield from _tensors(inner)
    elif isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and all(isinstance(each, int) for each in node[1:3]):
            yield node[0], node[1], node[2]
            node = node[3:]
        for inner in node:
            yield from _tensors(inner)


def _ends(tensors: Any) -> Iterator[tuple[str, int, int]]:
    return _tensors(list(tensors.values()) if isinstance(tensors, Mapping) else list(tensors))


def _child(group: Group | None, name: str) -> Group | None:
    return group.get(name) if group is not None else None
