"""The networks that ship with cnnc, a family a file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent


def names() -> list[str]:
    """The names of the bundled specs, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.cnn"))


def read(name: str) -> str:
    """The text of a bundled spec."""
    return (_FOLDER / f"{name}.cnn").read_text(encoding="utf-8")
