"""Pictures that are decoded once: in a file of the cache, mapped into memory, or in memory where there is none.

The first epoch fills it as it goes along, later ones read it; a file that was filled serves later runs too. Its name
says what it was made of (the files' paths, sizes and times, the size wanted), so a changed folder gets another.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from cnnc.data.sources.download import cache_folder
from cnnc.ops.base import Shape

MEMORY_BYTES = 1 << 30
"""Decoded pictures may take so much memory where no file can hold them."""
CACHE_BYTES = 20 << 30
"""The cache's files together; `CNNC_CACHE_BYTES` sets another limit, 0 for no file at all."""
_STALE_SECONDS = 86_400.0
_VERSION = 1
_NUMBERS = numbers()
MISSING, GOOD, BROKEN = 0, 1, 2


@dataclass(frozen=True, eq=False)
class DecodedPictures:
    """Decoded pictures `(count, height, width, channels)`, and for each whether it is there yet, or broken.

    `partial` is their file while the first epoch fills it, `final` from then on; None: in memory only.
    """

    pictures: NDArray[np.uint8]
    state: NDArray[np.uint8]
    partial: Path | None = None
    final: Path | None = None

    def store(self, index: int, picture: NDArray[np.uint8] | None) -> None:
        """Store a picture, or that it is broken. Threads may store the same one at once: it is the same."""
        if picture is not None:
            self.pictures[index] = picture
        self.state[index] = BROKEN if picture is None else GOOD


def open_decoded(count: int, shape: Shape, origin: Iterable[bytes] | None) -> DecodedPictures | None:
    """A cache for the pictures of a feed, filled already if an earlier run did; None where they are too many.

    Args:
        count: how many.
        shape: of each, height x width x channels.
        origin: what the pictures come from, in bytes that change when they do; None to stay in memory.
    """
    pictures = count * int(np.prod(shape))
    if origin is not None:
        cached = _in_cache(count, shape, _name(count, shape, origin))
        if cached is not None:
            return cached
    if pictures > MEMORY_BYTES:
        return None
    return DecodedPictures(np.empty((count, *shape), np.uint8), np.zeros(count, np.uint8))


def settle(decoded: DecodedPictures) -> None:
    """Put a file that is filled in its place for later runs. Nothing happens to one that is not, or is there."""
    if decoded.partial is None or decoded.final is None or not decoded.state.all() or not decoded.partial.exists():
        return
    assert isinstance(decoded.pictures, np.memmap)
    decoded.pictures.flush()
    try:
        with decoded.partial.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(decoded.state.tobytes())
            file.flush()
            os.fsync(file.fileno())
        decoded.partial.replace(decoded.final)
    except OSError:
        # Of use to later runs only: this one has its pictures mapped.
        decoded.partial.unlink(missing_ok=True)


def limit() -> int:
    """How many bytes the cache's files may have together."""
    text = os.environ.get("CNNC_CACHE_BYTES", "")
    return int(text) if text.isdecimal() else CACHE_BYTES


def _name(count: int, shape: Shape, origin: Iterable[bytes]) -> str:
    digest = hashlib.sha256(f"{_VERSION} {PIL.__version__} {count} {shape}".encode())
    for part in origin:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:32]


def _in_cache(count: int, shape: Shape, name: str) -> DecodedPictures | None:
    """The pictures in the cache's file of a name, made if it is not there; None where the disk has no room for it."""
    size = count * int(np.prod(shape))
    if size > limit():
        return None
    try:
        folder = cache_folder() / "decoded"
        folder.mkdir(parents=True, exist_ok=True)
        final = folder / f"{name}.pictures"
        if final.is_file() and final.stat().st_size == size + count:
            os.utime(final)
            state = np.fromfile(final, np.uint8, count, offset=size)
            return DecodedPictures(np.memmap(final, np.uint8, "c", shape=(count, *shape)), state, None, final)
        _make_room(folder, size)
        if shutil.disk_usage(folder).free < 2 * size:
            return None
        partial = folder / f"{name}.{_host()}.{os.getpid()}.{next(_NUMBERS)}.partial"
        pictures = np.memmap(partial, np.uint8, "w+", shape=(count, *shape))
        if hasattr(os, "posix_fallocate"):
            # A full disk is an error here, not a dead process at the first write to a page that has no place.
            with partial.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError:
        return None
    decoded = DecodedPictures(pictures, np.zeros(count, np.uint8), partial, final)
    weakref.finalize(decoded, partial.unlink, missing_ok=True)
    return decoded


def _make_room(folder: Path, size: int) -> None:
    """Remove files that were left half filled, and of the rest those that were not used for longest."""
    now, kept = time.time(), []
    for path in folder.iterdir():
        if path.suffix == ".partial" and (_is_orphan(path) or now - path.stat().st_mtime > _STALE_SECONDS):
            path.unlink(missing_ok=True)
        elif path.suffix == ".pictures":
            kept.append((path.stat().st_mtime, path.stat().st_size, path))
    total = size + sum(bytes for _, bytes, _ in kept)
    for _, bytes, path in sorted(kept):
        if total <= limit():
            return
        path.unlink(missing_ok=True)
        total -= bytes


def _is_orphan(partial: Path) -> bool:
    """Whether the process that fills a file was one of this machine's, and is gone."""
    _, host, process, *_ = partial.name.split(".")
    if host != _host() or os.name != "posix":
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return False


def _host() -> str:
    return platform.node().replace(".", "-")
