"""CIFAR-10 in its binary form (Krizhevsky 2009). The form for Python is a pickle and is never read."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cnnc.data.sources.data_set import DataSet, Examples
from cnnc.data.sources.download import Remote, Report, cache_folder, fetch
from cnnc.diagnostics import CnnError
from cnnc.files import read_bytes

ARCHIVE = Remote(
    "cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c32a1d4ab5d03f1284b67883e8d87530",
)
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = ("test_batch.bin",)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_INSIDE = "cifar-10-batches-bin"
_RECORD = 1 + 3 * 32 * 32
_MOST_BYTES = 1 << 28


def load_cifar10(folder: Path | None, report: Report) -> DataSet:
    """CIFAR-10 from a local folder with the binary files or their archive, or from the cache."""
    read = find_cifar10(folder if folder is not None else cache_folder() / "cifar10")
    if read is None and folder is not None:
        pickles = any((place / "data_batch_1").is_file() for place in (folder, folder / "cifar-10-batches-py"))
        raise CnnError.of(
            "data",
            f"`{folder}` holds " + ("CIFAR-10 as pickles, which are never read" if pickles else "no CIFAR-10"),
            help=f"it should hold `{ARCHIVE.name}`, the files in it, or pictures as train/<class>/ and test/<class>/",
        )
    if read is None:
        read = _archive(fetch("cifar10", [ARCHIVE], report)[0])
    train, test = _part(read, TRAIN), _part(read, TEST)
    return DataSet("cifar10", train, test, test, CLASSES, ("the test pictures serve as validation set too",))


def find_cifar10(folder: Path) -> Callable[[str], bytes] | None:
    """How to read the binary files by name, if the folder has them, plain or in their archive."""
    for place in (folder, folder / _INSIDE, folder / "cifar10", folder / "cifar10" / _INSIDE):
        if (place / TEST[0]).is_file():
            return lambda name, place=place: _read(place / name)  # type: ignore[misc]  # a default that binds
        if (place / ARCHIVE.name).is_file():
            return _archive(place / ARCHIVE.name)
    return None


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, _MOST_BYTES)
    except OSError as error:
        raise CnnError.of("data", f"cannot read `{path}`: {str(error.strerror).lower()}") from error


def _archive(path: Path) -> Callable[[str], bytes]:
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                file = archive.extractfile(member) if member.isfile() and name in (*TRAIN, *TEST) else None
                if file is None:
                    continue
                if member.size > _MOST_BYTES:
                    raise CnnError.of(
                        "data", f"`{name}` in `{path}` has {member.size:,} bytes, more than any of CIFAR-10"
                    )
                contents[name] = file.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise CnnError.of("data", f"cannot read `{path}`: {str(error).lower()}", help="copy the file again") from error

    def read(name: str) -> bytes:
        if name not in contents:
            raise CnnError.of("data", f"`{path}` lacks `{name}`", help=f"the archive wanted is {ARCHIVE.url}")
        return contents[name]

    return read


def _part(read: Callable[[str], bytes], names: tuple[str, ...]) -> Examples:
    records = []
    for name in names:
        raw = read(name)
        if len(raw) % _RECORD or not raw:
            raise CnnError.of(
                "data",
                f"`{name}` has {len(raw):,} bytes, which are no records of {_RECORD:,}",
                help="copy the file again",
            )
        records.append(np.frombuffer(raw, np.uint8).reshape(-1, _RECORD))
    table = np.concatenate(records)
    labels = table[:, 0].astype(np.int32)
    if labels.max() >= len(CLASSES):
        raise CnnError.of("data", f"`{names[0]}` has a label {labels.max()}, and labels go from 0 to 9")
    pictures = np.ascontiguousarray(table[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return Examples((pictures,), (labels,))
