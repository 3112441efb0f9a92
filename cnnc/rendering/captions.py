"""Layers and numbers in a few words, for tables and pictures."""

from __future__ import annotations

from typing import Any, Final

from cnnc.ops import Input, Op, format_shape
from cnnc.ops.signature import REQUIRED, signature_of

_OMITTED: Final = (("init", str), ("bias", bool))


def caption(op: Op) -> str:
    """An operator and what is not its default, as a spec would say it: `conv(7x7, 64, stride=2)`."""
    if isinstance(op, Input):
        return op.name
    arguments = []
    for parameter in signature_of(type(op)):
        value = getattr(op, parameter.name)
        if value is None or _is_default(op, parameter.name, value, parameter.default):
            continue
        if (parameter.name, type(value)) in _OMITTED:
            continue
        text = _spell(parameter.name, value, parameter.type.kind)
        arguments.append(text if parameter.default is REQUIRED else f"{parameter.name}={text}")
    return f"{op.name}({', '.join(arguments)})" if arguments else op.name


def magnitude(number: int) -> str:
    """Three digits and a suffix, as papers write it: `4.09 G`."""
    for size, suffix in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            scaled = number / size
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f} {suffix}"
    return str(number)


def _is_default(op: Op, name: str, value: Any, default: Any) -> bool:
    """Whether a spec need not say the value: a stride may follow its kernel, one value does for all axes."""
    if name == "stride" and default is None:
        return bool(value == getattr(op, "kernel", None))
    return bool(value == default) or (
        isinstance(default, tuple) and isinstance(value, tuple) and {*value} == {*default}
    )


def _spell(name: str, value: Any, kind: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, tuple):
        return str(value)
    if kind == "dims":
        same = len({*value}) == 1 and name not in ("kernel", "shape")
        return str(value[0]) if same else format_shape(value)
    if kind == "padding":
        flat = [amount for pair in value for amount in pair]
        return str(flat[0]) if len({*flat}) == 1 else "[" + ", ".join(f"{a}+{b}" for a, b in value) + "]"
    numbers = [f"{number:g}" for number in value]
    return numbers[0] if len(numbers) == 1 else f"[{', '.join(numbers)}]"
