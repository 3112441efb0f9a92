"""A folder of raw float32, as tools wrote them out of Caffe's models: `conv1.weights`, `conv1.biases`, `fc6.weights`.

Little-endian numbers and nothing else: sizes are the network's to say. The axes are Caffe's: outputs, inputs, height,
width (https://caffe.berkeleyvision.org/tutorial/net_layer_blob.html).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from cnnc.weights.importing.layers.file_errors import CUT_SHORT, fault
from cnnc.weights.importing.layers.file_layers import Role, Source, SourceLayer, SourceTensor
from cnnc.weights.importing.readers.sizes import MOST_BYTES, require_size
from cnnc.weights.importing.readers.state_dict import natural
from cnnc.wording import reason_of

_ROLES: Final[dict[str, Role]] = {".weights": "kernel", ".biases": "bias"}
_DENSE: Final = ("fc", "ip", "dense", "linear", "classifier")
"""How names of fully connected layers begin; Caffe calls them inner products."""


def read_caffe(path: Path, most: int = MOST_BYTES) -> Source:
    """The layers of a folder, in the natural order of their names.

    Raises:
        CnnError: a file is empty, cannot be read, or is no whole number of float32 values.
    """
    files = sorted((each for each in path.iterdir() if each.suffix in _ROLES), key=lambda each: natural(each.name))
    require_size(path, sum(file.stat().st_size for file in files), most)
    layers: dict[str, dict[Role, SourceTensor]] = {}
    for file in files:
        layout = "O" if file.suffix == ".biases" else "OI" if file.name.lower().startswith(_DENSE) else "OIHW"
        layers.setdefault(file.stem, {})[_ROLES[file.suffix]] = _tensor(path, file, layout)
    others = [each.name for each in path.iterdir() if each.suffix not in _ROLES]
    return Source(
        path,
        "folder of raw float32",
        tuple(SourceLayer(name, "linear", tensors) for name, tensors in layers.items()),
        "names",
        channels_first=True,
        bgr=True,
        ignored=dict.fromkeys(sorted(others), "neither weights nor biases by its ending"),
    )


def _tensor(path: Path, file: Path, layout: str) -> SourceTensor:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise fault(path, f"`{file.name}` cannot be read: {reason_of(error)}") from error
    if not data or len(data) % 4:
        size = f"has {len(data)} bytes, and a float32 value takes 4" if data else "is empty"
        raise fault(path, f"`{file.name}` {size}", help=CUT_SHORT)
    return SourceTensor(file.name, np.frombuffer(data, "<f4").astype(np.float32), (layout,))
