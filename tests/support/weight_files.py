"""What the readers of weights tell of a file: its layers, their kinds and layouts, or why it cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnc.diagnostics import CnnError
from cnnc.weights.importing.any_file import read_source
from cnnc.weights.importing.layers.file_layers import Source, SourceLayer


def said(path: Path, code: str = "weights") -> str:
    """What is said of a path that cannot be read."""
    with pytest.raises(CnnError) as caught:
        read_source(path)
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert str(path) in found.message
    return "\n".join([found.message, *found.notes, found.help or ""])


def named(source: Source) -> dict[str, SourceLayer]:
    """The layers by their names."""
    return {layer.name: layer for layer in source.layers}


def kinds(source: Source) -> list[tuple[str, str | None]]:
    """The name and the kind of every layer, in the file's order."""
    return [(layer.name, layer.kind) for layer in source.layers]


def layouts(layer: SourceLayer) -> dict[str, tuple[str, ...]]:
    """The layouts that each of a layer's tensors could have, by its role."""
    return {role: tensor.layouts for role, tensor in layer.tensors.items()}


def save_archive(path: Path, arrays: dict[str, Any]) -> None:
    """An archive of NumPy whose names are no Python words."""
    np.savez(path, **arrays)
