"""Why a file's weights are not taken: what does not fit, by name, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from cnnc.diagnostics import CnnError
from cnnc.ops.base import format_shape
from cnnc.weights.importing.layers.file_errors import name_list
from cnnc.weights.importing.layers.file_layers import Source, SourceLayer
from cnnc.weights.importing.layers.graph_layers import Target, Unit
from cnnc.weights.importing.matching.align import Alignment
from cnnc.weights.importing.matching.by_name import Group

_GROUPS = 4
"""So many groups of candidates are shown."""


def ambiguous(source: Source, target: Target, groups: Sequence[Group]) -> CnnError:
    """Layers that could be several operators' each: both sides, and lines that settle it."""
    notes: list[str] = []
    pairs: list[str] = []
    for group in groups[:_GROUPS]:
        layers = [source.layers[layer].name for layer in group.layers]
        units = [target.units[unit].name for unit in group.units]
        notes.append(f"{name_list(layers)} of the file could each be any of {name_list(units)}")
        pairs.extend(f"{layer} = {unit}" for layer, unit in zip(layers, units, strict=True))
    if len(groups) > _GROUPS:
        notes.append(f"and {len(groups) - _GROUPS} more such groups")
    if source.order == "written":
        notes.append("the file has them in the order in which their code made them, which need not be that of running")
    count = sum(len(group.units) for group in groups)
    lines = "\n".join(pairs[:8])
    return CnnError.of(
        "weights",
        f"it is open which of {count} layers of `{source.path}` is which: they have the same shapes",
        notes=notes,
        help=f"say it in a file of lines for --map, these or their right sides exchanged; or --trust-order\n{lines}",
    )


def misfit(layer: SourceLayer, target: Target, unit: Unit) -> CnnError:
    """A pair of the user's whose shapes are different ones."""
    return CnnError.of(
        "weights", f"--map pairs `{_layer(layer)}` with `{_described(target, unit)}`, which it does not fit"
    )


def mismatched(source: Source, target: Target, found: Alignment) -> CnnError:
    """Operators without a layer, and layers without an operator."""
    lacking = [target.units[unit] for unit in found.lacking]
    unused = [source.layers[layer] for layer in found.unused]
    if len(found.pairs) < len(target.units) / 2:
        return of_another_network(source, target, lacking, unused)
    notes = []
    if lacking:
        notes.append(f"the file has nothing for {name_list(_described(target, unit) for unit in lacking)}")
    if unused:
        notes.append(f"the network has no place for {name_list(_layer(layer) for layer in unused)}")
    return CnnError.of(
        "weights",
        f"`{source.path}` does not hold the weights of `{target.graph.name}`",
        notes=notes,
        help=_advice(lacking, unused),
    )


def of_another_network(
    source: Source, target: Target, lacking: Sequence[Unit] = (), unused: Sequence[SourceLayer] = ()
) -> CnnError:
    """A file of which next to nothing fits."""
    notes = []
    if lacking:
        notes.append(f"nothing in the file fits {name_list(_described(target, unit) for unit in lacking[:3])}, ...")
    if unused:
        notes.append(f"the file has, for instance, {name_list(_layer(layer) for layer in unused[:3])}")
    return CnnError.of(
        "weights",
        f"`{source.path}` is of another network: most layers of `{target.graph.name}` have no counterpart",
        notes=notes,
        help="give the variant and the scaling that the weights belong to: --variant, --width, --set",
    )


def nothing_to_drop(source: Source, drop: int) -> CnnError:
    """No layer has a class too many."""
    return CnnError.of(
        "weights",
        f"there is no class to drop: no layer of `{source.path}` fits with one output less",
        help=f"leave `--drop-class {drop}` out, or give the network's own number of classes: --set classes=N",
    )


def lacking_arrays(source: Source, names: Sequence[str]) -> CnnError:
    """Arrays that a matched layer does not have."""
    return CnnError.of(
        "weights",
        f"`{source.path}` lacks {name_list(names)}",
        help="--partial leaves what is missing at its first value",
    )


def superfluous_arrays(source: Source, names: Sequence[str]) -> CnnError:
    """Tensors that belong to a matched layer and have no place in its operator."""
    return CnnError.of(
        "weights",
        f"`{source.path}` has what the network has no place for: {name_list(names)}",
        help="--partial leaves what is too many out",
    )


def open_axes(source: Source, names: Sequence[str]) -> CnnError:
    """Square kernels of a file that does not say its order of axes."""
    return CnnError.of(
        "weights",
        f"the axes of {name_list(names)} in `{source.path}` could be in either order",
        help="say where kernels have outputs: --layout OIHW for first (PyTorch, Caffe), HWIO for last (Keras, Flax)",
    )


def _advice(lacking: Sequence[Unit], unused: Sequence[SourceLayer]) -> str:
    for unit in lacking:
        for layer in unused:
            if unit.forms[0][0] != "linear" or "kernel" not in layer.tensors:
                continue
            outputs, theirs = unit.forms[0][3], layer.tensors["kernel"].array
            if outputs + 1 in theirs.shape and theirs.size * outputs == _size(unit) * (outputs + 1):
                return "the file has one class more: --drop-class 0 leaves its first out, a background"
    if len(lacking) == len(unused) == 1 and lacking[0].forms[0][0] == "linear" and not lacking[0].forms[0][1]:
        return f"--partial leaves `{lacking[0].name}` at its first values; or give its size: --set classes=N"
    return "--partial leaves what is missing at its first values, and what is too many out"


def _size(unit: Unit) -> int:
    return int(unit.forms[-1][1])


def _described(target: Target, unit: Unit) -> str:
    shapes = target.graph.weights(unit.node)
    return f"{unit.name} ({', '.join(f'{short} {format_shape(weight.shape)}' for short, weight in shapes.items())})"


def _layer(layer: SourceLayer) -> str:
    shapes = (f"{role} {format_shape(tensor.array.shape)}" for role, tensor in layer.tensors.items())
    return f"{layer.name} ({', '.join(shapes)})"
