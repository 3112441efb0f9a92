"""Packages that only some commands need, and what to say when they are not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cnnc.diagnostics import CnnError


@contextmanager
def extra(name: str, purpose: str) -> Iterator[None]:
    """Round imports that need the extra `name` of the package: a missing one becomes a CnnError."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "cnnc":
            raise
        raise CnnError.of(
            "install",
            f"{purpose} needs the package `{error.name}`, which is not installed",
            help=f'pip install "cnnc[{name}]"',
        ) from error
