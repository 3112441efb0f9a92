"""The arrays of a matched layer as those of an operator, and of a batch norm that a file holds folded or apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from cnnc.diagnostics import CnnError
from cnnc.ir import Graph, Node
from cnnc.ops import BatchNorm, GroupNorm, LayerNorm
from cnnc.ops.base import Shape, format_shape
from cnnc.weights.importing.filling.axes import change, reorder
from cnnc.weights.importing.layers.file_layers import Array, Role, Source, SourceLayer, SourceTensor
from cnnc.weights.importing.layers.graph_layers import KINDS, Unit
from cnnc.weights.importing.layers.layer_forms import Reading


@dataclass(frozen=True)
class Filled:
    """One array of the graph and where it came from.

    `source` and `source_shape` are empty for what is worked out, such as the mean of a folded batch norm.
    """

    node: str
    short: str
    array: Array
    source: str = ""
    source_shape: Shape = ()
    change: str = ""


@dataclass(frozen=True)
class Missing:
    """An array of the graph that its layer does not have."""

    node: str
    short: str


Part = Filled | Missing


@dataclass(frozen=True)
class _Match:
    """An operator, the layer that it is, and how the layer's arrays become the operator's, as `fill` takes it."""

    unit: Unit
    layer: SourceLayer
    reading: Reading | None
    channels_first: bool
    drop: int | None
    swap: bool


def fill(
    source: Source,
    graph: Graph,
    unit: Unit,
    layer: SourceLayer,
    reading: Reading | None,
    *,
    drop: int | None = None,
    swap: bool = False,
) -> list[Part]:
    """The arrays of a unit's nodes.

    Args:
        source: the file.
        graph: the graph.
        unit: the operator, with its norm where the file has it folded.
        layer: the layer that it is.
        reading: how the layer's kernel is read; None for a layer without one.
        drop: the class, 0-based, that goes.
        swap: whether the first three input channels change order, from RGB to BGR or back.
    """
    match = _Match(unit, layer, reading, source.channels_first or False, drop, swap)
    weights = graph.weights(unit.node)
    parts = [_part(match, short, weight.shape) for short, weight in weights.items()]
    bias = layer.tensors.get("bias")
    if unit.norm is not None:
        parts.extend(_folded(graph, unit.norm, layer))
    elif bias is not None and "bias" not in weights:
        parts.append(_bias_apart(graph, unit, bias))
    return [_rescaled(unit.node, layer, part) for part in parts]


def _part(match: _Match, short: str, shape: Shape) -> Part:
    """One array of the operator itself."""
    unit, layer, drop = match.unit, match.layer, match.drop
    if short == "bias" and unit.norm is not None:
        return Filled(unit.name, short, np.zeros(shape, np.float32), change="in the norm's beta")
    role: Role = short  # type: ignore[assignment]  # an operator's short names are the roles
    tensor = layer.tensors.get(role)
    if tensor is None:
        return _absent(unit.node, short, shape, layer)
    array, moved = tensor.array, ""
    if short == "kernel":
        array, moved = _kernel(match, tensor, shape)
    elif short == "bias" and drop is not None:
        array = np.delete(array, drop)
    _require_size(tensor.name, array, f"{unit.name}.{short}", shape)
    if drop is not None and short in ("kernel", "bias"):
        moved = f"{moved}, class {drop} dropped".removeprefix(", ")
    return Filled(unit.name, short, array.reshape(shape), tensor.name, tensor.array.shape, moved)


def _kernel(match: _Match, tensor: SourceTensor, shape: Shape) -> tuple[Array, str]:
    """A kernel in our order of axes, without the class to drop, and a few words on what moved."""
    unit, reading, array = match.unit, match.reading, tensor.array
    if reading is None:
        raise CnnError.of(
            "weights",
            f"`{tensor.name}` is {format_shape(array.shape)}, which no kernel of `{unit.name}` can be:"
            f" that is {format_shape(shape)}",
        )
    if match.drop is not None:
        axis = reading.layout.index("O")
        _require_class(match.layer, match.drop, array.shape[axis])
        array = np.delete(array, match.drop, axis=axis)
    kind, flattened, channels_first = KINDS[type(unit.node.op)], unit.flattened, match.channels_first
    array = reorder(array, reading.layout, kind, shape, flattened=flattened, channels_first=channels_first)
    moved = change(reading.layout, kind, shape, flattened=flattened, channels_first=channels_first)
    return (_swapped(array), f"{moved}, RGB <-> BGR".removeprefix(", ")) if match.swap else (array, moved)


def _bias_apart(graph: Graph, unit: Unit, bias: SourceTensor) -> Part:
    """The bias of a layer whose operator has none: it goes into the mean of the norm behind, or is zero."""
    norm = _norm_after(graph, unit.node)
    if norm is not None:
        _require_size(bias.name, bias.array, f"{norm.name}.mean", graph.weights(norm)["mean"].shape)
        return Filled(norm.name, "-bias", bias.array.reshape(-1), bias.name, bias.array.shape, "into the norm's mean")
    if np.any(bias.array):
        raise CnnError.of(
            "weights",
            f"the file has the bias `{bias.name}`, and `{unit.name}` has none",
            help=f"give the layer a bias in the spec: {type(unit.node.op).names[0]}(..., bias=true)",
        )
    return Filled(unit.name, "-zero", bias.array, bias.name, bias.array.shape)  # TFLite's convolutions always have one


def _require_size(name: str, array: Array, ours: str, shape: Shape) -> None:
    if array.size != np.prod(shape, dtype=int):
        raise CnnError.of("weights", f"`{name}` has {array.size} values, and `{ours}` is {format_shape(shape)}")


def _require_class(layer: SourceLayer, drop: int, classes: int) -> None:
    if drop >= classes:
        raise CnnError.of(
            "weights",
            f"there is no class {drop} to drop: `{layer.name}` has {classes}, from 0 to {classes - 1}",
            help="--drop-class 0 drops the first, which often is a background",
        )


def merged(parts: list[Filled]) -> dict[str, dict[str, Array]]:
    """All arrays by node and short name; a convolution's bias goes into the mean of the norm behind it."""
    weights: dict[str, dict[str, Array]] = {}
    for part in parts:
        if not part.short.startswith("-"):
            weights.setdefault(part.node, {})[part.short] = part.array
    for part in parts:
        if part.short == "-bias":
            arrays = weights.setdefault(part.node, {})  # of a norm that the file lacks the mean begins at zero
            arrays["mean"] = arrays.get("mean", np.float32(0)) - part.array
    return weights


def _absent(node: Node, short: str, shape: Shape, layer: SourceLayer) -> Part:
    """The array that a norm lacks, where it is known: it scales by 1, and so on."""
    neutral: Mapping[str, Callable[[Shape], Array]] = {
        "gamma": lambda shape: np.ones(shape, np.float32),
        "beta": lambda shape: np.zeros(shape, np.float32),
        "mean": lambda shape: np.zeros(shape, np.float32),
        "variance": lambda shape: np.ones(shape, np.float32),
    }
    if isinstance(node.op, BatchNorm | LayerNorm | GroupNorm) and layer.tensors:
        return Filled(node.name, short, neutral[short](shape), change="neutral: the file has none")
    return Missing(node.name, short)


def _folded(graph: Graph, norm: Node, layer: SourceLayer) -> list[Part]:
    """A batch norm that only adds what the bias of its convolution was: the rest is in the kernel."""
    assert isinstance(norm.op, BatchNorm), norm
    weights = graph.weights(norm)
    (channels,) = weights["mean"].shape
    bias = layer.tensors.get("bias")
    if bias is not None:
        _require_size(bias.name, bias.array, f"{norm.name}.beta", (channels,))
    if "beta" not in weights and bias is not None and np.any(bias.array):
        raise CnnError.of(
            "weights", f"`{bias.name}` is of a folded batch norm with an offset, and `{norm.name}` has center=false"
        )
    one = np.ones(channels, np.float32)
    parts: list[Part] = []
    for short in weights:
        if short == "beta" and bias is not None:
            parts.append(
                Filled(norm.name, short, bias.array.reshape(-1), bias.name, bias.array.shape, "folded: as beta")
            )
            continue
        # Without gamma it is the variance that makes up for epsilon.
        gamma = np.float32(1 + norm.op.epsilon) ** np.float32(0.5)
        values = {
            "gamma": one * gamma,
            "beta": 0 * one,
            "mean": 0 * one,
            "variance": one if "gamma" in weights else one * np.float32(1 - norm.op.epsilon),
        }
        parts.append(Filled(norm.name, short, values[short], change="folded: neutral"))
    return parts


def _rescaled(node: Node, layer: SourceLayer, part: Part) -> Part:
    """A norm's factor for our epsilon, where the file's was another; of one without factor the variance."""
    if not (isinstance(part, Filled) and isinstance(node.op, BatchNorm) and part.node == node.name):
        return part
    if layer.epsilon is None or layer.epsilon == node.op.epsilon:
        return part
    moved = f"epsilon {layer.epsilon:g} -> {node.op.epsilon:g}"
    if part.short == "variance" and not node.op.scale:
        return replace(part, array=part.array + np.float32(layer.epsilon - node.op.epsilon), change=moved)
    if part.short != "gamma":
        return part
    tensor = layer.tensors.get("variance")
    variance = np.float64(1.0) if tensor is None else tensor.array.astype(np.float64)
    factor = np.sqrt((variance + node.op.epsilon) / (variance + layer.epsilon)).astype(np.float32)
    return replace(part, array=part.array * factor, change=moved)


def _norm_after(graph: Graph, node: Node) -> Node | None:
    readers = graph.consumers[node.name]
    return readers[0] if len(readers) == 1 and isinstance(readers[0].op, BatchNorm) else None


def _swapped(array: Array) -> Array:
    return np.ascontiguousarray(array[..., ::-1, :]) if array.shape[-2] == 3 else array
