"""Checkpoints of a training: all that it needs to go on bit for bit, and never a half of one.

A checkpoint is a folder `checkpoints/<number>`: the arrays as Orbax writes them (every process its part, to be read on
other devices than they were on), `position.json`, and `manifest.json` with the size and SHA-256 of every file. It is
written beside its place, brought to the disk, and moved there in one go. One that does not agree with its manifest,
after a power loss or on a disk that lies, is passed over for the one before it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cnnc.backends.protocols import Array
from cnnc.diagnostics import CnnError
from cnnc.documents import parse_json
from cnnc.files import require_file, sync_folder
from cnnc.runs.position import Position
from cnnc.weights.quiet_orbax import quiet_orbax
from cnnc.weights.weights_file import grouped_shape

KEPT: Final = 2
"""Checkpoints that are kept: the last one, and one to fall back to."""
_ARRAYS, _TREE, _POSITION, _MANIFEST = "arrays", "arrays.json", "position.json", "manifest.json"
_UNFINISHED: Final = ".tmp"
_MARGIN: Final = 1 << 18
"""Bytes that a checkpoint takes beside its arrays, with some to spare."""
_BROKEN: Final = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError)
"""The errors of Orbax and tensorstore at a damaged checkpoint, or at a full disk."""


_ANOTHER: Final = "put back the spec.cnn and args.yaml that it was trained with"
_OLDER: Final = (
    "it was begun before a convolution of as many groups as channels counted as `depthwise`: train anew from its "
    "weights, with --weights and the run's folder"
)


class DamagedCheckpoint(Exception):
    """A checkpoint that is not what was written; the message says in which way."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that agrees with its manifest."""

    path: Path
    position: Position

    def arrays(self, like: Mapping[str, Array]) -> dict[str, Array]:
        """Its arrays, in the shapes, types and shardings of `like`.

        Raises:
            CnnError: `run`, when they are not those of this network and recipe.
        """
        import orbax.checkpoint as orbax  # type: ignore[import-untyped]  # ships no types

        own = parse_json((self.path / _TREE).read_text(encoding="utf-8"))
        fits = _tree(like)
        wrong = next((name for name in (*fits, *own) if fits.get(name) != own.get(name)), None)
        if wrong is not None:
            raise CnnError.of(
                "run",
                f"`{self.path}` does not fit the network and the settings of its run",
                notes=[f"of `{wrong}` it has {own.get(wrong, 'nothing')}, and {fits.get(wrong, 'nothing')} is wanted"],
                help=_OLDER if wrong in like and own.get(wrong) == _grouped(like[wrong]) else _ANOTHER,
            )
        with quiet_orbax(), orbax.StandardCheckpointer() as checkpointer:
            arrays: dict[str, Array] = checkpointer.restore(
                (self.path / _ARRAYS).resolve(), {name: _without_values(leaf) for name, leaf in like.items()}
            )
        return arrays


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run, in a folder."""

    folder: Path
    is_leader: bool = True
    """Whether this process does what only one may do."""
    barrier: Callable[[str], None] = lambda name: None
    """Holds all processes up for each other."""

    def save(self, position: Position, arrays: Mapping[str, Array]) -> Path:
        """Write one more, and remove those before the last but one.

        Raises:
            CnnError: `run`, when it cannot be written; those before it stay.
        """
        import orbax.checkpoint as orbax

        number = max((_number(path) for path in self._all()), default=-1) + 1
        place = self.folder / f"{number:06}"
        unfinished = place.with_name(place.name + _UNFINISHED)
        self.barrier(f"{place.name} numbered")
        try:
            if self.is_leader:
                unfinished.mkdir(parents=True)
                _require_room(unfinished, sum(array.nbytes for array in arrays.values()))
            self.barrier(f"{place.name} begun")
            with quiet_orbax(), orbax.StandardCheckpointer() as checkpointer:
                checkpointer.save((unfinished / _ARRAYS).resolve(), dict(arrays))
            self.barrier(f"{place.name} written")
            if self.is_leader:
                (unfinished / _POSITION).write_text(json.dumps(position.to_json(), indent=1), encoding="utf-8")
                (unfinished / _TREE).write_text(json.dumps(_tree(arrays), indent=1), encoding="utf-8")
                (unfinished / _MANIFEST).write_text(json.dumps(_manifest(unfinished), indent=1), encoding="utf-8")
                _to_disk(unfinished)
                unfinished.rename(place)
                sync_folder(self.folder)
                for old in self._all()[:-KEPT]:
                    shutil.rmtree(old)
        except _BROKEN as error:
            if self.is_leader:
                shutil.rmtree(unfinished, ignore_errors=True)
            raise CnnError.of(
                "run",
                f"cannot write the checkpoint `{place}`: {_reason(error)}",
                help="make room on that disk, or let it be written to, and go on",
            ) from error
        self.barrier(f"{place.name} in place")
        return place

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The last checkpoint that is whole, and what is to be said of those that are not."""
        notes: list[str] = []
        for path in reversed(self._all()):
            try:
                return Checkpoint(path, _verify(path)), notes
            except DamagedCheckpoint as damage:
                notes.append(f"`{path}` is damaged ({damage}): the one before it is taken")
        return None, notes

    def clear(self) -> None:
        """Remove what a process that was killed left half written, and checkpoints that are damaged."""
        for path in self.folder.glob(f"*{_UNFINISHED}"):
            shutil.rmtree(path)
        for path in self._all():
            try:
                _verify(path)
            except DamagedCheckpoint:
                shutil.rmtree(path)

    def _all(self) -> list[Path]:
        """Finished ones, oldest first."""
        return sorted((p for p in self.folder.glob("*") if p.name.isdigit() and p.is_dir()), key=_number)


def _require_room(folder: Path, size: int) -> None:
    """Raise OSError where so many bytes are not free: sooner than Orbax, which is loud about it."""
    if shutil.disk_usage(folder).free < size + _MARGIN:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for {size / 1e6:.1f} MB")


def _reason(error: Exception) -> str:
    """Why a file could not be written: the system's own words, which tensorstore puts at the end of a long line."""
    text = " ".join(str(error).split())
    system = getattr(error, "strerror", None)
    if system is None and "[os_error_code" in text:
        system = text.partition("[os_error_code")[0].rpartition(": ")[2]
    return (system or text[:200]).strip() or type(error).__name__


def _without_values(leaf: Any) -> Any:
    """The shape, type and place of an array that is to be read."""
    import jax

    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)  # type: ignore[no-untyped-call]


def _tree(arrays: Mapping[str, Array]) -> dict[str, str]:
    """Shapes and types by name."""
    return {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}


def _grouped(array: Array) -> str:
    """The entry in `_tree` of a depthwise kernel that was kept as one of a convolution in groups."""
    return f"{array.dtype}{list(grouped_shape(array.shape))}"


def _number(path: Path) -> int:
    return int(path.name)


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file but the manifest, by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _MANIFEST)
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _digest(path)} for path in files
    }


def _verify(folder: Path) -> Position:
    """Where the checkpoint is. Raises DamagedCheckpoint when it is not as it was written."""
    try:
        manifest = parse_json((folder / _MANIFEST).read_text(encoding="utf-8"))
        for name, noted in manifest.items():
            file = folder / name
            if not file.is_file():
                raise DamagedCheckpoint(f"`{name}` is missing")
            if file.stat().st_size != noted["bytes"]:
                raise DamagedCheckpoint(f"`{name}` has {file.stat().st_size} bytes of {noted['bytes']}")
            if _digest(file) != noted["sha256"]:
                raise DamagedCheckpoint(f"`{name}` was changed")
        return Position.from_json(json.loads((folder / _POSITION).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise DamagedCheckpoint(f"`{Path(error.filename).name}` is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCheckpoint("its manifest or position cannot be read") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_disk(folder: Path) -> None:
    """Have the disk hold all of a folder before anything is said of it."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep a run for one training alone, until the process ends in whatever way.

    Raises:
        CnnError: another process trains it.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows has no such locks
        yield
        return
    # Appending leaves alone what a link in a folder of others may lead to.
    with require_file(folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CnnError.of(
                "run", f"another process is training `{folder}`", help="wait for it, or stop it first"
            ) from error
        yield
