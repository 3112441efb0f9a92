"""Layers and numbers in a few words, for tables and pictures."""

from __future__ import annotations

from typing import Any, Final

from cnnc.ops import Input, Op
from cnnc.rendering.calls import write_call, write_value

_OMITTED: Final = (("init", str), ("bias", bool))


def caption(op: Op) -> str:
    """An operator and what is not its default, much as a spec would say it: `conv(7x7, 64, stride=2)`."""
    if isinstance(op, Input):
        return op.name
    return write_call(op, {name for name, kind in _OMITTED if isinstance(getattr(op, name, None), kind)}, _write_short)


def magnitude(number: int) -> str:
    """Three digits and a suffix, as papers write it: `4.09 G`."""
    for size, suffix in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            scaled = number / size
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f} {suffix}"
    return str(number)


def _write_short(value: Any, kind: str, name: str) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, tuple):
        return write_value(value, kind, name)
    is_one = len({*value}) == 1
    if kind == "floats":
        numbers = ", ".join(f"{number:g}" for number in value)
        return numbers if len(value) == 1 else f"[{numbers}]"
    if kind == "padding" and not (is_one and value[0][0] == value[0][1]):
        return f"[{', '.join(f'{before}+{after}' for before, after in value)}]"
    return str(value[0]) if name == "size" and is_one else write_value(value, kind, name)
