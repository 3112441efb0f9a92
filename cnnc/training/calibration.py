"""What a run keeps of the arrays that it was trained on, so that it can be compiled to int8 without them."""

from __future__ import annotations

from typing import Final

import numpy as np

from cnnc.data.array_files import packed
from cnnc.data.sources import DataSet, Examples
from cnnc.files import write_atomically
from cnnc.ir import Graph
from cnnc.training.folder import RunFolder

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
