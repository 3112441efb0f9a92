"""A network's first weights: another training's where they fit, drawn anew where they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.net import Weights
from cnnc.ops import format_shape
from cnnc.runs.folder import RunFolder
from cnnc.weights.weights_file import as_depthwise, read_arrays, require_sound

_LISTED: Final = 10


def first_weights(
    graph: Graph, given: str | Path | Weights, initial: Weights
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Weights to start from, and what the user should know of them.

    A layer takes what is given for it if every one of its arrays is there in its shape; else it keeps its initial ones
    and is named. What is given for no layer of the network is left out and named too.

    Args:
        graph: the network.
        given: a safetensors file, a run's folder (its best weights), or arrays by node and short name.
        initial: what the layers start from that nothing fits.

    Raises:
        CnnError: of code `weights`: the file cannot be read, is of another network (fewer than half of the arrays
            fit), or an array of it cannot be its layer's.
    """
    arrays, what = _read(given)
    arrays = as_depthwise(arrays, graph)
    declared = {node.name: graph.weights(node) for node in graph if graph.weights(node)}
    fits = {
        node: all(
            f"{node}.{short}" in arrays and arrays[f"{node}.{short}"].shape == w.shape for short, w in own.items()
        )
        for node, own in declared.items()
    }
    found = sum(len(own) for node, own in declared.items() if fits[node])
    wanted = sum(map(len, declared.values()))
    if 2 * found < wanted:
        own = [f"{node}.{short}" for node, shorts in declared.items() for short in shorts]
        raise CnnError.of(
            "weights",
            f"{what} is of another network: {found} of the {wanted} arrays of `{graph.name}` are in it",
            notes=[f"the network has {_listed(own, 3)}", f"and there are {_listed(list(arrays), 3)}"],
            help="weights of other formats and names become this network's with `cnnc import-weights`",
        )
    weights: dict[str, dict[str, Any]] = {}
    for node, own_arrays in declared.items():
        weights[node] = {s: arrays[f"{node}.{s}"] for s in own_arrays} if fits[node] else dict(initial[node])
    require_sound(graph, weights, what)
    names = {f"{node}.{short}" for node, shorts in declared.items() for short in shorts}
    anew = [_reason(node, declared[node], arrays) for node, fit in fits.items() if not fit]
    notes = [f"{found} of {wanted} arrays start from {what}"]
    notes += [f"initialised anew: {_listed(anew, _LISTED, ticks=False)}"] if anew else []
    unused = [name for name in arrays if name not in names]
    notes += [f"not used, as the network has no such arrays: {_listed(unused, _LISTED)}"] if unused else []
    return weights, notes


def _read(given: str | Path | Weights) -> tuple[dict[str, NDArray[np.float32]], str]:
    """The arrays that are given, by full name, and what to call where they are from."""
    if isinstance(given, Mapping):
        flat = {
            f"{node}.{short}": np.asarray(array, np.float32)
            for node, arrays in given.items()
            for short, array in arrays.items()
        }
        return flat, "the weights given"
    path = Path(given)
    if path.is_dir():
        file = RunFolder(path).best
        if not file.is_file():
            raise CnnError.of("weights", f"`{path}` is a folder without `{file.relative_to(path)}`: it is no run")
        path = file
    arrays, _ = read_arrays(path)
    return arrays, f"`{path}`"


def _reason(node: str, declared: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> str:
    """A layer that nothing fits, and why."""
    for short, weight in declared.items():
        array = arrays.get(f"{node}.{short}")
        if array is None:
            return f"`{node}` (no `{short}`)"
        if array.shape != weight.shape:
            return f"`{node}` (`{short}` is {format_shape(array.shape)}, not {format_shape(weight.shape)})"
    raise AssertionError(node)


def _listed(names: Sequence[str], most: int, *, ticks: bool = True) -> str:
    shown = [f"`{name}`" if ticks else name for name in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
