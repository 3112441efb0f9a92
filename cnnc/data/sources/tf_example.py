"""The part of `tf.train.Example` that pictures are stored with, read from its protocol buffer.

An Example holds Features, a map from names to Feature; a Feature is a list of bytes (field 1), of floats (2) or of
whole numbers (3). https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

Buffer: TypeAlias = "bytes | memoryview"
PICTURE = ("image/encoded", "image")
"""Names of the picture's feature in ImageNet's own conversion and in TensorFlow Datasets."""
LABEL = ("image/class/label", "label")
TEXT = "image/class/text"
_WANTED = {name.encode(): name for name in (*PICTURE, *LABEL, TEXT)}


class Span(NamedTuple):
    """From which byte to which a value lies."""

    start: int
    end: int


class Example(NamedTuple):
    """Where the picture file lies, its label and the feature that has it, and the label in words; None if not there."""

    picture: Span | None
    label: int | None
    label_name: str | None
    text: str | None


def read_example(raw: Buffer) -> Example:
    """The picture and its label in an Example. Raises ValueError for what is none."""
    found: dict[str, Span] = {}
    for number, features in _spans(raw, Span(0, len(raw))):
        for entry, pair in _spans(raw, features) if number == 1 else ():
            parts = dict(_spans(raw, pair)) if entry == 1 else {}
            if 1 in parts and 2 in parts and (name := _WANTED.get(bytes(raw[parts[1].start : parts[1].end]))):
                found[name] = parts[2]
    picture = next((found[name] for name in PICTURE if name in found), None)
    label_name = next((name for name in LABEL if name in found), None)
    text = _first_bytes(raw, found[TEXT]) if TEXT in found else None
    return Example(
        None if picture is None else _first_bytes(raw, picture),
        None if label_name is None else _first_number(raw, found[label_name]),
        label_name,
        None if text is None else bytes(raw[text.start : text.end]).decode("utf-8", "replace"),
    )


def _first_bytes(raw: Buffer, feature: Span) -> Span | None:
    for kind, values in _spans(raw, feature):
        for number, value in _spans(raw, values) if kind == 1 else ():
            if number == 1:
                return value
    return None


def _first_number(raw: Buffer, feature: Span) -> int | None:
    for kind, values in _spans(raw, feature):
        if kind == 3 and values.start < values.end:
            # A list of numbers is packed (one field of bytes) or a field a number: either way the value comes third.
            key, at = _varint(raw, values.start, values.end)
            if key & 7 == 2:
                _, at = _varint(raw, at, values.end)
            value, _ = _varint(raw, at, values.end)
            return value - (1 << 64) if value >= 1 << 63 else value
    return None


def _spans(raw: Buffer, span: Span) -> Iterator[tuple[int, Span]]:
    """The fields of a message that hold bytes: their numbers and where they lie."""
    at, end = span
    while at < end:
        key, at = _varint(raw, at, end)
        match key & 7:
            case 0:
                _, at = _varint(raw, at, end)
            case 1:
                at += 8
            case 2:
                size, at = _varint(raw, at, end)
                yield key >> 3, Span(at, at + size)
                at += size
            case 5:
                at += 4
            case _:
                raise ValueError(f"a field of kind {key & 7}")
        if at > end:
            raise ValueError("a field that is longer than what holds it")


def _varint(raw: Buffer, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number that does not end")
