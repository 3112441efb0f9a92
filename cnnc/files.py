"""Files written whole or not at all: a reader never sees half a file, whenever the writer dies."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cnnc.diagnostics import CnnError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Put a file in place in one move, once its bytes are on the disk."""
    data = content.encode() if isinstance(content, str) else content
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp's files are its owner's alone; these are for whoever may read the folder.
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise CnnError.of("run", f"cannot write `{path}`: {(error.strerror or str(error)).lower()}") from error


def sync_folder(folder: Path) -> None:
    """Have the disk hold the names in a folder."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
