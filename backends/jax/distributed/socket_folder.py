"""A folder for sockets that is this user's alone, and is removed even if the process that made it is killed.

A process that is killed removes nothing: the next one that makes such a folder does. Until then it is known by its
lock, which the system takes from whoever dies, in whatever container.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

_PREFIX: Final = "cnnc-sockets-"
_YOUNG_SECONDS: Final = 60.0
"""A folder may have no lock for a moment, after it was made."""


def make_socket_folder() -> Path:
    """Make a folder for as long as this process runs, and remove those of this user whose processes are dead."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _remove_orphan(path)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    _lock(folder)
    return folder


def _remove_orphan(folder: Path) -> None:
    handle = _lock(folder)
    if handle is None:
        return
    found = os.fstat(handle)
    if found.st_uid == os.geteuid() and time.time() - found.st_mtime > _YOUNG_SECONDS:
        shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)


def _lock(folder: Path) -> int | None:
    """The handle by which this process holds a folder's lock; None where another holds it, or it cannot be had."""
    import fcntl  # which Windows lacks, and training on several machines with it

    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
