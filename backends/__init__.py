"""Backends, which run or emit a graph. `load` imports one when it is asked for, not before."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Final

from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.wording import quoted

BACKENDS: Final[Mapping[str, str | None]] = {
    "reference": None,
    "jax": "train",
    "tflite": "tflite",
    "edgetpu": None,
    "keras": "tensorflow",
}
"""Every backend, and the extra of the package that brings what it needs."""


def load(name: str, part: str | None = None) -> ModuleType:
    """The module `cnnc.backends.<name>`, or a part of it.

    Raises:
        CnnError: there is no such backend, or a package that it needs is not installed.
    """
    if name not in BACKENDS:
        known = quoted(BACKENDS)
        raise CnnError.of(
            "backend", f"there is no backend `{name}`", help=did_you_mean(name, BACKENDS) or f"choose one of {known}"
        )
    try:
        return import_module(f"cnnc.backends.{name}" if part is None else f"cnnc.backends.{name}.{part}")
    except ModuleNotFoundError as error:
        extra = BACKENDS[name]
        if extra is None or error.name is None or error.name.partition(".")[0] == "cnnc":
            raise
        raise CnnError.of(
            "install",
            f"the backend `{name}` needs the package `{error.name}`, which is not installed",
            help=f'pip install "cnnc[{extra}]"',
        ) from error
