"""Data sets in TFRecord and ArrayRecord files, as ImageNet's conversion and TensorFlow Datasets write them.

Files are `train-00000-of-01024` and so on, with a name before and an ending in between, or `train.tfrecord`; the parts
are train, val (valid, validation) and test. Where every record lies and its label are read once and kept in the cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cnnc.data.sources.data_set import DataSet, Records, name_of, split, take
from cnnc.data.sources.decoded_cache import limit
from cnnc.data.sources.download import Report, cache_folder
from cnnc.data.sources.file_tree import entries
from cnnc.data.sources.folder import Options
from cnnc.data.sources.parts import NAMES
from cnnc.data.sources.record_pictures import record_entries
from cnnc.data.sources.tfrecord import is_zipped, unpack
from cnnc.diagnostics import CnnError

Form = Literal["tfrecord", "array_record"]
_FILE = re.compile(
    rf"(?:.*[-_.])?(?P<part>{'|'.join(NAMES)})"
    r"(?:\.(?P<form>tfrecords?|tfrec|array_?record))?"
    r"(?:-(?P<number>\d{5})-of-(?P<count>\d{5}))?(?:\.(?P<after>tfrecords?|tfrec|array_?record))?(?:\.gz)?",
    re.IGNORECASE,
)
_WORTH_KEEPING = 10_000
"""An index of so many records is kept; a smaller one is read again in a second."""


@dataclass(frozen=True)
class _File:
    """A file of records by its name: the shard's number, of how many, and its form."""

    path: Path
    number: int
    count: int
    form: Form


@dataclass(frozen=True, eq=False)
class _Index:
    """The content of a part's files: the records, their labels as written, and the names of these."""

    records: Records
    from_one: bool
    texts: dict[int, str]


def has_records(root: Path) -> bool:
    """Whether a folder holds files of records."""
    return os.path.isdir(root) and bool(_find_files(root))


def load_records(root: Path, options: Options = Options(), report: Report = lambda line: None) -> DataSet:  # noqa: B008
    """A folder of record files as a data set.

    Labels in `image/class/label` count from 1 where none is 0, as ImageNet's do, and are counted from 0 here.

    Raises:
        CnnError: of code `data` when a shard is missing, cut short or damaged, `labels` when a label is out of range;
            either names the file and the record.
    """
    files = _find_files(root)
    if "train" not in files:
        raise CnnError.of(
            "data", f"`{root}` holds records, but none to train on", help="they are wanted as `train-00000-of-00010`"
        )
    for part, shards in files.items():
        _require_complete(root, part, shards)
    read = {part: _index(part, shards, report) for part, shards in files.items()}
    from_one = all(index.from_one for index in read.values())
    parts = {part: _counted(index.records, from_one) for part, index in read.items()}
    classes = _classes(parts, read["train"], from_one)
    notes = ["labels count from 1 in the records, and from 0 in the network"] if from_one else []
    train = parts["train"]
    if len(parts) == 1:
        kept, held = (take(train, indices) for indices in split(train.labels, options.held_out, options.seed))
        notes.append(f"{len(held)} of the {len(train)} pictures are held out as validation and test set")
        return DataSet(str(root), kept, held, held, classes, tuple(notes), "held-out")
    if "val" not in parts:
        notes.append("the test pictures serve as validation set too")
    if "test" not in parts:
        notes.append("the validation pictures serve as test set too")
    val, test = parts.get("val") or parts["test"], parts.get("test") or parts["val"]
    kind = "test" if "test" in parts else "validation"
    return DataSet(str(root), train, val, test, classes, tuple(notes), kind)


def _find_files(root: Path) -> dict[str, list[_File]]:
    """The files of every part, in order."""
    files: dict[str, list[_File]] = {}
    for name in entries(root).files:
        path, match = root / name, _FILE.fullmatch(name)
        if match is None or not path.is_file() or not (match["number"] or match["form"] or match["after"]):
            continue
        part = NAMES[match["part"].lower()]
        form: Form = "array_record" if "array" in (match["form"] or match["after"] or "").lower() else "tfrecord"
        file = _File(path, int(match["number"] or 0), int(match["count"] or 1), form)
        files.setdefault(part, []).append(file)
    return files


def _require_complete(root: Path, part: str, files: Sequence[_File]) -> None:
    """Raises CnnError when a part's shards are missing or of two sets."""
    if len({(file.count, file.form) for file in files}) > 1:
        raise CnnError.of(
            "data",
            f"`{root}` holds two sets of records for {part}: `{files[0].path.name}` and `{files[-1].path.name}`",
            help="keep one of them there",
        )
    missing = sorted({*range(files[0].count)} - {file.number for file in files})
    if missing:
        first = re.sub(r"\d{5}(?=-of-)", f"{missing[0]:05}", files[0].path.name)
        others = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CnnError.of("data", f"`{root}` lacks `{first}`{others}", help="copy the missing files too")


def _index(part: str, files: Sequence[_File], report: Report) -> _Index:
    """Where a part's records lie, out of the cache or by reading through them."""
    form = files[0].form
    paths = tuple(_plain(file.path, report) if form == "tfrecord" else file.path for file in files)
    stamps = [(os.path.abspath(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    kept = cache_folder() / "records" / f"{hashlib.sha256(repr(stamps).encode()).hexdigest()[:32]}.npz"
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as arrays:
            labels = arrays["labels"]
            records = Records(paths, arrays["files"], arrays["offset"], arrays["length"], labels, form)
            texts = dict(zip(arrays["numbers"].tolist(), arrays["texts"].tolist(), strict=True))
            return _Index(records, bool(arrays["from_one"]), texts)
    report(f"reading through the {len(paths):,} files of {part} for the labels")
    index = _read_through(paths, form)
    if len(index.records) >= _WORTH_KEEPING:
        _save(kept, index)
    return index


def _read_through(paths: tuple[Path, ...], form: Form) -> _Index:
    tables: list[NDArray[np.int64]] = []
    texts: dict[int, str] = {}
    from_one = True
    for file, path in enumerate(paths):
        rows = []
        for record in record_entries(path, form):
            rows.append((file, record.extent.offset, record.extent.length, record.label))
            from_one = from_one and record.label > 0 and record.label_name == "image/class/label"
            if record.text:
                texts.setdefault(record.label, record.text)
        tables.append(np.array(rows, np.int64).reshape(-1, 4))
    files, offset, length, labels = np.concatenate(tables).T
    if not len(labels):
        raise CnnError.of("data", f"`{paths[0]}` and the files beside it hold no records")
    if labels.max() >= 2**31:
        at = int(labels.argmax())
        raise CnnError.of("labels", f"the record at {offset[at]} of `{paths[files[at]]}` has the label {labels[at]}")
    records = Records(paths, files.astype(np.int32), offset, length, labels.astype(np.int32), form)
    return _Index(records, from_one, texts)


def _save(path: Path, index: _Index) -> None:
    """Write an index where later runs look for it; where that cannot be, they read through the files again."""
    temporary = path.with_suffix(f".{os.getpid()}.npz")
    records = index.records
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            temporary,
            files=records.file,
            offset=records.offset,
            length=records.length,
            labels=records.labels,
            from_one=index.from_one,
            numbers=np.array([*index.texts], np.int64),
            texts=np.array([*index.texts.values()], np.str_),
        )
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)


def _plain(path: Path, report: Report) -> Path:
    """The file itself, or what is in it if gzip compressed it: records in such a file cannot be found one by one."""
    if not is_zipped(path):
        return path
    found = path.stat()
    name = f"{os.path.abspath(path)} {found.st_size} {found.st_mtime_ns}"
    target = cache_folder() / "records" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}-{path.name}"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    used = sum(other.stat().st_size for other in target.parent.iterdir() if other.is_file())
    if used + found.st_size > limit() or shutil.disk_usage(target.parent).free < 2 * found.st_size:
        raise CnnError.of(
            "data",
            f"there is no room to decompress `{path}` in `{target.parent}`",
            help="decompress the files with `gzip -d`, or give the cache more room with `CNNC_CACHE_BYTES`",
        )
    report(f"decompressing {path.name} into {target.parent}, once")
    unpack(path, target)
    return target


def _counted(records: Records, from_one: bool) -> Records:
    labels: NDArray[np.int32] = records.labels - np.int32(from_one)
    return Records(records.paths, records.file, records.offset, records.length, labels, records.form)


def _classes(parts: dict[str, Records], train: _Index, from_one: bool) -> tuple[str, ...]:
    """Names for the classes 0 up to the training records' last. Raises CnnError for labels that are out of line."""
    own = parts["train"].labels
    count, distinct = int(own.max()) + 1, len(np.unique(own))
    for part, records in parts.items():
        at = int(records.labels.argmax())
        label = int(records.labels[at]) + from_one
        if part != "train" and label - from_one >= count:
            raise CnnError.of(
                "labels",
                f"`{name_of(records, at)}` has the label {label}, and the training records' go up to"
                f" {count - 1 + from_one}",
            )
        if part == "train" and count > max(2 * distinct, distinct + 10):
            raise CnnError.of(
                "labels",
                f"`{name_of(records, at)}` has the label {label}, and the {len(records):,} records have only"
                f" {distinct} different ones",
                help="labels count the classes in a row, from 0 or from 1",
            )
    # By the number that is written: records with other labels among them are found by it, however they are counted.
    written = range(from_one, count + from_one)
    names = [train.texts.get(label, str(label)) for label in written]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({label})" for label, name in zip(written, names, strict=True)
    )
