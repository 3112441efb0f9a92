"""Picture files and folders made up for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

"""Data that some machines have beside the repository."""


def noise(height: int, width: int, channels: int, seed: int = 0) -> NDArray[np.uint8]:
    """A random picture; of one channel `(height, width)`."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def make_tree(root: Path, counts: Mapping[str, int], size: tuple[int, int] = (8, 8)) -> Path:
    """A folder with so many PNG pictures in each sub-folder; the classes differ in brightness."""
    for place, (folder, count) in enumerate(counts.items()):
        (root / folder).mkdir(parents=True)
        classes = sorted({name.rsplit("/", 1)[-1] for name in counts})
        level = 40 + 170 * classes.index(folder.rsplit("/", 1)[-1]) // max(1, len(classes) - 1)
        for i in range(count):
            values = np.clip(level + noise(*size, 3, seed=1000 * place + i).astype(int) // 8 - 16, 0, 255)
            Image.fromarray(values.astype(np.uint8)).save(root / folder / f"{i:03}.png")
    return root


def truncate(path: Path, share: float = 0.5) -> None:
    """Cut a file short."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def idx(array: NDArray[np.uint8]) -> bytes:
    """An array as an IDX file of bytes."""
    header: Sequence[int] = array.shape
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in header) + array.tobytes()
