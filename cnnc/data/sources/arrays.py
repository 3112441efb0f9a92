"""Arrays from Python as a data set: any number of inputs and targets, matched to a network's by name or order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnc.data.sources.data_set import DataSet, Examples, Part, split, take
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.wording import number_of, quoted

Arrays = ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]
"""One array, a tuple of arrays in the network's order, or arrays by the names of its inputs or outputs."""


def examples_of(graph: Graph, x: Arrays, y: Arrays) -> Examples:
    """Inputs and targets in the order of the network's inputs and outputs. Integer targets become int32 classes."""
    inputs = ordered(x, [node.name for node in graph.inputs], "input")
    targets = ordered(y, [label for label, _ in graph.outputs], "output")
    counts = {len(a) if a.ndim else 0 for a in (*inputs, *targets)}
    if len(counts) != 1 or counts == {0}:
        found = ", ".join(str(len(a) if a.ndim else 0) for a in (*inputs, *targets))
        raise CnnError.of(
            "data", f"the arrays of inputs and targets hold {found} examples, and as many each are wanted"
        )
    return Examples(
        tuple(np.asarray(a, np.float32) if a.dtype.kind == "f" else a for a in inputs),
        tuple(np.asarray(a, np.int32 if a.dtype.kind in "iub" else np.float32) for a in targets),
    )


def arrays_data_set(
    graph: Graph,
    data: tuple[Arrays, Arrays],
    val: tuple[Arrays, Arrays] | None = None,
    *,
    classes: Sequence[str] = (),
    held_out: float = 0.2,
    seed: int = 0,
) -> DataSet:
    """Arrays `(x, y)` as a data set; without `val` a seeded part is held out, of every class alike if y are classes."""
    everything = examples_of(graph, *data)
    if val is not None:
        held: Part = examples_of(graph, *val)
        return DataSet("arrays", everything, held, held, tuple(classes), kind="validation")
    first = everything.targets[0]
    labels = first if first.dtype == np.int32 and first.ndim == 1 else np.zeros(len(everything), np.int32)
    kept, held = (take(everything, indices) for indices in split(labels, held_out, seed))
    note = f"{len(held)} of the {len(everything)} examples are held out as validation set"
    return DataSet("arrays", kept, held, held, tuple(classes), (note,), "held-out")


def ordered(arrays: Arrays, names: list[str], kind: str) -> list[NDArray[Any]]:
    """Arrays in the order of the names of a network's inputs or outputs, of which `kind` says which they are."""
    if isinstance(arrays, Mapping):
        if set(arrays) != set(names):
            raise CnnError.of(
                "data",
                f"arrays are given for the {kind}s {quoted(arrays)}, but the network's are {quoted(names)}",
            )
        return [np.asarray(arrays[name]) for name in names]
    given = list(arrays) if isinstance(arrays, tuple) else [arrays]
    if len(given) != len(names):
        found = "1 array is" if len(given) == 1 else f"{len(given)} arrays are"
        raise CnnError.of(
            "data",
            f"the network has {number_of(len(names), kind)} ({quoted(names)}), and {found} given",
            help="give a tuple with an array for each, or a dict by name",
        )
    return [np.asarray(array) for array in given]
