"""Sparse constants: LiteRT's own DENSIFY says what they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from cnnc.diagnostics import CnnError
from cnnc.tflite_file import flatbuffer
from cnnc.tflite_file.read import read_file
from cnnc.tflite_file.schema import OPERATORS, TENSOR_TYPES
from cnnc.tflite_file.write import IDENTIFIER

DENSE, COMPRESSED = 0, 1


def sparse_file(values: NDArray[Any], shape: tuple[int, ...], sparsity: dict[str, Any]) -> bytes:
    """A file whose only operator makes a sparse constant dense."""
    kind = TENSOR_TYPES.index({"f": "FLOAT32", "i": "INT8", "e": "FLOAT16"}[values.dtype.char.replace("b", "i")])
    code = OPERATORS.index("DENSIFY")
    tensors = [
        {"shape": shape, "type": kind, "buffer": 1, "name": "sparse", "sparsity": sparsity},
        {"shape": shape, "type": kind, "buffer": 0, "name": "dense"},
    ]
    table = {
        "version": 3,
        "codes": [{"deprecated_code": code, "code": code, "version": 1}],
        "subgraphs": [
            {"tensors": tensors, "inputs": [], "outputs": [1], "operators": [{"inputs": [0], "outputs": [1]}]}
        ],
        "buffers": [{}, {"data": values.view(np.uint8)}],
    }
    return flatbuffer.write("Model", table, IDENTIFIER)


def level(size: int = 0, segments: list[int] | None = None, indices: list[int] | None = None, bits: int = 8) -> Any:
    """A dense level of a size, or a compressed one whose numbers are stored in so many bits."""
    if segments is None:
        return {"format": DENSE, "size": size}
    kind = {32: 1, 16: 2, 8: 3}[bits]
    return {
        "format": COMPRESSED,
        "segments_type": kind,
        "segments": {"values": segments},
        "indices_type": kind,
        "indices": {"values": indices},
    }


def compressed(rows: NDArray[np.bool_], bits: int) -> Any:
    """The level of the columns of rows in which something is."""
    return level(segments=[0, *np.cumsum(rows.sum(1)).tolist()], indices=np.nonzero(rows)[1].tolist(), bits=bits)


def densified(data: bytes) -> NDArray[Any]:
    """What LiteRT makes of the file."""
    interpreter = Interpreter(
        model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter.allocate_tensors()
    interpreter.invoke()
    found: NDArray[Any] = interpreter.get_tensor(1)
    return found


def random_dense(seed: int, shape: tuple[int, ...], dtype: Any, block: int = 1) -> NDArray[Any]:
    """An array of whole numbers, most of its blocks along the last axis zero."""
    rng = np.random.default_rng(seed)
    kept = np.repeat(rng.random((*shape[:-1], shape[-1] // block)) < 0.3, block, axis=-1)
    return np.where(kept, rng.integers(1, 100, shape), 0).astype(dtype)


@pytest.mark.fault("E7")
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_rows_of_compressed_columns(bits: int, dtype: Any) -> None:
    dense = random_dense(bits, (6, 3, 10), dtype)
    rows = dense.reshape(18, 10) != 0
    sparsity = {"traversal_order": [0, 1, 2], "dimensions": [level(6), level(3), compressed(rows, bits)]}
    data = sparse_file(dense[dense != 0], dense.shape, sparsity)
    found = read_file(data).main["sparse"].data
    assert found is not None
    np.testing.assert_array_equal(found, dense)
    np.testing.assert_array_equal(densified(data), dense)


@pytest.mark.fault("E7")
@pytest.mark.parametrize("block", [(1, 4), (2, 4)])
def test_blocks_of_values(block: tuple[int, int]) -> None:
    """Blocks of rows by columns, as TFLite's converter cuts weights for its kernels."""
    dense = random_dense(1, (8, 16), np.float32, 4)
    blocks = dense.reshape(8 // block[0], block[0], 16 // block[1], block[1]).swapaxes(1, 2)
    kept = np.asarray(blocks.any(axis=(2, 3)))
    sparsity = {
        "traversal_order": [0, 1, 2, 3],
        "block_map": [0, 1],
        "dimensions": [level(len(kept)), compressed(kept, 8), level(block[0]), level(block[1])],
    }
    data = sparse_file(blocks[kept].reshape(-1), dense.shape, sparsity)
    found = read_file(data).main["sparse"].data
    assert found is not None
    np.testing.assert_array_equal(found, dense)
    np.testing.assert_array_equal(densified(data), dense)


SOUND: dict[str, Any] = {
    "traversal_order": [0, 1],
    "dimensions": [level(2), level(segments=[0, 1, 3], indices=[3, 0, 2])],
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"traversal_order": [0, 0]}, "is not gone through axis by axis"),
        ({"traversal_order": [0, 1, 2], "block_map": [1]}, "is not gone through axis by axis"),
        ({"dimensions": [level(2)]}, "is not gone through axis by axis"),
        ({"dimensions": [level(3), SOUND["dimensions"][1]]}, "has 1 dense rows of 3, for 3 values along 2"),
        ({"dimensions": [level(2), level(segments=[0, 3], indices=[3, 0, 2])]}, "has 2 ends of segments for 2 rows"),
        ({"dimensions": [level(2), level(segments=[0, 2, 1], indices=[3])]}, "has 3 ends of segments for 2 rows"),
        ({"dimensions": [level(2), level(segments=[0, 1, 3], indices=[3, 0, 4])]}, "has indices from 0 to 4 along 4"),
        (
            {"dimensions": [level(2), level(segments=[0, 1, 2], indices=[3, 0])]},
            "has places for 2 values, and 3 values",
        ),
        ({"dimensions": [level(2), level(2)]}, "has 2 dense rows of 2, for 3 values along 4"),
        (
            {
                "traversal_order": [0, 1, 2],
                "block_map": [2],
                "dimensions": [level(2), level(segments=[0, 1, 3], indices=[3, 0, 2]), level(1)],
            },
            "has blocks along axes that it lacks",
        ),
        (
            {
                "traversal_order": [0, 1, 2],
                "block_map": [1],
                "dimensions": [level(1), level(segments=[0, 1], indices=[2]), level(3)],
            },
            r"has values outside its shape \[2, 4\]",
        ),
    ],
)
def test_sparsity_that_does_not_fit(change: dict[str, Any], reason: str) -> None:
    data = sparse_file(np.array([1, 2, 3], np.float32), (2, 4), {**SOUND, **change})
    with pytest.raises(CnnError, match=f"is damaged: the sparse tensor `sparse` {reason}"):
        read_file(data)
