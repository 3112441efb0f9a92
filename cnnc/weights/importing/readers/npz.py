"""Weights out of NumPy archives: arrays by name, whoever wrote them."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc.ops.base import format_shape
from cnnc.weights.importing.layers.file_errors import BROKEN_ARCHIVE, CUT_SHORT, fault, library_errors
from cnnc.weights.importing.layers.file_layers import Source
from cnnc.weights.importing.readers.sizes import MOST_BYTES, require_size
from cnnc.weights.importing.readers.state_dict import name_layers
from cnnc.weights.importing.readers.state_dict_prefixes import conventions, without_prefixes

_MOST_HEADER: Final = 10_000
"""NumPy's own bound, which it looks at when it has read the header."""


def read_npz(path: Path, most: int = MOST_BYTES, copy: str | None = None) -> Source:
    """The layers of an `.npz` in the natural order of their names.

    Args:
        path: the archive.
        most: so many bytes its arrays may have together.
        copy: which copy of the weights to take where there are several.

    Raises:
        CnnError: the archive is damaged, holds more, or objects, which are pickles and may hold code.
    """
    with library_errors(path, *BROKEN_ARCHIVE), zipfile.ZipFile(path) as archive:
        _require_distinct(path, archive.namelist())
        require_size(path, sum(_size(path, archive, entry) for entry in archive.infolist()), most)
    with library_errors(path, *BROKEN_ARCHIVE), np.load(path) as archive:
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
    named = name_layers(without_prefixes(path, arrays, copy), sort=True)
    return Source(
        path, "NumPy archive", named.layers, "names", channels_first=conventions(arrays), ignored=named.ignored
    )


def _require_distinct(path: Path, names: list[str]) -> None:
    """Of several entries of one name NumPy would give the last, without a word."""
    name, count = Counter(each.removesuffix(".npy") for each in names).most_common(1)[0]
    if count > 1:
        raise fault(path, f"the tensor `{name}` is there {count} times", help="save each under a name of its own")


def _size(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Bytes of an entry, which is as long as the header of its array says."""
    if not entry.filename.endswith(".npy"):
        return entry.file_size
    with archive.open(entry) as file:
        head = file.read(8)
        version = np.lib.format.read_magic(io.BytesIO(head))
        width, read = {
            (1, 0): (2, np.lib.format.read_array_header_1_0),
            (2, 0): (4, np.lib.format.read_array_header_2_0),
        }.get(version, (0, None))
        size = file.read(width)
        length = int.from_bytes(size, "little")
        if read is None or length > _MOST_HEADER:
            raise fault(path, f"`{entry.filename}` has a header that no array of numbers needs", help=CUT_SHORT)
        shape, _, kind = read(io.BytesIO(size + file.read(length)))
    if not all(type(length) is int and 0 <= length < 1 << 63 for length in shape):
        raise fault(path, f"`{entry.filename}` has a header with lengths that no array has", help=CUT_SHORT)
    told_size = 0 if kind.hasobject else prod(shape) * kind.itemsize
    if not kind.hasobject and len(head) + width + length + told_size != entry.file_size:
        raise fault(
            path,
            f"`{entry.filename}` is of shape {format_shape(shape)} by its header, and has {entry.file_size} bytes",
            help=CUT_SHORT,
        )
    return entry.file_size
