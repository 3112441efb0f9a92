"""A network's first weights: another training's where they fit, drawn anew where they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.protocols import load_training
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.net import Net, Weights
from cnnc.ops import Weight, format_shape
from cnnc.runs.folder import RunFolder
from cnnc.weights.weights_file import as_depthwise, read_arrays, require_sound

_LISTED: Final = 10


def initial_weights(net: Net, source: str | Path | Weights | None) -> tuple[Weights, list[str]]:
    """The weights before the first step, and what the user should know of them.

    Args:
        net: the network.
        source: what they are taken from where it fits, as `transfer_weights` does; None where all are drawn from the
            recipe's seed.
    """
    drawn = load_training().initialize(net.graph, net.recipe.seed)
    return (drawn, []) if source is None else transfer_weights(net.graph, source, drawn)


def transfer_weights(graph: Graph, source: str | Path | Weights, drawn: Weights) -> tuple[Weights, list[str]]:
    """Weights of another training where they fit a network, and what the user should know of them.

    A layer takes what the source has for it if every one of its arrays is there in its shape; else it keeps its drawn
    ones and is named. What is there for no layer of the network is left out and named too.

    Args:
        graph: the network.
        source: a safetensors file, a run's folder (its best weights), or arrays by node and short name.
        drawn: what the layers start from that nothing fits.

    Raises:
        CnnError: of code `weights`: the file cannot be read, is of another network (fewer than half of the arrays
            fit), or an array of it cannot be its layer's.
    """
    arrays, origin = _read(source)
    arrays = as_depthwise(arrays, graph)
    declared = {node.name: graph.weights(node) for node in graph if graph.weights(node)}
    reasons = {node: _misfit(node, own, arrays) for node, own in declared.items()}
    counts = [len(own) for node, own in declared.items() if reasons[node] is None]
    names = [f"{node}.{short}" for node, own in declared.items() for short in own]
    _require_half(graph, sum(counts), names, list(arrays), origin)
    weights = {
        node: dict(drawn[node]) if reasons[node] else {short: arrays[f"{node}.{short}"] for short in own}
        for node, own in declared.items()
    }
    require_sound(graph, weights, origin)
    anew = [reason for reason in reasons.values() if reason is not None]
    unused = [name for name in arrays if name not in set(names)]
    notes = [f"{sum(counts)} of {len(names)} arrays start from {origin}"]
    notes += [f"initialised anew: {_list(anew, _LISTED, ticks=False)}"] if anew else []
    notes += [f"not used, as the network has no such arrays: {_list(unused, _LISTED)}"] if unused else []
    return weights, notes


def _read(source: str | Path | Weights) -> tuple[dict[str, NDArray[np.float32]], str]:
    """The arrays of a source, by full name, and what to call it."""
    if isinstance(source, Mapping):
        flat = {
            f"{node}.{short}": np.asarray(array, np.float32)
            for node, arrays in source.items()
            for short, array in arrays.items()
        }
        return flat, "the weights given"
    path = Path(source)
    if path.is_dir():
        file = RunFolder(path).best
        if not file.is_file():
            raise CnnError.of("weights", f"`{path}` is a folder without `{file.relative_to(path)}`: it is no run")
        path = file
    arrays, _ = read_arrays(path)
    return arrays, f"`{path}`"


def _require_half(graph: Graph, count: int, names: list[str], others: list[str], origin: str) -> None:
    """Raises CnnError where fewer than half of a network's arrays are there: it is another network's file."""
    if 2 * count < len(names):
        raise CnnError.of(
            "weights",
            f"{origin} is of another network: {count} of the {len(names)} arrays of `{graph.name}` are in it",
            notes=[f"the network has {_list(names, 3)}", f"and there are {_list(others, 3)}"],
            help="weights of other formats and names become this network's with `cnnc import-weights`",
        )


def _misfit(node: str, declared: Mapping[str, Weight], arrays: Mapping[str, NDArray[np.float32]]) -> str | None:
    """The layer, and why arrays do not fit it; None where they do."""
    for short, weight in declared.items():
        array = arrays.get(f"{node}.{short}")
        if array is None:
            return f"`{node}` (no `{short}`)"
        if array.shape != weight.shape:
            return f"`{node}` (`{short}` is {format_shape(array.shape)}, not {format_shape(weight.shape)})"
    return None


def _list(names: Sequence[str], most: int, *, ticks: bool = True) -> str:
    first = [f"`{name}`" if ticks else name for name in names[:most]]
    return ", ".join(first) + (f" and {len(names) - most} more" if len(names) > most else "")
