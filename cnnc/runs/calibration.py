"""Examples that a run keeps of its arrays: int8 is calibrated on them, and pictures are checked against them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from cnnc.data.sources.array_files import packed, read_rows, stored_arrays
from cnnc.data.sources.data_set import DataSet, Examples
from cnnc.files import write_atomically
from cnnc.ir import Graph
from cnnc.runs.folder import RunFolder
from cnnc.wording import extent

_SAMPLES: Final = 100
_BYTES: Final = 1 << 26
"""No more is kept, of however many examples that is."""


def keep_examples(folder: RunFolder, graph: Graph, data: DataSet, seed: int) -> None:
    """Write inputs of some training examples, drawn by a seed, by the names of the network's inputs.

    Data that lies in files is read again where it is wanted, and nothing is kept of it; nor of arrays of which not one
    example is small enough.
    """
    part = data.train
    if not isinstance(part, Examples) or folder.calibration.exists():
        return
    count = min(_SAMPLES, len(part), _BYTES // max(1, sum(array[:1].nbytes for array in part.inputs)))
    rows = np.sort(np.random.default_rng(seed).permutation(len(part))[:count])
    if count:
        named = zip(graph.inputs, part.inputs, strict=True)
        write_atomically(folder.calibration, packed({node.name: array[rows] for node, array in named}))


_LOOKED_AT: Final = 16
_DARK: Final = 32
"""Pixels are brighter than this somewhere."""
NO_PIXELS: Final = "numbers as in training"
"""How the description of a file begins that says of an input that it takes other numbers than pixels."""


def unlike_pixels(kept: Path | None, graph: Graph) -> tuple[str, ...]:
    """Notes for who shows pictures to a run of which these examples are kept: pixels go in as 0 to 255."""
    return tuple(
        f"pixels go in as 0 to 255, and the arrays that the run was trained on {values}: what it says of pictures means"
        " little; train on pixels, and scale them by normalize"
        for values in extents_unlike_pixels(kept, graph).values()
    )


def extents_unlike_pixels(kept: Path | None, graph: Graph) -> dict[str, str]:
    """The extents of inputs that have the shape of pictures and hold none, in words: `go from 0 to 1`."""
    if kept is None or not kept.is_file():
        return {}
    found, stored = {}, stored_arrays(kept)
    for node in graph.inputs:
        array = stored.get(node.name)
        if array is None or array.dtype == np.uint8 or len(node.shape) != 3:
            continue
        values = read_rows(array, np.arange(min(_LOOKED_AT, array.shape[0])))
        low, high = float(values.min()), float(values.max())
        if low < 0 or not _DARK < high <= 255:
            found[node.name] = extent(low, high, ".3g", plural=True)
    return found
