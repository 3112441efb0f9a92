"""An operator as a spec calls it: which of its attributes need saying, and how each is written."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from cnnc.ops import Op, format_shape
from cnnc.ops.signature import REQUIRED, signature_of

Writer = Callable[[Any, str, str], str]
"""The text of an attribute's value, which has a kind (`dims`, say) and a name."""


def write_value(value: Any, kind: str, name: str) -> str:
    """An attribute's value as the language has it, to the last digit."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if not isinstance(value, tuple):
        return repr(value)
    if kind == "dims":
        is_one = len(set(value)) == 1 and name in ("stride", "dilation", "scale")
        return str(value[0]) if is_one else format_shape(value)
    if kind != "padding":
        return f"[{', '.join(map(repr, value))}]"
    if all(before == after for before, after in value):
        sizes = tuple(before for before, _ in value)
        return str(sizes[0]) if len(set(sizes)) == 1 else format_shape(sizes)
    return f"[{', '.join(f'[{before}, {after}]' for before, after in value)}]"


def write_call(op: Op, omitted: Container[str] = (), write: Writer = write_value) -> str:
    """An operator with its attributes that are not their defaults, but for some omitted: `conv(7x7, 64, stride=2)`."""
    arguments = []
    for parameter in signature_of(type(op)):
        name, value = parameter.name, getattr(op, parameter.name)
        if name in omitted or _is_default(op, name, value, parameter.default):
            continue
        text = write(value, parameter.type.kind, name)
        arguments.append(text if parameter.default is REQUIRED else f"{name}={text}")
    return f"{op.name}({', '.join(arguments)})" if arguments else op.name


def _is_default(op: Op, name: str, value: Any, default: Any) -> bool:
    """Whether a spec need not say the value: a pool's stride follows its kernel, one number does for all axes."""
    if name == "stride" and default is None:
        return bool(value == getattr(op, "kernel", None))
    if isinstance(value, tuple) and isinstance(default, tuple) and len(default) == 1:
        return value == default * len(value)
    return bool(value == default)
