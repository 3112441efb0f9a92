"""The layers of two models in pairs: which of the one are which of the other.

Layers of a network and of the file that was compiled of it are paired as `cnnc diff` does, by name, the network's batch
norms folded first. Where no names are shared, as with others' files, the layers that make maps are paired in order,
which must be of the same kinds and shapes in both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cnnc.activations.model_view import (
    FILE_CONVOLUTIONS,
    FILE_MERGES,
    FileView,
    Layer,
    ModelView,
    NetworkView,
    with_model,
)
from cnnc.backends.tflite.compile import compile_float
from cnnc.diagnostics import CnnError
from cnnc.evaluation.correspondence import match_tensors, nodes_by_tensor
from cnnc.ops import format_shape
from cnnc.passes import pipelines as passes
from cnnc.tflite_file.program import Program

_IN_ORDER: Final = FILE_CONVOLUTIONS | FILE_MERGES | {"AVERAGE_POOL_2D", "MAX_POOL_2D"}
"""Operators by which files that share no names are paired."""


@dataclass(frozen=True, eq=False)
class Pairing:
    """Two models whose layers are paired: each layer of the first that has one, and that one's name in the second.

    `criterion` is `by name` or `by order and shape`.
    """

    first: ModelView
    second: ModelView
    layers: tuple[Layer, ...]
    partners: dict[str, str]
    criterion: str


def pair_layers(first: ModelView, second: ModelView) -> Pairing:
    """Pair the layers of two models.

    Raises:
        CnnError: they take other inputs, or are of other networks.
    """
    if first.input_shape != second.input_shape:
        shapes = [format_shape(view.input_shape) for view in (first, second)]
        raise CnnError.of("data", f"`{first.name}` takes {shapes[0]}, and `{second.name}` {shapes[1]}")
    match first, second:
        case FileView(), FileView():
            return _pair_files(first, second)
        case NetworkView(), FileView():
            return _pair_compiled(first, second, network_first=True)
        case FileView(), NetworkView():
            return _pair_compiled(second, first, network_first=False)
    return _pair_networks(first, second)


def _pair_compiled(network: NetworkView, file: FileView, *, network_first: bool) -> Pairing:
    fault: CnnError | None = None
    named: Pairing | None = None
    try:
        named = _by_name(network, file, network_first)
    except CnnError as error:
        fault = error
    if named is not None and any(layer.is_map and layer.is_end for layer in named.layers):
        return named
    pairing = _by_order(network, file, network_first) or named  # a name such as `head` says little
    if pairing is None:
        assert fault is not None
        first, second = (network, file) if network_first else (file, network)
        raise _mismatch(first, second, fault.diagnostics[0].message) from fault
    return pairing


def _by_name(network: NetworkView, file: FileView, network_first: bool) -> Pairing:
    model = passes.run(network.trained.model, passes.INFERENCE_INT8 if file.is_int8 else passes.INFERENCE)
    tensors = match_tensors(file.program, model.graph, Path(file.name))
    names = [(node, tensor.name) for node, tensor in tensors.items()]
    return _pairing(with_model(network, model), file, names, network_first, "by name")


def _by_order(network: NetworkView, file: FileView, network_first: bool) -> Pairing | None:
    model = passes.run(network.trained.model, passes.INFERENCE)
    program = compile_float(network.trained.model)
    nodes = nodes_by_tensor(program, model.graph)
    mine = [(nodes[each[0]], *each[1:]) for each in _maps_in_order(program) if each[0] in nodes]
    theirs = _maps_in_order(file.program)
    if not mine or [each[1:] for each in mine] != [each[1:] for each in theirs]:
        return None
    names = [(a[0], b[0]) for a, b in zip(mine, theirs, strict=True)]
    return _pairing(with_model(network, model), file, names, network_first, "by order and shape")


def _pairing(
    network: NetworkView, file: FileView, names: list[tuple[str, str]], network_first: bool, criterion: str
) -> Pairing:
    """Layers called as the network calls them, of the kind that the file says, for that has them fused."""
    first, second = (network, file) if network_first else (file, network)
    layers, partners = [], {}
    in_network = {layer.name: layer for layer in network.layers}
    in_file = {layer.name: layer for layer in file.layers}
    for mine, theirs in names:
        if theirs not in in_file or mine not in in_network:
            continue
        name, partner = (mine, theirs) if network_first else (theirs, mine)
        layers.append(replace(in_file[theirs], name=name, title=mine, shape=in_network[mine].shape))
        partners[name] = partner
    return Pairing(first, second, tuple(layers), partners, criterion)


def _pair_networks(first: ModelView, second: ModelView) -> Pairing:
    pairing = _by_same_name(first, second)
    if not any(layer.is_end for layer in pairing.layers):
        raise _mismatch(first, second, "no layer has the same name and shape in both")
    return pairing


def _pair_files(first: FileView, second: FileView) -> Pairing:
    pairing = _by_same_name(first, second)
    if any(layer.is_end and layer.is_map for layer in pairing.layers):
        return pairing
    mine, theirs = _maps_in_order(first.program), _maps_in_order(second.program)
    if not mine or [each[1:] for each in mine] != [each[1:] for each in theirs]:
        raise _mismatch(first, second, "neither the names nor the kinds and shapes of their layers agree")
    partners = {a[0]: b[0] for a, b in zip(mine, theirs, strict=True)}
    layers = tuple(layer for layer in first.layers if layer.name in partners)
    return Pairing(first, second, layers, partners, "by order and shape")


def _by_same_name(first: ModelView, second: ModelView) -> Pairing:
    """The layers of the same name and shape in two networks, or in two files."""
    shapes = {layer.name: layer.shape for layer in second.layers}
    shared = tuple(layer for layer in first.layers if shapes.get(layer.name) == layer.shape)
    return Pairing(first, second, shared, {layer.name: layer.name for layer in shared}, "by name")


def _maps_in_order(program: Program) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, kind and shape of what operators of maps write."""
    maps = []
    for operator in program:
        shape = program[operator.outputs[0]].shape[1:] if operator.outputs else ()
        if operator.kind in _IN_ORDER and len(shape) > 1 and any(size > 1 for size in shape[:-1]):
            maps.append((operator.outputs[0], operator.kind, shape))
    return maps


def _mismatch(first: ModelView, second: ModelView, reason: str) -> CnnError:
    has_file = isinstance(first, FileView) or isinstance(second, FileView)
    return CnnError.of(
        "tflite" if has_file else "weights",
        f"the layers of `{first.name}` and `{second.name}` cannot be paired: {reason}",
        help="compare a network with a file that was compiled of it: cnnc compile RUN --target tflite-int8",
    )
