"""Sparse constants of TFLite files, as dense arrays.

A tensor of `d` axes is cut into blocks along some of them: `block_map[k]` is the axis that the block axis `d + k` runs
within. `traversal_order` says in which order the axes, those of blocks included, were gone through, and each level
is either dense, with every index of a size, or compressed as rows are in CSR: node `p` of the level above goes on to
`indices[segments[p]:segments[p + 1]]`. What the last level reaches are the stored values, in order.

Source: schema.fbs, `SparsityParameters`; S. Chou et al. 2018, "Format Abstraction for Sparse Tensor Algebra Compilers".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.tflite_file.flatbuffer import Table

Indices = NDArray[np.int64]
_COMPRESSED = 1


def densify(values: NDArray[Any], shape: tuple[int, ...], sparsity: Table) -> NDArray[Any]:
    """The array of a shape that sparse values stand for, zeros between them.

    Args:
        values: what is stored, `(count,)`.
        shape: of the whole.
        sparsity: the file's table for it.

    Raises:
        ValueError: the table does not fit itself, the shape or the values.
    """
    order, blocks = _integers(sparsity, "traversal_order"), _integers(sparsity, "block_map")
    levels = sparsity.get("dimensions", [])
    axes = len(shape)
    if sorted(order) != list(range(axes + len(blocks))) or len(levels) != len(order):
        raise ValueError("is not gone through axis by axis")
    if len({*blocks.tolist()}) < len(blocks) or not all(0 <= axis < axes for axis in blocks):
        raise ValueError("has blocks along axes that it lacks")
    places = np.zeros((1, len(order)), np.int64)  # of each node of a level, its index along every axis so far
    sizes = np.ones(len(order), np.int64)
    for axis, level in zip(order, levels, strict=True):
        parents, indices, sizes[axis] = _nodes(level, len(places), _extent(int(axis), shape, blocks), len(values))
        places = places[parents]
        places[:, axis] = indices
    for k, axis in enumerate(blocks):
        places[:, axis] = places[:, axis] * sizes[axes + k] + places[:, axes + k]
    if len(places) != len(values):
        raise ValueError(f"has places for {len(places)} values, and {len(values)} values")
    if (places[:, :axes] >= np.array(shape, np.int64)).any():
        raise ValueError(f"has values outside its shape {list(shape)}")
    dense = np.zeros(shape, values.dtype)
    dense[tuple(places[:, :axes].T)] = values
    return dense


def _extent(axis: int, shape: tuple[int, ...], blocks: Indices) -> int:
    """The most indices that an axis can have: of a block no more than the axis that it lies along."""
    return shape[axis] if axis < len(shape) else shape[int(blocks[axis - len(shape)])]


def _nodes(level: Table, above: int, extent: int, most: int) -> tuple[Indices, Indices, int]:
    """The parents and indices of a level's nodes, and its size; `most` bounds how many there can be."""
    if int(level["format"]) != _COMPRESSED:
        size = int(level["size"])
        if not 0 < size <= extent or above * size > most:
            raise ValueError(f"has {above} dense rows of {size}, for {most} values along {extent}")
        return np.repeat(np.arange(above), size), np.tile(np.arange(size), above), size
    segments, indices = (_integers(level.get(key, {}), "values") for key in ("segments", "indices"))
    counts = np.diff(segments)
    if len(segments) != above + 1 or segments[0] != 0 or (counts < 0).any() or segments[-1] != len(indices):
        raise ValueError(f"has {len(segments)} ends of segments for {above} rows and {len(indices)} indices")
    if len(indices) and not 0 <= indices.min() <= indices.max() < extent:
        raise ValueError(f"has indices from {indices.min()} to {indices.max()} along {extent}")
    return np.repeat(np.arange(above), counts), indices, extent


def _integers(table: Table, key: str) -> Indices:
    return np.asarray(table.get(key, ()), np.int64)
