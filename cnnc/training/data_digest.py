"""A fingerprint of a data set, so that a run goes on with no other data, and processes train on the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cnnc.data.sources.data_set import Examples, Files, Part, Records


def data_digest(*parts: Part) -> str:
    """SHA-256 of names, sizes, places, labels and, of what is in memory, values of all examples, in their order."""
    digest = hashlib.sha256()
    for part in parts:
        match part:
            case Examples():
                arrays = [*part.inputs, *part.targets]
            case Files():
                digest.update(_sizes(part.paths, lambda path: f"{path.parent.name}/{path.name}"))
                arrays = [part.labels]
            case Records():
                digest.update(_sizes(part.paths, lambda path: path.name))
                arrays = [part.file, part.offset, part.length, part.labels]
        for array in arrays:
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _sizes(paths: Sequence[Path], name: Callable[[Path], str]) -> bytes:
    """A line for every file: what it is called wherever its folder lies, and its bytes; of one that is gone none."""
    sizes = (path.stat().st_size if path.exists() else "gone" for path in paths)
    lines = (f"{name(path)} {size}\n" for path, size in zip(paths, sizes, strict=True))
    return "".join(lines).encode(errors="surrogateescape")
