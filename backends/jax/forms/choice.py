"""Which form of a layer is fastest on this machine: a table of measurements, and the choice by its nearest entry.

The table that comes with the package was measured on one x86 machine. `cnnc tune` measures another and leaves its
table in the user's cache, or where the environment variable `CNNC_TUNING` says; that one is then used instead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from math import log2
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax

from cnnc.diagnostics import CnnError
from cnnc.wording import reason_of

BUNDLED: Final = "forms.json"
_FARTHEST: Final = 4.0
"""Doublings, summed over size, channels, filters and batch, beyond which an entry says nothing of a layer."""

_WORTH: Final = 0.95
"""Part of the plain form's time below which another form is chosen: what is measured wavers by a few per cent."""


class Layer(NamedTuple):
    """The key of a choice. `size` is the input's longest spatial axis, `batch` pictures."""

    part: str
    """`conv.forward`, `depthwise.weight_gradient`, `batch_norm` and so on: those that `lower` asks for."""
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    size: int
    channels: int
    filters: int
    batch: int


class Entry(NamedTuple):
    """A layer that was measured, and milliseconds by form, the least of several rounds."""

    layer: Layer
    milliseconds: Mapping[str, float]

    def best(self, possible: Iterable[str]) -> str | None:
        """The fastest of the forms that were measured; the first of them unless another is faster beyond noise."""
        known = [name for name in possible if name in self.milliseconds]
        if not known:
            return None
        fastest = min(known, key=self.milliseconds.__getitem__)
        return fastest if self.milliseconds[fastest] < _WORTH * self.milliseconds[known[0]] else known[0]


class Table(NamedTuple):
    """Measurements of one machine."""

    machine: str
    entries: tuple[Entry, ...]

    def choose(self, layer: Layer, possible: Iterable[str]) -> str:
        """The best of the forms at the nearest entry of the same part, kernel and stride; else the first."""
        names = list(possible)
        near = self._nearest(layer)
        return (near.best(names) if near else None) or names[0]

    def _nearest(self, layer: Layer) -> Entry | None:
        alike = [entry for entry in self.entries if entry.layer[:3] == layer[:3]]
        nearest = min(alike, key=lambda entry: _distance(entry.layer, layer), default=None)
        return nearest if nearest and _distance(nearest.layer, layer) <= _FARTHEST else None


PLAIN: Final = Table("", ())
"""Nothing is known: every layer is computed in its first, plain form."""


def chosen() -> Table:
    """The table for the default device: the plain one off the CPU, where XLA's own forms are the fast ones."""
    if jax.default_backend() != "cpu":
        return PLAIN
    path = user_table()
    if path.is_file():
        return read_table(path)
    if "CNNC_TUNING" in os.environ:
        raise CnnError.of("run", f"`CNNC_TUNING` names no file: `{path}`", help=f"cnnc tune -o {path}")
    return _bundled()


def user_table() -> Path:
    """Where a table of the user's own lies, if there is one."""
    if named := os.environ.get("CNNC_TUNING"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnc" / BUNDLED


def read_table(path: Path) -> Table:
    """A table that `cnnc tune` wrote.

    Raises:
        CnnError: a file that cannot be read or is no such table.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CnnError.of("run", f"cannot read `{path}`: {reason_of(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CnnError.of(
            "run", f"`{path}` is no table of `cnnc tune`", help="delete it, or write it anew with `cnnc tune`"
        ) from error


def parse(text: str) -> Table:
    """A table from its JSON. Raises ValueError, KeyError, TypeError or AttributeError where it is none."""
    found = json.loads(text)
    return Table(str(found["machine"]), tuple(map(_entry, found["entries"])))


def render(table: Table) -> str:
    """The table as JSON, an entry a line."""
    lines = []
    for entry in table.entries:
        layer = {**entry.layer._asdict(), "ms": dict(entry.milliseconds)}
        lines.append(f"    {json.dumps(layer)}")
    body = ",\n".join(lines)
    return f'{{\n  "machine": {json.dumps(table.machine)},\n  "entries": [\n{body}\n  ]\n}}\n'


def _entry(found: Mapping[str, Any]) -> Entry:
    kernel, stride = (tuple(int(n) for n in found[name]) for name in ("kernel", "stride"))
    size, channels, filters, batch = (int(found[name]) for name in ("size", "channels", "filters", "batch"))
    if min(size, channels, filters, batch) < 1:
        raise ValueError(found)
    milliseconds = {str(name): float(value) for name, value in found["ms"].items()}
    return Entry(Layer(str(found["part"]), kernel, stride, size, channels, filters, batch), milliseconds)


def _distance(one: Layer, other: Layer) -> float:
    return sum(abs(log2(a / b)) for a, b in zip(one[3:], other[3:], strict=True))


@cache
def _bundled() -> Table:
    return parse(resources.files(__package__).joinpath(BUNDLED).read_text(encoding="utf-8"))
