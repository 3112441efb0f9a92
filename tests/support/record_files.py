"""TFRecord files written by hand, byte by byte."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.support.pictures import noise

crc32c = pytest.importorskip("google_crc32c", reason="needs the package google-crc32c")


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(features: Mapping[str, bytes | int]) -> bytes:
    entries = b""
    for name, value in features.items():
        feature = field(1, field(1, value)) if isinstance(value, bytes) else field(3, field(1, varint(value)))
        entries += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, entries)


def masked(content: bytes) -> bytes:
    crc = crc32c.value(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + masked(length) + content + masked(content)


def jpeg(seed: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(noise(20, 24, 3, seed=seed)).save(out, "JPEG", quality=95)
    return out.getvalue()


def of(label: int, seed: int, **more: bytes | int) -> bytes:
    """A picture as ImageNet's conversion writes it."""
    text = f"class {label}".encode()
    features: dict[str, bytes | int] = {"image/height": 20, "image/class/label": label, "image/class/text": text}
    return example({**features, **more, "image/encoded": jpeg(seed)})


def imagenet(root: Path, sizes: Sequence[int] = (5, 1, 9), classes: int = 3, *, zipped: bool = False) -> Path:
    """Shards of so many pictures to train on, and one of 6 to validate on; labels go from 1."""
    root.mkdir(parents=True)
    number = 0
    shards = [(f"train-{i:05}-of-{len(sizes):05}", size) for i, size in enumerate(sizes)]
    for name, size in [*shards, ("validation-00000-of-00001", 6)]:
        raw = b""
        for _ in range(size):
            raw += record(of(1 + number % classes, number))
            number += 1
        (root / name).write_bytes(gzip.compress(raw) if zipped else raw)
    return root


def write_records(root: Path, train: Sequence[int], val: Sequence[int], *, texts: bool) -> Path:
    """Records with these labels, as they are written, with words for them or without."""
    root.mkdir()
    for part, labels in (("train", train), ("val", val)):
        more = {} if texts else {"image/class/text": b""}
        (root / f"{part}.tfrecord").write_bytes(b"".join(record(of(n, i, **more)) for i, n in enumerate(labels)))
    return root
