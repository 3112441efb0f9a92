"""Files written whole or not at all: a reader never sees half a file, whenever the writer dies.

All that cnnc writes for a user passes `require_file` or `require_folder`, once before the work and once at its end:
what is no regular file, such as a device or a pipe, is never replaced by one.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from cnnc.diagnostics import CnnError
from cnnc.wording import reason_of

_KINDS: Final[Mapping[int, str]] = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def write_atomically(path: Path, content: bytes | str) -> None:
    """Put a file in place in one move, once its bytes are on the disk. Of a link it is the file linked to.

    Text is UTF-8, but for names of files in it that are none: those stay the bytes that they are.

    Raises:
        CnnError: as `require_file`, or the disk refuses.
    """
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    place = require_file(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name[:_LONGEST]}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp's files are its owner's alone; these are for whoever may read the folder, or the file before.
            os.chmod(temporary, stat.S_IMODE(place.stat().st_mode) if place.exists() else 0o666 & ~_umask())
            os.replace(temporary, place)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(place.parent)
    except OSError as error:
        raise _cannot(path, reason_of(error)) from error


_LONGEST: Final = 200
"""Characters of a file's name in that of its temporary; a folder's entry has 255 bytes at most."""


MOST_TEXT: Final = 16 << 20
"""Bytes of a list, a table or a configuration that are read."""


def read_bytes(path: Path, most: int = MOST_TEXT) -> bytes:
    """The bytes of a file, or of a pipe. Raises OSError, also where there are more than `most`."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size  # 0 for what does not know it
        data = b"" if size > most else file.read(size or most + 1)
    if max(size, len(data)) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return data


def require_file(path: Path) -> Path:
    """The path, its links followed, where a regular file is that may be replaced, or none is yet and one may be made.

    Raises:
        CnnError: of code `run`, with what is there instead.
    """
    try:
        place = _follow(path)
        _require_folder_of(path, place)
        mode = place.stat().st_mode
    except FileNotFoundError:
        return place
    except (OSError, RuntimeError) as error:  # Python 3.11 and 3.12 raise RuntimeError for links in a circle
        raise _cannot(path, reason_of(error)) from error
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise _cannot(path, f"it is {kind}")
    if not os.access(place, os.W_OK):
        raise _cannot(path, "the file is there already, without permission to write it")
    return place


def require_apart(path: Path, sources: Iterable[str | Path | None]) -> None:
    """Assure that a file to be written is none of those that are read, which stay as they are.

    Raises:
        CnnError: of code `run`, with the file.
    """
    for source in sources:
        if source is not None and path.is_file() and os.path.isfile(source) and path.samefile(source):
            raise CnnError.of("run", f"cannot write `{path}`: it is read, and stays as it is", help="-o another name")


def require_folder(path: Path) -> None:
    """Assure that a folder is there, or can be made with those above it.

    Raises:
        CnnError: of code `run`, with what is there instead.
    """
    try:
        place = _follow(path)
        nearest = next(each for each in (place, *place.parents) if os.path.lexists(each))
        mode = nearest.stat().st_mode
    except (OSError, RuntimeError) as error:
        raise _cannot(path, reason_of(error)) from error
    if not stat.S_ISDIR(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a file")
        raise _cannot(path, f"it is {kind}" if nearest == place else f"`{nearest}` is {kind}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _cannot(path, f"no permission to write in `{nearest}`")


def sync_folder(folder: Path) -> None:
    """Have the disk hold the names in a folder."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _follow(path: Path) -> Path:
    """Where the links of a path lead. Raises CnnError where the last of them leads to nothing."""
    place = path.resolve()
    if path.is_symlink() and not os.path.lexists(place):
        raise _cannot(path, f"it is a link to `{os.readlink(path)}`, which is not there")
    return place


def _require_folder_of(path: Path, place: Path) -> None:
    """Raises CnnError unless a file may be made in the folder where a path leads."""
    folder = place.parent
    if not folder.is_dir():
        file = next((each for each in path.parents if each.exists() and not each.is_dir()), None)
        raise _cannot(path, f"there is no folder `{path.parent}`" if file is None else f"`{file}` is a file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _cannot(path, f"no permission to write in `{path.parent}`")


def _cannot(path: Path, reason: str) -> CnnError:
    return CnnError.of("run", f"cannot write `{path}`: {reason}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
