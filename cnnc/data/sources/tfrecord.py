"""TFRecord files without TensorFlow: where their records lie, and a record checked against its sum.

A record is its length (8 bytes, little-endian), that length's masked CRC-32C, the content, and the content's masked
CRC-32C. https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

from __future__ import annotations

import gzip
import mmap
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from cnnc.diagnostics import CnnError
from cnnc.wording import reason_of

_HEAD, _TAIL = 12, 4
_GZIP = b"\x1f\x8b"


class Extent(NamedTuple):
    """The bytes of a record in its file: the first, and how long its content is."""

    offset: int
    length: int


def walk(path: Path) -> Iterator[tuple[Extent, memoryview]]:
    """Every record of a file in order and its content, which is read from the disk only where it is looked at.

    Raises:
        CnnError: of code `data`, with the file and the byte, where the file ends within a record or is none.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
                yield from _walk(path, view, size)
    except OSError as error:
        raise CnnError.of("data", f"cannot read `{path}`: {reason_of(error)}") from error


def read(path: Path, extent: Extent) -> bytes:
    """A record's content. Raises CnnError when it is not what was written."""
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(extent.offset)
            raw = file.read(_HEAD + extent.length + _TAIL)
    except FileNotFoundError:
        raise CnnError.of("data", f"`{path}` was there when the data set was read, and is gone") from None
    except OSError as error:
        raise CnnError.of("data", f"cannot read `{path}`: {reason_of(error)}") from error
    if len(raw) < _HEAD + extent.length + _TAIL:
        raise _cut_short(path, extent.offset, _HEAD + extent.length + _TAIL, len(raw))
    content = raw[_HEAD:-_TAIL]
    if struct.unpack("<Q", raw[:8])[0] != extent.length or masked_sum(content) != _u32(raw[-_TAIL:]):
        raise CnnError.of(
            "picture",
            f"the record at byte {extent.offset:,} of `{path}` is damaged: its CRC-32C differs",
            help="copy the file again, or pass `--skip-corrupt` to leave out what is damaged",
        )
    return content


def is_zipped(path: Path) -> bool:
    """Whether a file is compressed by gzip, and no plain file whose first length only looks so."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return head[:2] == _GZIP and not (len(head) == _HEAD and masked_sum(head[:8]) == _u32(head[8:]))


def unpack(path: Path, target: Path) -> None:
    """Decompress a file into another. Raises CnnError, with the byte reached, when it ends early or is damaged."""
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        with gzip.open(path) as source, temporary.open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
        temporary.replace(target)
    except (EOFError, zlib.error, OSError) as error:
        reached = temporary.stat().st_size if temporary.exists() else 0
        temporary.unlink(missing_ok=True)
        raise CnnError.of(
            "data",
            f"cannot decompress `{path}`: {str(error).lower()} (after {reached:,} bytes of content)",
            help="copy the file again",
        ) from error


def masked_sum(content: bytes | memoryview) -> int:
    """The CRC-32C of some bytes, masked as TFRecord stores it."""
    crc: int = _crc32c().value(bytes(content))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _walk(path: Path, view: memoryview, size: int) -> Iterator[tuple[Extent, memoryview]]:
    at = 0
    while at < size:
        if size - at < _HEAD:
            raise _cut_short(path, at, _HEAD, size - at)
        length = struct.unpack_from("<Q", view, at)[0]
        if masked_sum(view[at : at + 8]) != _u32(view[at + 8 : at + _HEAD]):
            raise CnnError.of(
                "data",
                f"`{path}` holds no record at byte {at:,}: the CRC-32C of its length differs",
                help="copy the file again" if at else "the file is no TFRecord file, or is damaged",
            )
        whole = _HEAD + length + _TAIL
        if size - at < whole:
            raise _cut_short(path, at, whole, size - at)
        with view[at + _HEAD : at + _HEAD + length] as content:
            yield Extent(at, length), content
        at += whole


def _cut_short(path: Path, at: int, wanted: int, found: int) -> CnnError:
    return CnnError.of(
        "data",
        f"`{path}` is cut short: the record at byte {at:,} takes {wanted:,} bytes, and {found:,} are left",
        help="copy the file again",
    )


def _u32(raw: bytes | memoryview) -> int:
    value: int = struct.unpack("<I", raw)[0]
    return value


def _crc32c() -> ModuleType:
    try:
        import google_crc32c  # type: ignore[import-not-found,import-untyped,unused-ignore]  # optional, ships no types
    except ModuleNotFoundError as error:
        raise CnnError.of(
            "install",
            f"reading TFRecord files needs the package `{error.name}`, which is not installed",
            help="pip install google-crc32c",
        ) from error
    module: ModuleType = google_crc32c
    return module
