"""Arrays in `.npz` and `.npy` files. What a header declares is checked before anything is read, and no pickle is.

Rows are read one by one, so that memory is that of the rows that are wanted, whatever a file unpacks to.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cnnc.diagnostics import CnnError, clause

ENDINGS: Final = (".npz", ".npy")
_RATIO: Final = 1100
"""Deflate makes nothing smaller than to a 1032nd."""
_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    NotImplementedError,  # a way of compression
    RuntimeError,  # a password, or a header that is nested too deep
    EOFError,
    OSError,
    ValueError,
    MemoryError,
)


@dataclass(frozen=True)
class StoredArray:
    """An array `(rows, ...)` in a file, whose bytes start at `start` of its member; an `.npy` has no `member`."""

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int

    def __str__(self) -> str:
        return f"`{self.member.removesuffix('.npy')}` in `{self.path}`" if self.member else f"`{self.path}`"


def is_array_file(data: str) -> bool:
    """Whether what is given as data names a file of arrays, by its ending."""
    return data.lower().endswith(ENDINGS)


def stored_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays of a file by name, of which none is read; that of an `.npy` has none.

    Raises:
        CnnError: of code `data`: there is no such file, it is damaged, or an array of it is none of numbers.
    """
    if path.suffix.lower() == ".npy":
        with _reading(path), path.open("rb") as file:
            return {"": _header(file, path, "", path.stat().st_size)}
    found = {}
    with _reading(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                raise ValueError(f"`{info.filename}` in it is no array")
            if info.file_size > _RATIO * info.compress_size or info.compress_size > path.stat().st_size:
                raise ValueError(f"`{info.filename}` is said to unpack to {info.file_size:,} bytes")
            with archive.open(info) as file:
                array = _header(file, path, info.filename, info.file_size)
            found[info.filename.removesuffix(".npy")] = array
    return found


def read_rows(stored: StoredArray, rows: NDArray[np.integer]) -> NDArray[Any]:
    """Some rows of an array, which are given in ascending order. Raises CnnError where it is damaged."""
    size = prod(stored.shape[1:]) * stored.dtype.itemsize
    parts = []
    with _reading(stored.path), _opened(stored) as file:
        for row in rows.tolist():
            file.seek(stored.start + row * size)
            part = file.read(size)
            if len(part) < size:
                raise EOFError(f"row {row} is cut short")
            parts.append(part)
    return np.frombuffer(b"".join(parts), stored.dtype).reshape(len(rows), *stored.shape[1:])


def packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as an `.npz`, uncompressed; the same bytes for the same arrays, and any names."""
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = BytesIO()
            npy.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue())
    return content.getvalue()


def kind_of(dtype: np.dtype[Any]) -> str:
    """The kind of content of an array that holds no numbers."""
    return "Python objects" if dtype.hasobject else "text" if dtype.kind in "SU" else dtype.name


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise CnnError.of("data", f"there is no file `{path}`") from None
    except _BROKEN as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise CnnError.of("data", f"cannot read `{path}`: {clause(reason)}") from error


@contextmanager
def _opened(stored: StoredArray) -> Iterator[IO[bytes]]:
    if not stored.member:
        with stored.path.open("rb") as file:
            yield file
    else:
        with zipfile.ZipFile(stored.path) as archive, archive.open(stored.member) as file:
            yield file


def _header(file: IO[bytes], path: Path, member: str, size: int) -> StoredArray:
    """The header of an array, checked against the bytes that there are."""
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"its arrays are of version {version[0]}.{version[1]} of the format")
    shape, is_columns, dtype = read(file)
    stored = StoredArray(path, member, shape, dtype, file.tell())
    if dtype.kind not in "biuf" or dtype.itemsize == 0:
        raise CnnError.of("data", f"{stored} holds {kind_of(dtype)}, and numbers are wanted")
    if not shape or min(shape) < 1:
        raise CnnError.of("data", f"{stored} has the shape {shape}, and the first axis counts examples")
    if is_columns and len(shape) > 1:
        raise CnnError.of(
            "data", f"{stored} is stored column by column", help="save `np.ascontiguousarray(array)` in its place"
        )
    if stored.start + prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{stored} is said to be {dtype.name} of {shape}, and has {size - stored.start:,} bytes")
    return stored
