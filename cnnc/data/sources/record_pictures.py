"""Pictures out of TFRecord and ArrayRecord files: one of them, and all that a file holds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cnnc.data.sources.data_set import Records, name_of
from cnnc.data.sources.tf_example import Example, read_example
from cnnc.data.sources.tfrecord import Extent, read, walk
from cnnc.diagnostics import CnnError
from cnnc.wording import reason_of

_MOST_OPEN = 256


class RecordEntry(NamedTuple):
    """A record without its picture: its bytes, its label and the name of the feature that it is in, and the words."""

    extent: Extent
    label: int
    label_name: str
    text: str | None


def read_picture(part: Records, index: int) -> bytes:
    """A picture file out of its record. Raises CnnError when the record is damaged or holds none."""
    path, offset = part.paths[part.file[index]], int(part.offset[index])
    if part.form == "array_record":
        raw = _array_record(path, offset)
    else:
        raw = read(path, Extent(offset, int(part.length[index])))
    span = _parse(raw, name_of(part, index)).picture
    if span is None:
        raise CnnError.of("picture", f"`{name_of(part, index)}` holds no picture")
    return raw[span.start : span.end]


def record_entries(path: Path, form: str) -> Iterator[RecordEntry]:
    """Every record of a file.

    Raises:
        CnnError: of code `data` or `labels`, naming the record, where the file is damaged or a label is missing.
    """
    if form == "array_record":
        for number in range(_open(path).num_records()):
            yield _entry(Extent(number, 0), _array_record(path, number), path / f"record {number}")
    else:
        for extent, content in walk(path):
            yield _entry(extent, content, path / f"byte {extent.offset}")


def _entry(extent: Extent, raw: bytes | memoryview, name: Path) -> RecordEntry:
    example = _parse(raw, name)
    if example.picture is None:
        raise CnnError.of("data", f"`{name}` holds no picture", help="one is wanted as `image/encoded` or `image`")
    if example.label is None or example.label_name is None:
        raise CnnError.of(
            "labels", f"`{name}` has no label", help="one is wanted as `image/class/label` or `label`, a whole number"
        )
    if example.label < 0:
        raise CnnError.of("labels", f"`{name}` has the label {example.label}, and labels are not negative")
    return RecordEntry(extent, example.label, example.label_name, example.text)


def _parse(raw: bytes | memoryview, name: Path) -> Example:
    try:
        return read_example(raw)
    except ValueError as error:
        raise CnnError.of("data", f"`{name}` is no tf.train.Example: it has {error}") from error


def _array_record(path: Path, number: int) -> bytes:
    try:
        (raw,) = _open(path).read([number])
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CnnError.of(
            "picture",
            f"cannot read record {number} of `{path}`: {reason}",
            help="copy the file again, or pass `--skip-corrupt` to leave out what is damaged",
        ) from error
    return bytes(raw)


def _open(path: Path) -> Any:
    """The reader of a file as it is now."""
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise CnnError.of("data", f"cannot read `{path}`: {reason_of(error)}") from error
    return _reader(path, changed)


@lru_cache(maxsize=_MOST_OPEN)
def _reader(path: Path, changed: int) -> Any:
    try:
        from array_record.python import array_record_module  # type: ignore[import-not-found,import-untyped,unused-ignore]  # optional, ships no types
    except ModuleNotFoundError as error:
        raise CnnError.of(
            "install",
            f"reading ArrayRecord files needs the package `{error.name}`, which is not installed",
            help="pip install array_record",
        ) from error
    try:
        reader = array_record_module.ArrayRecordReader(str(path))
        if not reader.ok():
            # Only a read says what is the matter, and of some files cut short not even that.
            reader.read([0])
            raise ValueError("it is cut short or no ArrayRecord file")
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CnnError.of("data", f"cannot read `{path}`: {reason}", help="copy the file again") from error
    return reader
