"""Weights out of NumPy archives: arrays by name, whoever wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.weights.importing.faults import BROKEN_ARCHIVE, fault, told
from cnnc.weights.importing.source import Source
from cnnc.weights.importing.state_dict import name_layers
from cnnc.weights.importing.state_dict_prefixes import conventions, without_prefixes


def read_npz(path: Path) -> Source:
    """The layers of an `.npz` in the natural order of their names.

    Raises:
        CnnError: the archive is damaged, or holds objects, which are pickles and may hold code.
    """
    with told(path, *BROKEN_ARCHIVE), np.load(path) as archive:
        arrays: dict[str, NDArray[Any]] = {}
        for name in archive.files:
            try:
                arrays[name] = archive[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                raise fault(
                    path,
                    f"the tensor `{name}` is an array of objects, a pickle that may hold code; it was not run",
                    help="save numbers alone, each array under a name of its own",
                ) from error
    named = name_layers(without_prefixes(arrays), sort=True)
    return Source(
        path, "NumPy archive", named.layers, "names", channels_first=conventions(arrays), ignored=named.ignored
    )
