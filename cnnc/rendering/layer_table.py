"""A network as a table: a line a layer, repeats folded, totals below. Also as data for tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from math import prod
from typing import Any

from cnnc.frozen import dataclass
from cnnc.ir import Graph, Node
from cnnc.ops import Op, Shape, format_shape
from cnnc.rendering.captions import caption, magnitude
from cnnc.rendering.folding import Group, Item, Turns, fold
from cnnc.rendering.text_table import box


@dataclass(frozen=True)
class Row:
    """A layer, or `count` layers that are alike, `resnet.2.1-5.conv1` say. The numbers are those of one."""

    name: str
    op: Op
    output_shape: Shape
    params: int
    macs: int
    count: int = 1
    part: str = ""
    """The labelled pipeline or the turns of a repeat that the layer belongs to."""


def rows(graph: Graph, unfold: bool = False) -> tuple[Row, ...]:
    """The layers in their order. Turns of a repeat that are alike are one row, unless `unfold`."""
    return tuple(_rows(graph, graph.nodes if unfold else fold(graph), _Fold("", "", 1)))


def to_json(graph: Graph) -> Mapping[str, Any]:
    """The network as `cnnc show --format json` prints it; every layer by itself."""
    return {
        "name": graph.name,
        "inputs": {node.name: list(node.shape) for node in graph.inputs},
        "outputs": {label: list(graph[name].shape) for label, name in graph.outputs},
        "params": graph.parameter_count,
        "trainable_params": graph.trainable_count,
        "macs": graph.mac_count,
        "layers": [
            {
                "name": row.name,
                "op": row.op.name,
                "output_shape": list(row.output_shape),
                "params": row.params,
                "macs": row.macs,
            }
            for row in rows(graph, unfold=True)
        ],
    }


def render(graph: Graph, unfold: bool = False, widest: int | None = None) -> str:
    """The table and the line of totals, `widest` columns wide at most where names allow it."""
    found = rows(graph, unfold)
    repeated = any(row.count > 1 for row in found)
    head = ["layer", "operator", "output", *(["times"] if repeated else []), "parameters", "MACs"]
    sections = [[_cells(row, repeated) for row in part] for _, part in groupby(found, lambda row: row.part)]
    table = box(head, sections, right=range(3, len(head)), shrink=(1, 0), widest=widest)
    return f"{table}\n{totals(graph)}"


def totals(graph: Graph) -> str:
    """Name, shapes from input to output, parameters, multiply-accumulates: the line below the table."""
    inputs = [(node.name, node.shape) for node in graph.inputs]
    outputs = [(label, graph[name].shape) for label, name in graph.outputs]
    all_trainable = graph.trainable_count == graph.parameter_count
    trainable = "all trainable" if all_trainable else f"{graph.trainable_count:,} trainable"
    return (
        f"{graph.name}: {_ends(inputs)} -> {_ends(outputs)}, {graph.parameter_count:,} parameters ({trainable}), "
        f"{magnitude(graph.mac_count)} MACs"
    )


def _ends(named: list[tuple[str, Shape]]) -> str:
    """Shapes, with their names where there are several."""
    return ", ".join(
        format_shape(shape) if len(named) == 1 else f"{name} {format_shape(shape)}" for name, shape in named
    )


@dataclass(frozen=True)
class _Fold:
    """How the names in folded turns are shown, how often those turns run, and the outermost of them."""

    prefix: str
    shown: str
    count: int
    part: str = ""

    def rename(self, name: str) -> str:
        return self.shown + name.removeprefix(self.prefix) if name.startswith(self.prefix) else name

    def into(self, group: Group, turns: Turns) -> _Fold:
        span = f"{turns.first}-{turns.last}" if turns.count > 1 else f"{turns.first}"
        prefix = f"{group.name}.{turns.first}"
        shown = f"{self.rename(group.name)}.{span}"
        return _Fold(prefix, shown, self.count * turns.count, self.part or shown)


def _rows(graph: Graph, items: Iterable[Item], fold: _Fold) -> Iterator[Row]:
    for item in items:
        if isinstance(item, Node):
            params = sum(prod(weight.shape) for weight in graph.weights(item).values())
            part = fold.part or item.name.rpartition(".")[0].partition(".")[0]
            yield Row(fold.rename(item.name), item.op, item.shape, params, graph.macs(item), fold.count, part)
        else:
            for turns in item.turns:
                yield from _rows(graph, turns.items, fold.into(item, turns))


def _cells(row: Row, repeated: bool) -> list[str]:
    times = [f"x {row.count}" if row.count > 1 else ""] if repeated else []
    params = f"{row.params:,}" if row.params else ""
    macs = magnitude(row.macs) if row.macs else ""
    return [row.name, caption(row.op), format_shape(row.output_shape), *times, params, macs]
