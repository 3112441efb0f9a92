"""scikit-learn's handwritten digits: 1,797 grey pictures of 8x8, which come with the library and need no network.

Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits; the test part of the UCI set.
"""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from cnnc.data.sources.data_set import DataSet, Examples, split, take
from cnnc.diagnostics import CnnError

HELD_OUT = 0.2
_SPLIT_SEED = 0


def load_digits() -> DataSet:
    """The digits with their values 0..16 stretched to 0..255, and a fixed fifth of every class held out."""
    with gzip.open(_file(), "rt") as lines:
        table = np.loadtxt(lines, delimiter=",")
    pictures = np.rint(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    labels = table[:, -1].astype(np.int32)
    everything = Examples((pictures,), (labels,))
    kept, held = (take(everything, indices) for indices in split(labels, HELD_OUT, _SPLIT_SEED))
    return DataSet(
        "digits",
        kept,
        held,
        held,
        tuple(map(str, range(10))),
        (f"the {len(held)} pictures held out serve as validation and as test set",),
        "held-out",
    )


def _file() -> Path:
    """The folder of the library that has them. Importing the library to ask would take seconds."""
    package = find_spec("sklearn")
    for folder in (package.submodule_search_locations if package else None) or ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return path
    raise CnnError.of(
        "install", "the digits come with scikit-learn, which is not installed", help='pip install "cnnc[train]"'
    )
