"""Any file or folder of weights: its content tells the format, and its name only where that does not."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from cnnc.diagnostics import CnnError
from cnnc.weights.importing.layers.file_errors import BROKEN_ARCHIVE, CUT_SHORT, fault, library_fault, name_list
from cnnc.weights.importing.layers.file_layers import Source, SourceTensor
from cnnc.weights.importing.readers.caffe import read_caffe
from cnnc.weights.importing.readers.hugging_face import with_config
from cnnc.weights.importing.readers.keras import read_keras
from cnnc.weights.importing.readers.npz import read_npz
from cnnc.weights.importing.readers.orbax import is_orbax, read_orbax
from cnnc.weights.importing.readers.pytorch import read_pytorch
from cnnc.weights.importing.readers.safetensors import read_safetensors
from cnnc.weights.importing.readers.sizes import MOST_BYTES
from cnnc.weights.importing.readers.tflite import read_tflite
from cnnc.wording import reason_of

KINDS: Mapping[str, str] = {
    "safetensors": "`.safetensors` of timm, Hugging Face, torchvision, Flax or cnnc",
    "PyTorch": "`.pt`, `.pth` or `.bin` with a state dict",
    "Keras": "`.keras`, `.weights.h5` or `.h5`",
    "NumPy": "`.npz` with arrays by name",
    "TFLite": "`.tflite`: float, half precision, int8 or uint8",
    "Orbax": "the folder of a checkpoint",
    "raw float32": "a folder of `conv1.weights`, `conv1.biases`, ... in Caffe's order",
}
"""The formats that are read, for messages and the manual."""
_PICTURES: Mapping[bytes, str] = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"BM": "a BMP picture",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "packed by gzip",
    b"version https://git-lfs": "a pointer of Git LFS, and not the file that it stands for",
}


def read_source(path: Path, most: int = MOST_BYTES, copy: str | None = None) -> Source:
    """The layers that a file or folder of weights holds.

    Args:
        path: the file or folder.
        most: so many bytes its arrays may have together, as `most_bytes` says for a network.
        copy: which copy of the weights to take where there are several.

    Raises:
        CnnError: `weights`, when there is none, it is of no known kind or damaged, a tensor is not finite, or it holds
            code; `tflite` for a damaged TFLite file; `install` when the package that reads it is not installed.
    """
    if not path.exists():
        raise CnnError.of("weights", f"there is no file or folder `{path}`")
    reader = _reader(path)
    if copy is None:
        source = with_config(reader(path, most))
    elif reader in _WITH_COPIES:
        source = with_config(_WITH_COPIES[reader](path, most, copy))
    else:
        raise fault(
            path, f"there is no copy `{copy}` to choose: it holds one network's layers", help="leave --copy out"
        )
    if not source.layers:
        raise fault(path, "it holds no weights")
    for layer in source.layers:
        for tensor in layer.tensors.values():
            _require_finite(path, tensor)
    return source


def _reader(path: Path) -> Callable[[Path, int], Source]:
    if path.is_dir():
        return _reader_of_folder(path)
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise fault(path, reason_of(error)) from error
    if not head:
        raise fault(path, "it is empty")
    picture = next((what for magic, what in _PICTURES.items() if head.startswith(magic)), None)
    if picture is not None:
        raise _unknown(path, picture)
    if head.startswith(b"PK\x03\x04"):
        return _reader_of_archive(path)
    for is_magic, reader in (
        (head[4:8] == b"TFL3", read_tflite),
        (head.startswith(b"\x89HDF"), read_keras),
        (head[8:9] == b"{" and not any(head[6:8]), read_safetensors),  # after the size of a header of JSON
        (head[0] == 0x80, read_pytorch),  # how pickles begin, and headers of some sizes
    ):
        if is_magic:
            return reader
    if path.suffix in _ENDINGS:
        return _ENDINGS[path.suffix]
    raise _unknown(path, "")


_WITH_COPIES: Mapping[Callable[[Path, int], Source], Callable[[Path, int, str | None], Source]] = {
    read_safetensors: read_safetensors,
    read_pytorch: read_pytorch,
    read_npz: read_npz,
}
"""Readers of arrays by name, which may be there several times."""
_ENDINGS: Mapping[str, Callable[[Path, int], Source]] = {
    ".tflite": read_tflite,
    ".safetensors": read_safetensors,
    ".pt": read_pytorch,
    ".pth": read_pytorch,
}
"""Readers that say best what is wrong with a file that does not begin as it should."""


def _reader_of_archive(path: Path) -> Callable[[Path, int], Source]:
    """Keras, NumPy and PyTorch all write zip archives."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except BROKEN_ARCHIVE as error:
        raise library_fault(path, error) from error
    if "config.json" in names:
        return read_keras
    if any(name.endswith(".npy") for name in names):
        return read_npz
    if any(name.endswith(("/data.pkl", "data.pkl", "/constants.pkl", ".json")) for name in names):
        return read_pytorch
    raise _unknown(path, f"a zip archive of {name_list(names)}")


def _reader_of_folder(path: Path) -> Callable[[Path, int], Source]:
    _require_own_files(path)
    names = sorted(each.name for each in path.iterdir())
    if is_orbax(path):
        return read_orbax
    if any(name.endswith((".weights", ".biases")) for name in names):
        return read_caffe
    if "saved_model.pb" in names:
        raise fault(path, "a SavedModel is not read", help="convert it to TFLite, or save it from Keras as `.keras`")
    raise _unknown(path, f"a folder of {name_list(names)}" if names else "an empty folder")


def _require_own_files(path: Path) -> None:
    """Look at all that lies in a folder: a link may lead to any file, and of a pipe nothing may ever come."""
    root = path.resolve()
    for each in sorted(path.rglob("*")):
        name = each.relative_to(path)
        if each.is_symlink() and not Path(os.path.realpath(each)).is_relative_to(root):
            raise fault(
                path,
                f"`{name}` lies outside the folder, in `{os.readlink(each)}`, which was not read",
                help="put the file itself into the folder",
            )
        if not each.is_dir() and not each.is_file():
            raise fault(path, f"`{name}` is no file and no folder", help=CUT_SHORT)


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
