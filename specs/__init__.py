"""The networks that ship with cnnc, a family a file."""

from __future__ import annotations

from importlib.resources import files


def names() -> list[str]:
    """The names of the bundled specs, sorted."""
    return sorted(entry.name.removesuffix(".cnn") for entry in files(__name__).iterdir() if entry.name.endswith(".cnn"))


def read(name: str) -> str:
    """The text of a bundled spec."""
    return files(__name__).joinpath(f"{name}.cnn").read_text(encoding="utf-8")
