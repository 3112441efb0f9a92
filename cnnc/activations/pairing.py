"""Two models on the same picture: which layers of the one are which of the other, and how far apart their values are.

Layers of a network and of the file that was compiled of it are paired as `cnnc diff` does, by name, the network's batch
norms folded first. Where no names are shared, as with others' files, the layers that make maps are paired in order,
which must be of the same kinds and shapes in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cnnc.activations.models import FILE_CONVOLUTIONS, FILE_MERGES, Layer, Values, Watched, is_int8, watch_network
from cnnc.backends.tflite.compile import compile_float
from cnnc.backends.tflite.litert.runner import quantized
from cnnc.diagnostics import CnnError
from cnnc.evaluation.correspondence import match_tensors, nodes_by_tensor
from cnnc.evaluation.distortion import ChannelSums, is_equalizable
from cnnc.ir.model import Model
from cnnc.ops import format_shape
from cnnc.passes import pipelines as passes
from cnnc.tflite_file.program import Program, Tensor

_IN_ORDER: Final = FILE_CONVOLUTIONS | FILE_MERGES | {"AVERAGE_POOL_2D", "MAX_POOL_2D"}
"""Operators by which files that share no names are paired."""


@dataclass(frozen=True, eq=False)
class Paired:
    """Two models whose layers are paired: each layer of the first that has one, and that one's name in the second.

    `how` is `by name` or `by order and shape`.
    """

    first: Watched
    second: Watched
    layers: tuple[Layer, ...]
    partners: dict[str, str]
    how: str


@dataclass(frozen=True, eq=False)
class Compared:
    """A layer's values in two models, `second` without the factors of its channels if it was equalised.

    `sqnr` and `cosine` are as in `cnnc.evaluation.distortion.Layer`, the first model being the signal, or the network
    where the other is a file. `largest` is the largest absolute difference.
    """

    layer: Layer
    first: NDArray[np.float32]
    second: NDArray[np.float32]
    sqnr: float | None
    cosine: float | None
    largest: float
    equalized: bool

    @property
    def difference(self) -> NDArray[np.float32]:
        """The second model's values less the first's."""
        return self.second - self.first


def pair(first: Watched, second: Watched) -> Paired:
    """Pair the layers of two models.

    Raises:
        CnnError: they take other inputs, or are of other networks.
    """
    if first.input != second.input:
        raise CnnError.of(
            "data",
            f"`{first.what}` takes {format_shape(first.input)}, and `{second.what}` {format_shape(second.input)}",
        )
    if first.file is not None and second.file is not None:
        return _files(first, second)
    if first.network is not None and second.network is not None:
        return _networks(first, second)
    file, network = (first, second) if first.file is not None else (second, first)
    fault: CnnError | None = None
    named: Paired | None = None
    try:
        named = _by_name(network, file, network is first)
    except CnnError as error:
        fault = error
    if named is not None and any(layer.is_map and layer.is_end for layer in named.layers):
        return named
    ordered = _by_order(network, file, network is first)  # a name such as `head` says little
    found = ordered or named
    if found is None:
        assert fault is not None
        raise _strangers(first, second, fault.diagnostics[0].message) from fault
    return found


def compare(paired: Paired, layers: Sequence[Layer], first: Values, second: Values) -> tuple[Compared, ...]:
    """The values of chosen layers of a pair, and how far they are apart."""
    return tuple(_compared(paired, layer, first[layer.name], second[paired.partners[layer.name]]) for layer in layers)


def _compared(paired: Paired, layer: Layer, first: NDArray[np.float32], second: NDArray[np.float32]) -> Compared:
    second = second.reshape(first.shape)
    flip = paired.first.file is not None and paired.second.network is not None
    file, network = (paired.first, paired.second) if flip else (paired.second, paired.first)
    real, other = (second, first) if flip else (first, second)
    tensor, equalizable = Tensor(layer.name, first.shape), False
    if file.file is not None:
        program = file.file.program
        tensor = replace(program[layer.name if flip else paired.partners[layer.name]], shape=first.shape)
        equalizable = network.network is not None and is_int8(program) and _gives_factors(paired, layer, flip)
    gathered = ChannelSums(tensor)
    gathered.see(real, quantized(tensor, other))
    found = gathered.layer(layer.name, layer.kind, layer.shape, equalizable=equalizable)
    if found.equalized:
        factors = np.where(gathered.factors > 0, gathered.factors, 1).astype(np.float32)
        first, second = (first / factors, second) if flip else (first, second / factors)
    largest = float(np.abs(second - first).max())
    return Compared(layer, first, second, found.sqnr, found.cosine, largest, found.equalized)


def _gives_factors(paired: Paired, layer: Layer, flip: bool) -> bool:
    if paired.how != "by name":
        return False  # another's compiler
    network = (paired.second if flip else paired.first).network
    assert network is not None
    graph = passes.run(network.model, passes.INFERENCE_INT8).graph
    return is_equalizable(graph, layer.name)


def _by_name(network: Watched, file: Watched, network_first: bool) -> Paired:
    assert network.network is not None
    assert file.file is not None
    program = file.file.program
    model = passes.run(network.network.model, passes.INFERENCE_INT8 if is_int8(program) else passes.INFERENCE)
    tensors = match_tensors(program, model.graph, Path(file.what))
    folded = watch_network(network.network, network.what, network.labels, compiled=model)
    names = [(node, tensor.name) for node, tensor in tensors.items()]
    return _paired(folded, file, names, network_first, "by name")


def _by_order(network: Watched, file: Watched, network_first: bool) -> Paired | None:
    assert network.network is not None
    assert file.file is not None
    model: Model = passes.run(network.network.model, passes.INFERENCE)
    program = compile_float(network.network.model)
    holds = nodes_by_tensor(program, model.graph)
    mine = [(holds[each[0]], *each[1:]) for each in _maps_in_order(program) if each[0] in holds]
    theirs = _maps_in_order(file.file.program)
    if not mine or [each[1:] for each in mine] != [each[1:] for each in theirs]:
        return None
    folded = watch_network(network.network, network.what, network.labels, compiled=model)
    names = [(a[0], b[0]) for a, b in zip(mine, theirs, strict=True)]
    return _paired(folded, file, names, network_first, "by order and shape")


def _paired(network: Watched, file: Watched, names: list[tuple[str, str]], network_first: bool, how: str) -> Paired:
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
    return Paired(first, second, tuple(layers), partners, how)


def _networks(first: Watched, second: Watched) -> Paired:
    there = {layer.name: layer for layer in second.layers}
    shared = tuple(each for each in first.layers if each.name in there and there[each.name].shape == each.shape)
    if not any(layer.is_end for layer in shared):
        raise _strangers(first, second, "no layer has the same name and shape in both")
    return Paired(first, second, shared, {layer.name: layer.name for layer in shared}, "by name")


def _files(first: Watched, second: Watched) -> Paired:
    there = {layer.name: layer for layer in second.layers}
    shared = tuple(each for each in first.layers if each.name in there and there[each.name].shape == each.shape)
    if any(layer.is_end and layer.is_map for layer in shared):
        return Paired(first, second, shared, {layer.name: layer.name for layer in shared}, "by name")
    assert first.file is not None
    assert second.file is not None
    mine, theirs = (_maps_in_order(model.runner.program) for model in (first.file, second.file))
    if not mine or [each[1:] for each in mine] != [each[1:] for each in theirs]:
        raise _strangers(first, second, "neither the names nor the kinds and shapes of their layers agree")
    partners = {a[0]: b[0] for a, b in zip(mine, theirs, strict=True)}
    layers = tuple(layer for layer in first.layers if layer.name in partners)
    return Paired(first, second, layers, partners, "by order and shape")


def _maps_in_order(program: Program) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, kind and shape of what operators of maps write."""
    found = []
    for operator in program:
        shape = program[operator.outputs[0]].shape[1:] if operator.outputs else ()
        if operator.kind in _IN_ORDER and len(shape) > 1 and any(size > 1 for size in shape[:-1]):
            found.append((operator.outputs[0], operator.kind, shape))
    return found


def _strangers(first: Watched, second: Watched, reason: str) -> CnnError:
    return CnnError.of(
        "tflite" if first.file or second.file else "weights",
        f"the layers of `{first.what}` and `{second.what}` cannot be paired: {reason}",
        help="compare a network with a file that was compiled of it: cnnc compile RUN --target tflite-int8",
    )
