"""Any file or folder of weights, told by what it holds before what it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from cnnc.diagnostics import CnnError
from cnnc.weights.importing.faults import fault
from cnnc.weights.importing.source import Source, SourceTensor
from cnnc.weights.importing.tflite import read_tflite

KINDS: Mapping[str, str] = {
    "TFLite": "`.tflite`: float, int8 and uint8",
}
"""What is read, for messages and the manual."""
_PICTURES: Mapping[bytes, str] = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"BM": "a BMP picture",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "packed by gzip",
    b"version https://git-lfs": "a pointer of Git LFS, and not the file that it stands for",
}


def read_source(path: Path) -> Source:
    """What a file or folder of weights holds.

    Raises:
        CnnError: `weights`, when there is none, it is of no known kind or damaged, a tensor is not finite, or it holds
            code; `tflite` for a damaged TFLite file; `install` when the package that reads it is not installed.
    """
    if not path.exists():
        raise CnnError.of("weights", f"there is no file or folder `{path}`")
    source = _reader(path)(path)
    if not source.layers:
        raise fault(path, "it holds no weights")
    for layer in source.layers:
        for tensor in layer.tensors.values():
            _require_finite(path, tensor)
    return source


def _reader(path: Path) -> Callable[[Path], Source]:
    if path.is_dir():
        raise _unknown(path, "a folder")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise fault(path, (error.strerror or str(error)).lower()) from error
    if not head:
        raise fault(path, "it is empty")
    if head[4:8] == b"TFL3" or path.suffix == ".tflite":
        return read_tflite
    raise _unknown(path, next((what for magic, what in _PICTURES.items() if head.startswith(magic)), ""))


def _unknown(path: Path, what: str) -> CnnError:
    return fault(
        path,
        f"it is {what}" if what else "it is of no known kind",
        notes=[f"{name}: {form}" for name, form in KINDS.items()],
        help="give a file or folder of one of these kinds",
    )


def _require_finite(path: Path, tensor: SourceTensor) -> None:
    wrong = int(np.size(tensor.array) - np.isfinite(tensor.array).sum())
    if wrong:
        kind = "not a number" if np.isnan(tensor.array).any() else "infinite"
        raise fault(path, f"the tensor `{tensor.name}` has {wrong} of {tensor.array.size} values that are {kind}")
