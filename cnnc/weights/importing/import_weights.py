"""Weights of a file for a graph: read, aligned, laid out, and every array accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.ir.initializers import draw
from cnnc.ops import Bgr
from cnnc.ops.base import format_shape
from cnnc.weights.importing import mismatch_errors
from cnnc.weights.importing.filling.arrays import Filled, Missing, fill, merged
from cnnc.weights.importing.layers.copies import ambiguous_copies, copies
from cnnc.weights.importing.layers.file_layers import Source
from cnnc.weights.importing.layers.graph_layers import Target, foldable, units_of
from cnnc.weights.importing.layers.layer_forms import Reading
from cnnc.weights.importing.matching.align import Alignment, Evidence, Pair, align, fitting
from cnnc.weights.importing.matching.by_user import MappingLine, mapped_layers
from cnnc.weights.importing.matching.contradictions import require_agreement
from cnnc.weights.importing.matching.folded_norms import is_folded, without_norms

Axes = Literal["OIHW", "HWIO"]
"""Where kernels have their outputs, where a file does not tell: first, or last."""


@dataclass(frozen=True)
class Options:
    """The user's instructions for a file.

    Attributes:
        given: names of layers and operators that belong together.
        partial: whether what the file lacks may stay at its first value, and what the graph lacks unused.
        drop_class: the class, 0-based, that goes from a head of one too many.
        axes: the order of axes where kernels fit both ways.
        trust_order: whether layers that nothing tells apart are taken in the file's order.
        seed: of the first values.
    """

    given: tuple[MappingLine, ...] = ()
    partial: bool = False
    drop_class: int | None = None
    axes: Axes | None = None
    trust_order: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Line:
    """A layer and the operator that it is, for a table."""

    source: str
    source_shape: str
    target: str
    target_shape: str
    change: str
    evidence: Evidence


@dataclass(frozen=True, eq=False)
class Imported:
    """The result of importing a file.

    Attributes:
        weights: all of the graph, by node and short name.
        lines: in the graph's order.
        values: numbers that came from the file.
        initial: arrays that stay at their first values, `<node>.<short>`.
        unused: tensors of the file that no array takes.
    """

    weights: Mapping[str, Mapping[str, NDArray[np.float32]]]
    lines: tuple[Line, ...]
    values: int
    initial: tuple[str, ...]
    unused: tuple[str, ...]


def combine(graph: Graph, source: Source, options: Options) -> Imported:
    """The weights of a file for a graph.

    Raises:
        CnnError: `weights`, when the file is of another network, has a tensor too many or too few, or leaves open what
            is what; the message names the tensors.
    """
    folded = foldable(graph) if is_folded(graph, source) else {}
    source = without_norms(graph, source)
    target = units_of(graph, folded)
    alignment = align(
        source,
        target,
        given=mapped_layers(options.given, source, target),
        dropped=options.drop_class is not None,
        trust_order=options.trust_order,
    )
    for pair in alignment.pairs:
        own = alignment.readings[pair.layer]
        if pair.evidence == "map" and own and not fitting(own, target, pair.unit):
            raise mismatch_errors.misfit(source.layers[pair.layer], target, target.units[pair.unit])
    _require_one_copy(source, alignment)
    if alignment.open:
        raise mismatch_errors.ambiguous(source, target, alignment.open)
    if options.drop_class is not None and not alignment.shortened:
        raise mismatch_errors.nothing_to_drop(source, options.drop_class)
    if not options.partial and (alignment.lacking or alignment.unused):
        raise mismatch_errors.mismatched(source, target, alignment)
    if not alignment.pairs:
        raise mismatch_errors.of_another_network(source, target)
    require_agreement(source, target, {pair.unit: pair.layer for pair in alignment.pairs})
    return _assemble(graph, source, target, alignment, options)


def _require_one_copy(source: Source, alignment: Alignment) -> None:
    """Raises CnnError where layers are left that are there several times."""
    if not alignment.unused:
        return
    tensors = [tensor for layer in source.layers for tensor in layer.tensors.values()]
    names = copies({tensor.name: tensor.array.shape for tensor in tensors})
    if names:
        raise ambiguous_copies(source.path, names)


def _assemble(graph: Graph, source: Source, target: Target, alignment: Alignment, options: Options) -> Imported:
    chosen = _choose_readings(source, target, alignment, options.axes)
    # A spec that turns pictures round is fed as a file that wants blue first; two turns are none.
    needs_swap = source.bgr is not None and source.bgr != any(isinstance(node.op, Bgr) for node in graph)
    filled: list[Filled] = []
    missing: list[str] = []
    lines = []
    for pair in alignment.pairs:
        unit, layer = target.units[pair.unit], source.layers[pair.layer]
        parts = fill(
            source,
            graph,
            unit,
            layer,
            chosen[pair.unit],
            drop=options.drop_class if pair.layer in alignment.shortened else None,
            swap=needs_swap and not unit.reads,
        )
        own = [part for part in parts if isinstance(part, Filled)]
        missing.extend(f"{part.node}.{part.short}" for part in parts if isinstance(part, Missing))
        filled.extend(own)
        lines.append(_line(graph, source, target, pair, own))
    if missing and not options.partial:
        raise mismatch_errors.lacking_arrays(source, missing)
    weights = merged(filled)
    for node in graph:
        for short, weight in graph.weights(node).items():
            name = f"{node.name}.{short}"
            if short not in weights.setdefault(node.name, {}):
                weights[node.name][short] = draw(weight, options.seed, name)
                missing.append(name)
    taken = {part.source for part in filled}
    tensors = [tensor for layer in source.layers for tensor in layer.tensors.values()]
    unused = tuple(tensor.name for tensor in tensors if tensor.name not in taken)
    if unused and not options.partial:
        raise mismatch_errors.superfluous_arrays(source, unused)
    values = sum(part.array.size for part in filled if part.source)
    ordered = {node.name: weights[node.name] for node in graph if graph.weights(node)}
    return Imported(ordered, tuple(lines), values, tuple(dict.fromkeys(missing)), unused)


def _choose_readings(
    source: Source, target: Target, alignment: Alignment, axes: Axes | None
) -> Mapping[int, Reading | None]:
    """How each layer's kernel is read. One that fits both ways follows the others, which do so one way only."""
    options = {pair.unit: fitting(alignment.readings[pair.layer], target, pair.unit) for pair in alignment.pairs}
    layer_of = {pair.unit: pair.layer for pair in alignment.pairs}
    sure = {_is_first(own[0]) for own in options.values() if len(own) == 1 and own[0].layout}
    usual = axes == "OIHW" if axes is not None else next(iter(sure)) if len(sure) == 1 else None
    chosen: dict[int, Reading | None] = {}
    unsure: list[str] = []
    for unit, own in options.items():
        if len({_is_first(reading) for reading in own}) < 2:
            chosen[unit] = own[0] if own else None
        elif usual is None:
            unsure.append(source.layers[layer_of[unit]].tensors["kernel"].name)
        else:
            chosen[unit] = next(reading for reading in own if _is_first(reading) == usual)
    if unsure:
        raise mismatch_errors.open_axes(source, unsure)
    return chosen


def _is_first(reading: Reading) -> bool:
    """Whether outputs are the first axis."""
    return reading.layout[:1] in ("O", "C")


def _line(graph: Graph, source: Source, target: Target, pair: Pair, own: Sequence[Filled]) -> Line:
    unit, layer = target.units[pair.unit], source.layers[pair.layer]
    first = next((part for part in own if part.source), None)
    if first is None:
        raise CnnError.of("weights", f"`{layer.name}` has nothing that `{unit.name}` takes")
    moved = (part.change for part in own if part.node == unit.name and part.short in ("kernel", "gamma"))
    changes = dict.fromkeys(each for each in moved if each)
    if unit.norm is not None:
        changes[f"into {unit.norm.name.rpartition('.')[2]}"] = None
    return Line(
        layer.name,
        format_shape(first.source_shape),
        unit.name,
        format_shape(graph.weights(graph[first.node])[first.short].shape) if first.short != "-bias" else "",
        ", ".join(changes),
        pair.evidence,
    )
