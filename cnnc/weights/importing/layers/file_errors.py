"""Errors of files that weights cannot be read from."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnc.diagnostics import CnnError, clause
from cnnc.wording import quoted

BROKEN_ARCHIVE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""Exceptions of zipfile for damaged archives; RuntimeErrors where one seems encrypted or of a later version."""
CUT_SHORT = "the file is cut short or was changed; fetch it again"
_SHOWN = 8
"""So many names are listed in a message."""


def fault(path: Path, reason: str, *, notes: Iterable[str] = (), help: str | None = None) -> CnnError:
    """The error that weights cannot be read from a path, and why."""
    return CnnError.of("weights", f"cannot read weights from `{path}`: {reason}", notes=list(notes), help=help)


def library_fault(path: Path, error: BaseException) -> CnnError:
    """The error that a library gave up on a file."""
    said = error.args[0] if isinstance(error, KeyError) and error.args else error  # `str` would quote it
    reason = " ".join(str(said).split())
    if isinstance(error, KeyError) and " " not in reason:
        reason = f"it lacks `{reason}`"
    return fault(path, clause(reason) if reason else type(error).__name__, help=CUT_SHORT)


@contextmanager
def library_errors(path: Path, *kinds: type[BaseException]) -> Iterator[None]:
    """Raise a library's errors on a file as ours."""
    try:
        yield
    except kinds as error:
        raise library_fault(path, error) from error


def name_list(names: Iterable[str]) -> str:
    """Names in backticks, the first of many."""
    return quoted(names, _SHOWN)
