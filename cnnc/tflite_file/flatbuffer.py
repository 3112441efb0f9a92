"""Flatbuffers by `schema.TABLES`: read with every offset checked, written the same for the same value.

A table is a dict of its fields; a vector of numbers a NumPy array that shares the file's bytes, a vector of tables a
list. A field that is absent is left out when read, and one that is None when written.

Source: https://flatbuffers.dev/internals.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import CnnError
from cnnc.tflite_file.schema import DEFAULTS, SCALARS, TABLES, UNIONS, Field

Table = dict[str, Any]
ALIGNMENT: Final = 16
"""Of the bytes of a buffer in a TFLite file."""


def read(data: bytes, root: str, identifier: str, what: str) -> Table:
    """The root table of a flatbuffer.

    Args:
        data: the file's bytes.
        root: the root's name in the schema.
        identifier: the four letters at byte 4 that files of the format have.
        what: the file, for messages.

    Raises:
        CnnError: `tflite`, when the bytes are of another format, cut short, or refer to a place outside themselves.
    """
    if len(data) < 8 or data[4:8] != identifier.encode():
        raise CnnError.of("tflite", f"`{what}` is no TFLite file: it lacks the letters {identifier} at byte 4")
    reader = _Reader(data, what)
    return reader.table(reader.offset(0), root)


def shortened(data: bytes, root: str, path: Sequence[str | int], count: int, what: str) -> bytes:
    """The bytes of a flatbuffer with the list at a path, such as `("subgraphs", 0, "operators")`, cut to `count`.

    Nothing else changes, what the schema here does not know included. Raises CnnError as `read` does.
    """
    reader = _Reader(data, what)
    place, kind = reader.offset(0), root
    for step in path:
        if isinstance(step, int):
            place = reader.offset(place + 4 + 4 * step)
        else:
            (slot,) = (i for i, field in enumerate(TABLES[kind]) if field.name == step)
            place, kind = reader.offset(place + reader.distances(place)[slot]), TABLES[kind][slot].kind
    changed = bytearray(data)
    struct.pack_into("<I", changed, place, count)
    return bytes(changed)


class _Reader:
    """Reads tables at offsets, and counts them, so that bytes which refer to one place many times end."""

    def __init__(self, data: bytes, what: str) -> None:
        self.data = data
        self.what = what
        self.left = len(data)  # an honest file has no more tables and names than bytes

    def fail(self, reason: str) -> CnnError:
        return CnnError.of(
            "tflite", f"`{self.what}` is damaged: {reason}", help="the file is cut short or was changed; make it again"
        )

    def unpack(self, form: str, at: int) -> Any:
        if at < 0 or at + struct.calcsize(form) > len(self.data):
            raise self.fail(f"it refers to byte {at}, and has {len(self.data)}")
        return struct.unpack_from(form, self.data, at)[0]

    def offset(self, at: int) -> int:
        return at + int(self.unpack("<I", at))

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise self.fail("its tables refer to each other without end")

    def table(self, at: int, name: str) -> Table:
        self.spend(4)
        distances = self.distances(at)
        found: Table = {}
        for slot, field in enumerate(TABLES[name]):
            if field.name == "_":
                continue
            distance = distances[slot] if slot < len(distances) else 0
            if distance:
                value = self.value(at + distance, field, found)
                if value is not None:
                    found[field.name] = value
            elif not field.vector and field.kind in SCALARS:
                found[field.name] = DEFAULTS.get((name, field.name), 0)
        return found

    def distances(self, at: int) -> Sequence[int]:
        """How far behind a table's place each of its fields is, by slot, 0 for one that is absent."""
        start = at - int(self.unpack("<i", at))
        count = max(0, int(self.unpack("<H", start)) // 2 - 2)
        if start + 4 + 2 * count > len(self.data):
            raise self.fail(f"it refers to byte {start + 4 + 2 * count}, and has {len(self.data)}")
        return struct.unpack_from(f"<{count}H", self.data, start + 4)

    def value(self, at: int, field: Field, before: Table) -> Any:
        if field.vector:
            return self.vector(self.offset(at), field.kind)
        if field.union:
            kind = UNIONS[field.kind].get(before.get(f"{field.name}_type", 0))
            return None if kind is None else self.table(self.offset(at), kind)
        if field.kind == "string":
            return self.string(self.offset(at))
        if field.kind in SCALARS:
            return self.unpack(_FORMATS[field.kind], at)
        return self.table(self.offset(at), field.kind)

    def vector(self, at: int, kind: str) -> Any:
        count = int(self.unpack("<I", at))
        start = at + 4
        if kind in SCALARS:
            dtype = np.dtype(SCALARS[kind])
            if start + count * dtype.itemsize > len(self.data):
                raise self.fail(f"a list of {count} values starts at byte {at}, and the file has {len(self.data)}")
            return np.frombuffer(self.data, dtype, count, start)
        self.spend(count)
        if start + 4 * count > len(self.data):
            raise self.fail(f"a list of {count} tables starts at byte {at}, and the file has {len(self.data)}")
        places = [self.offset(start + 4 * i) for i in range(count)]
        return [self.string(place) if kind == "string" else self.table(place, kind) for place in places]

    def string(self, at: int) -> str:
        count = int(self.unpack("<I", at))
        if at + 4 + count > len(self.data):
            raise self.fail(f"a name of {count} bytes starts at byte {at}, and the file has {len(self.data)}")
        self.spend(count // 4)
        return self.data[at + 4 : at + 4 + count].decode("utf-8", "replace")


_FORMATS: Final = {
    "bool": "<?",
    "i8": "<b",
    "u8": "<B",
    "u16": "<H",
    "i32": "<i",
    "u32": "<I",
    "i64": "<q",
    "u64": "<Q",
    "f32": "<f",
}


def write(root: str, table: Mapping[str, Any], identifier: str) -> bytes:
    """The bytes of a root table; those of equal tables are equal."""
    from flatbuffers import Builder

    builder = Builder(_bytes_within(table) * 17 // 16 + (1 << 18))  # growing copies all of it each time
    builder.Finish(_Writer(builder).table(root, table), identifier.encode())
    return bytes(memoryview(builder.Bytes)[builder.head :])  # what Output() gives, copied once


def _bytes_within(value: Any) -> int:
    """How many bytes the arrays in a table and its children take."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes) + ALIGNMENT
    if isinstance(value, Mapping):
        return sum(map(_bytes_within, value.values()))
    return sum(map(_bytes_within, value)) if isinstance(value, list) else 0


class _Writer:
    """Writes children before their parents, as the format wants it."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.strings: dict[str, int] = {}
        self.vectors: dict[tuple[str, bytes], int] = {}
        """Lists of numbers that are alike are one: shapes, and the zero points of filters."""

    def table(self, name: str, table: Mapping[str, Any]) -> int:
        fields = TABLES[name]
        unknown = set(table) - {field.name for field in fields}
        assert not unknown, f"{name} has no {unknown}"
        places: dict[int, int] = {}
        for slot, field in enumerate(fields):
            value = table.get(field.name)
            if value is None or field.name == "_":
                continue
            if field.vector:
                places[slot] = self.vector(field.kind, value)
            elif field.union:
                places[slot] = self.table(UNIONS[field.kind][table[f"{field.name}_type"]], value)
            elif field.kind == "string":
                places[slot] = self.string(value)
            elif field.kind not in SCALARS:
                places[slot] = self.table(field.kind, value)
        self.builder.StartObject(len(fields))
        for slot, field in enumerate(fields):
            if slot in places:
                self.builder.PrependUOffsetTRelativeSlot(slot, places[slot], 0)
            elif field.kind in SCALARS and not field.vector and table.get(field.name) is not None:
                default = DEFAULTS.get((name, field.name), 0)
                getattr(self.builder, f"Prepend{_PREPENDS[field.kind]}Slot")(slot, table[field.name], default)
        return int(self.builder.EndObject())

    def string(self, text: str) -> int:
        if text not in self.strings:
            self.strings[text] = self.builder.CreateString(text)
        return self.strings[text]

    def vector(self, kind: str, values: Any) -> int:
        if kind not in SCALARS:
            places = [self.string(value) if kind == "string" else self.table(kind, value) for value in values]
            self.builder.StartVector(4, len(places), 4)
            for place in reversed(places):
                self.builder.PrependUOffsetTRelative(place)
            return int(self.builder.EndVector())
        array = np.ascontiguousarray(values, SCALARS[kind])
        if array.nbytes > _LARGEST_SHARED:
            return self.numbers(kind, array)
        key = (kind, array.tobytes())
        if key not in self.vectors:
            self.vectors[key] = self.numbers(kind, array)
        return self.vectors[key]

    def numbers(self, kind: str, array: NDArray[Any]) -> int:
        size = array.dtype.itemsize
        self.builder.StartVector(size, array.size, ALIGNMENT if kind == "u8" else size)
        self.builder.head -= array.nbytes
        self.builder.Bytes[self.builder.head : self.builder.head + array.nbytes] = array.view(np.uint8).data
        return int(self.builder.EndVector())


_LARGEST_SHARED: Final = 1 << 16
_PREPENDS: Final = {
    "bool": "Bool",
    "i8": "Int8",
    "u8": "Uint8",
    "u16": "Uint16",
    "i32": "Int32",
    "u32": "Uint32",
    "i64": "Int64",
    "u64": "Uint64",
    "f32": "Float32",
}
