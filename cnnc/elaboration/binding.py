"""Arguments meet parameters: by position and name, then by type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from cnnc.diagnostics import CnnError, Label, Span, did_you_mean
from cnnc.elaboration.arithmetic import is_number, show_value, type_name
from cnnc.elaboration.values import Count, Tensor
from cnnc.language import syntax
from cnnc.ops.signature import PADDINGS, REQUIRED, Parameter, Type
from cnnc.wording import number_of

A = TypeVar("A", bound=syntax.Argument)


def match(
    callee: str,
    parameters: Sequence[Parameter],
    arguments: Sequence[A],
    span: Span,
    *,
    partial: bool = False,
) -> dict[str, A]:
    """The argument of each parameter, but for those left to their defaults. With `partial` any may be missing.

    Raises:
        CnnError: `argument`, for the first one that is unknown, given twice, one too many, or missing.
    """
    names = [p.name for p in parameters]
    matched: dict[str, A] = {}
    is_named = False
    for position, argument in enumerate(arguments):
        if argument.name is None:
            if position >= len(names):
                raise _too_many(callee, parameters, position, argument.span)
            if is_named:
                message = "an argument without a name follows one with a name"
                raise CnnError.of("argument", message, argument.span, help="name it, or put it first")
            name = names[position]
        else:
            name, is_named = argument.name.text, True
            if name not in names:
                message = f"`{callee}` has no parameter `{name}`"
                help = did_you_mean(name, names) or _signature(callee, parameters)
                raise CnnError.of("argument", message, argument.name.span, help=help)
        if name in matched:
            message = f"`{name}` is given twice"
            raise CnnError.of("argument", message, argument.span, secondary=[Label(matched[name].span, "first here")])
        matched[name] = argument
    for parameter in parameters:
        if parameter.default is REQUIRED and parameter.name not in matched and not partial:
            message = f"`{callee}` needs `{parameter.name}`"
            raise CnnError.of("argument", message, span, help=_signature(callee, parameters))
    return matched


def _too_many(callee: str, parameters: Sequence[Parameter], position: int, span: Span) -> CnnError:
    if not parameters:
        return CnnError.of("argument", f"`{callee}` takes no arguments", span)
    taken = f"`{callee}` takes {number_of(len(parameters), 'argument')}"
    message = f"{taken}, but this is the {_ordinal(position + 1)}"
    return CnnError.of("argument", message, span, help=_signature(callee, parameters))


def _signature(callee: str, parameters: Sequence[Parameter]) -> str:
    if not parameters:
        return f"`{callee}` takes no arguments"
    shown = [p.name if p.default is REQUIRED else f"{p.name}=..." for p in parameters]
    return f"its parameters: {callee}({', '.join(shown)})"


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number // 10 % 10 != 1 else 0, "th")
    return f"{number}{ending}"


_WANTED: Mapping[str, str] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "`true` or `false`",
    "string": "a string",
    "dims": "a size such as `3x3` or `3`",
    "channels": "a number of channels",
    "repeats": "a number of repeats",
    "layer": "a layer",
    "tensor": "a tensor",
    "padding": "`same`, `valid`, `half`, a number, dims, or [before, after] for each axis",
    "floats": "a number or a list of numbers",
}


def check(value: Any, type: Type, name: str, span: Span) -> Any:
    """A block's argument, checked against its parameter's type and returned as it is passed on."""
    if not _FITS[type.kind](value):
        raise mismatch(value, type, name, span, is_blocks=True)
    if type.kind == "channels" and value < 1:
        raise CnnError.of("value", f"`{name}` is {value}, but channels count from 1", span)
    if type.kind in ("channels", "repeats"):
        return Count(value)
    return float(value) if type.kind == "float" else value


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_dims(value: Any) -> bool:
    return isinstance(value, tuple) or _is_int(value)


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "int": _is_int,
    "float": is_number,
    "bool": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "dims": _is_dims,
    "channels": _is_int,
    "repeats": _is_int,
    "tensor": lambda value: isinstance(value, Tensor),
    "any": lambda value: True,
}


def convert(value: Any, type: Type, name: str, span: Span) -> Any:
    """An operator's argument as its attribute takes it: dims and padding as tuples, `auto` as None."""
    if type.optional and value == "auto":
        return None
    if type.kind == "choice":
        if value in type.choices:
            return value
        shown = value if isinstance(value, str) else show_value(value)
        help = did_you_mean(shown, type.choices)
        wanted = " or ".join(f"`{c}`" for c in type.choices)
        raise CnnError.of("value", f"`{name}` is {wanted}, not `{shown}`", span, help=help)
    if type.kind == "dims" and (_is_int(value) or isinstance(value, tuple)):
        return tuple(map(int, value)) if isinstance(value, tuple) else (int(value),)
    if type.kind == "padding":
        return _padding(value, type, name, span)
    if type.kind == "floats":
        values = value if isinstance(value, list) else [value]
        if not all(map(is_number, values)):
            raise mismatch(value, type, name, span)
        return tuple(map(float, values))
    if type.kind == "dims":
        raise mismatch(value, type, name, span)
    if type.kind == "int" and isinstance(value, tuple):
        raise mismatch(value, type, name, span)
    value = check(value, type, name, span)
    return int(value) if isinstance(value, Count) else value


def _padding(value: Any, type: Type, name: str, span: Span) -> Any:
    if isinstance(value, str) and value in PADDINGS:
        return value
    if _is_int(value) or isinstance(value, tuple):
        sizes = value if isinstance(value, tuple) else (int(value),)
        return tuple((int(s), int(s)) for s in sizes)
    if isinstance(value, list) and value:
        pairs = value if all(isinstance(v, list) for v in value) else [value]
        if all(len(pair) == 2 and all(map(_is_int, pair)) for pair in pairs):
            return tuple((int(before), int(after)) for before, after in pairs)
    raise mismatch(value, type, name, span)


def mismatch(value: Any, type: Type, name: str, span: Span, *, is_blocks: bool = False) -> CnnError:
    """The error for a value of another type than its parameter's; a block's parameter could be declared otherwise."""
    message = f"`{name}` is {_WANTED[type.kind]}, but `{show_value(value)}` is {type_name(value)}"
    help = None
    if isinstance(value, list):
        help = "a list gives one value for each stage or repeat: [3, 4] x ..."
    elif isinstance(value, float) and type.kind in ("int", "channels", "repeats", "dims"):
        help = "round it: round(...), or divide by `//`"
    elif isinstance(value, tuple) and type.kind == "int" and is_blocks:
        help = f"declare it as `{name}: dims`"
    return CnnError.of("type", message, span, help=help)


def is_list_for_turns(value: Any, type: Type) -> bool:
    """Whether a list holds one value for each turn, and is not itself the value."""
    if not isinstance(value, list):
        return False
    if type.kind in ("floats", "padding"):
        return any(isinstance(item, list | str | tuple) for item in value) and not (
            type.kind == "padding" and all(isinstance(item, list) and all(map(_is_int, item)) for item in value)
        )
    return True
