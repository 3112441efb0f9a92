"""Files of weights made up of our own: a graph's arrays under other names, in other orders, with or without a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnc import ops
from cnnc.ir import Graph
from cnnc.weights.importing.import_weights import Options, combine
from cnnc.weights.importing.layers.file_layers import Kind, Read, Role, Source, SourceLayer, SourceTensor
from cnnc.weights.importing.layers.graph_layers import KINDS, Target, Unit, units_of

Array = NDArray[np.float32]
Weights = Mapping[str, Mapping[str, Array]]
Order = Literal["running", "written", "names"]
Arrange = Callable[[Kind, Array], tuple[Array, tuple[str, ...]]]

OPEN = "it is open which of"
"""What an error says where nothing tells which layer is which."""
_SPACE = {2: "", 3: "W", 4: "HW", 5: "DHW"}


def marked(graph: Graph) -> dict[str, dict[str, Array]]:
    """Weights that take no room: every array has one value, and no other array has it."""
    found: dict[str, dict[str, Array]] = {}
    for number, (node, short, shape) in enumerate(arrays(graph), 1):
        found.setdefault(node, {})[short] = np.broadcast_to(np.float32(number), shape)
    return found


def noise(graph: Graph, seed: int) -> dict[str, dict[str, Array]]:
    """Random weights, positive ones, as variances are."""
    generator = np.random.default_rng(seed)
    found: dict[str, dict[str, Array]] = {}
    for node, short, shape in arrays(graph):
        found.setdefault(node, {})[short] = generator.uniform(0.5, 1.5, shape).astype(np.float32)
    return found


def arrays(graph: Graph) -> list[tuple[str, str, tuple[int, ...]]]:
    """Node, short name and shape of all weights."""
    return [(node.name, short, weight.shape) for node in graph for short, weight in graph.weights(node).items()]


def own_order(kind: Kind, kernel: Array) -> tuple[Array, tuple[str, ...]]:
    """Our order of axes."""
    ends = {"depthwise": "CM", "transposed": "OI"}.get(kind, "IO")
    return kernel, (f"{_SPACE[kernel.ndim]}{ends}",)


def outputs_first(kind: Kind, kernel: Array) -> tuple[Array, tuple[str, ...]]:
    """PyTorch's."""
    space = _SPACE[kernel.ndim]
    if kind == "depthwise":
        # The filters of a channel lie side by side.
        return np.moveaxis(kernel.reshape(*kernel.shape[:-2], 1, -1), (-1, -2), (0, 1)), (f"C1{space}", f"OI{space}")
    moved = np.moveaxis(kernel, (-1, -2), (0, 1))
    return moved, (f"IO{space}" if kind == "transposed" else f"OI{space}",)


def outputs_around(kind: Kind, kernel: Array) -> tuple[Array, tuple[str, ...]]:
    """TFLite's."""
    space = _SPACE[kernel.ndim]
    if kind == "depthwise":
        return kernel.reshape(1, *kernel.shape[:-2], -1), (f"1{space}C",)
    if kind == "transposed":
        return np.moveaxis(kernel, -2, 0), (f"O{space}I",)
    return np.moveaxis(kernel, -1, 0), (f"O{space}I",)


def made_of(
    target: Target,
    weights: Weights,
    name: Callable[[Unit], str],
    *,
    sequence: Sequence[int] | None = None,
    with_graph: bool = False,
    order: Order = "written",
    arrange: Arrange = own_order,
) -> Source:
    """A file that holds the weights of a graph.

    Args:
        target: the graph's operators, none folded.
        weights: their arrays.
        name: what the file calls an operator.
        sequence: the operators, by places, in the file's order; the graph's if not given.
        with_graph: whether the file knows how they are connected.
        order: what the file's order says.
        arrange: how it has its kernels.
    """
    order_of = list(range(len(target.units))) if sequence is None else list(sequence)
    place = {unit: at for at, unit in enumerate(order_of)}
    layers = []
    for at in order_of:
        unit = target.units[at]
        reads = tuple(Read(place[read.layer], read.place) for read in unit.reads) if with_graph else None
        kind = KINDS[type(unit.node.op)]
        tensors = _tensors(kind, name(unit), weights[unit.name], arrange)
        layers.append(SourceLayer(name(unit), kind, tensors, reads))
    return Source(Path("theirs.file"), "a test's", tuple(layers), order, channels_first=False)


def _tensors(kind: Kind, name: str, own: Mapping[str, Array], arrange: Arrange) -> dict[Role, SourceTensor]:
    found: dict[Role, SourceTensor] = {}
    for short, array in own.items():
        role: Role = short  # type: ignore[assignment]  # an operator's short names are the roles
        layouts: tuple[str, ...] = ("O",)
        if short == "kernel":
            array, layouts = arrange(kind, array)
        elif short == "table":
            layouts = ("IO",)
        elif short == "output_kernel":
            array, layouts = array.reshape(-1, array.shape[-1]), ("IO",)
        elif short.endswith("_kernel"):
            array, layouts = array.reshape(len(array), -1), ("IO",)
        else:
            array = array.reshape(-1)
        found[role] = SourceTensor(f"{name}/{short}", array, layouts)
    return found


def by_creation(target: Target, sequence: Sequence[int], style: str) -> Callable[[Unit], str]:
    """Names that count: Keras's `conv2d_3`, or `layers.17` for everything."""
    counts: Counter[str] = Counter()
    names = {}
    for at, place in enumerate(sequence):
        unit = target.units[place]
        if style == "all":
            names[unit.name] = f"layers.{at}"
            continue
        kind = "dense" if isinstance(unit.node.op, ops.Dense) else KINDS[type(unit.node.op)]
        names[unit.name] = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
    return lambda unit: names[unit.name]


def any_order(target: Target, seed: int) -> list[int]:
    """The operators in an order in which they could run: one branch after the other, whichever."""
    generator = np.random.default_rng(seed)
    left, found = set(range(len(target.units))), list[int]()
    while left:
        ready = [each for each in sorted(left) if all(read.layer not in left for read in target.units[each].reads)]
        onward = [each for each in ready if found and any(read.layer == found[-1] for read in target.units[each].reads)]
        choice = onward or ready
        found.append(choice[int(generator.integers(len(choice)))])
        left.remove(found[-1])
    return found


def functions(graph: Graph, weights: Weights) -> dict[str, Any]:
    """For every output what it computes, as nested operators, arrays by their first values; sums in any order.

    Two sets of `marked` weights are equal in this if and only if the network computes the same with both.
    """
    seen: dict[str, int] = {}
    known: dict[Any, int] = {}
    for node in graph:
        inputs = [seen[name] for name in node.inputs]
        if isinstance(node.op, ops.Add | ops.Mul):
            inputs.sort()
        own = weights.get(node.owner, {}) if node.op.weights(*graph.input_shapes(node)) else {}
        values = tuple((short, float(np.asarray(array).flat[0])) for short, array in sorted(own.items()))
        # Each distinct expression has a number.
        key = (node.op, node.name if not inputs else "", values, tuple(inputs))
        seen[node.name] = known.setdefault(key, hash(key))
    return {label: seen[name] for label, name in graph.outputs}


def plain(graph: Graph) -> Target:
    """The units of a graph as a file has them that folds nothing."""
    return units_of(graph, {})


def is_same(graph: Graph, source: Source, options: Options | None = None) -> bool:
    """Whether the network computes with what is imported what it did with the weights that the file is made of."""
    imported = combine(graph, source, options or Options())
    return functions(graph, imported.weights) == functions(graph, marked(graph))
