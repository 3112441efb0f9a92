"""Weights out of safetensors: PyTorch's names (timm, Hugging Face, torchvision), Flax's and Keras's, and cnnc's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from cnnc.documents import parse_json
from cnnc.weights.importing.layers.file_errors import fault, library_errors
from cnnc.weights.importing.layers.file_layers import Source
from cnnc.weights.importing.readers.sizes import MOST_BYTES, require_size
from cnnc.weights.importing.readers.state_dict import name_layers
from cnnc.weights.importing.readers.state_dict_prefixes import conventions, without_prefixes
from cnnc.weights.weights_file import KEY, require_intact

_TYPES: Final[Mapping[str, str]] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


def read_safetensors(path: Path, most: int = MOST_BYTES, copy: str | None = None) -> Source:
    """The layers of a safetensors file, in the natural order of their names: the format sorts by them.

    Raises:
        CnnError: the file is cut short, is no safetensors file, holds values of a type that is not read, or is cnnc's
            and was changed since.
    """
    with library_errors(path, SafetensorError, OSError, ValueError):
        require_size(path, path.stat().st_size, most)
        data = path.read_bytes()
        entries = deserialize(data)  # type: ignore[no-untyped-call]  # it ships no types
        metadata = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
        own = KEY in metadata
        facts = dict(parse_json(metadata[KEY])) if own else {}
    arrays = {name: _array(path, name, entry) for name, entry in sorted(entries, key=lambda each: each[0])}
    require_intact(path, arrays, facts)
    named = name_layers(without_prefixes(path, arrays, copy), sort=True, own=own)
    return Source(
        path,
        "safetensors of cnnc" if own else "safetensors",
        named.layers,
        "names",
        channels_first=False if own else conventions(arrays),
        ignored=named.ignored,
    )


def _array(path: Path, name: str, entry: Mapping[str, Any]) -> NDArray[Any]:
    kind = str(entry["dtype"])
    if kind not in _TYPES:
        raise fault(path, f"the tensor `{name}` is of type {kind}, which is not read", help="convert it to float32")
    stored = np.frombuffer(entry["data"], _TYPES[kind])
    if kind == "BF16":  # the upper half of a float32
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.reshape(entry["shape"])
