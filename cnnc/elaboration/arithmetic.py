"""The language's arithmetic on plain values, bounded so that no expression takes long or grows without end."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnc.diagnostics import CnnError, Span
from cnnc.elaboration.scaling import round8
from cnnc.elaboration.values import Count, Layer, Tensor
from cnnc.language import syntax
from cnnc.ops import format_shape

LARGEST = 10**40
_Function = Callable[..., Any]
_BINARY: Mapping[str, _Function] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FUNCTIONS: Mapping[str, tuple[_Function, int, int]] = {
    "min": (lambda *values: min(values), 1, 99),
    "max": (lambda *values: max(values), 1, 99),
    "round": (round, 1, 1),
    "floor": (math.floor, 1, 1),
    "ceil": (math.ceil, 1, 1),
    "abs": (abs, 1, 1),
    "sqrt": (math.sqrt, 1, 1),
    "log2": (math.log2, 1, 1),
    "round8": (round8, 1, 1),
    "fixed": (Count, 1, 1),
}
"""Functions of numbers, with the fewest and most arguments they take."""


def is_number(value: object) -> bool:
    """Whether a value is a number; truth values are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def type_name(value: object) -> str:
    """The name of a value's type, in the words of the manual."""
    names = {bool: "a truth value", int: "a whole number", Count: "a whole number", float: "a fraction"}
    names |= {str: "a string", tuple: "dims", list: "a list", Layer: "a layer", Tensor: "a tensor"}
    return names[type(value)]


def write_value(value: object) -> str:
    """A value exactly as the language writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(write_value, value))}]"
    if isinstance(value, str):
        return f'"{value}"'
    return repr(int(value)) if isinstance(value, int) else repr(value)


def show_value(value: object) -> str:
    """A value in a few words, for a message: long ones in part."""
    match value:
        case list():
            shown = ["[...]" if isinstance(item, list) else show_value(item) for item in value[:_MOST_SHOWN]]
            shown += ["..."] * (len(value) > _MOST_SHOWN)
            text = f"[{', '.join(shown)}]"
        case tuple():
            text = "x".join(map(str, value))
        case Layer():
            text = " ".join(value.expression.span.text.split())
        case Tensor():
            text = format_shape(value.shape)
        case float() if len(repr(value)) > 8:
            text = f"{value:.6g}"
        case _:
            text = write_value(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


_MOST_SHOWN = 8
_LONGEST_SHOWN = 60


def are_equal(left: Any, right: Any) -> bool:
    """Equality; dims equal a number when every axis does (`stride != 1`)."""
    if isinstance(left, tuple) and is_number(right):
        return all(size == right for size in left)
    if isinstance(right, tuple) and is_number(left):
        return are_equal(right, left)
    return bool(left == right)


def binary(symbol: str, left: Any, right: Any, span: Span) -> Any:
    """`left symbol right`. Raises CnnError for other types than numbers, division by zero, numbers too large."""
    if symbol in ("==", "!="):
        for value in (left, right):
            if not _is_comparable(value):
                message = f"`{symbol}` does not compare {type_name(value)}, `{show_value(value)}`"
                raise CnnError.of("type", message, span)
        return are_equal(left, right) == (symbol == "==")
    for value in (left, right):
        if not is_number(value):
            message = f"`{symbol}` works on numbers, but `{show_value(value)}` is {type_name(value)}"
            raise CnnError.of("type", message, span)
    try:
        result = _compute(symbol, left, right, span)
    except ZeroDivisionError:
        raise CnnError.of("value", "division by zero", span) from None
    except OverflowError:
        raise _too_large(span) from None
    return _kept(_bounded(result, span), left, right)


def _is_comparable(value: object) -> bool:
    parts = value if isinstance(value, list) else [value]
    return not any(isinstance(part, Layer | Tensor | list) for part in parts)


def _compute(symbol: str, left: Any, right: Any, span: Span) -> Any:
    if symbol == "^":
        if abs(left) > 1 and abs(right) * math.log10(abs(left)) > 41:
            raise _too_large(span)
        if left == 0 and right < 0:
            raise ZeroDivisionError
        return left**right
    if symbol == "/":
        exact = isinstance(left, int) and isinstance(right, int) and right and left % right == 0
        return left // right if exact else left / right
    return _BINARY[symbol](left, right)


def negated(value: Any, span: Span) -> Any:
    """`-value`."""
    if not is_number(value):
        raise CnnError.of("type", f"`-` works on numbers, but `{show_value(value)}` is {type_name(value)}", span)
    return _kept(-value, value)


def call(name: str, values: list[Any], span: Span) -> Any:
    """A function of numbers. `check_count` has seen to how many."""
    function, _, _ = FUNCTIONS[name]
    for value in values:
        if not is_number(value):
            message = f"`{name}` works on numbers, but `{show_value(value)}` is {type_name(value)}"
            raise CnnError.of("type", message, span)
    if name == "fixed" and not isinstance(values[0], int):
        raise CnnError.of("type", f"`fixed` keeps a whole number from scaling, but {values[0]} is not one", span)
    try:
        return _kept(_bounded(function(*values), span), *values)
    except (ValueError, OverflowError):
        raise CnnError.of("value", f"`{name}` is not defined for {', '.join(map(show_value, values))}", span) from None


def check_count(name: str, arguments: Sequence[syntax.Argument], span: Span) -> None:
    """Raises CnnError("argument") when a function of numbers is given too few, too many, or some by name."""
    _, fewest, most = FUNCTIONS[name]
    if not fewest <= len(arguments) <= most:
        wanted = "one number" if most == 1 else f"{fewest} to {most} numbers"
        given = f"{len(arguments) or 'none'} {'is' if len(arguments) < 2 else 'are'} given"
        raise CnnError.of("argument", f"`{name}` takes {wanted}, but {given}", span)
    for argument in arguments:
        if argument.name is not None:
            raise CnnError.of("argument", f"`{name}` takes its numbers without names", argument.span)


def _kept(result: Any, *sources: Any) -> Any:
    """The result as a `Count` where a scaled number went into it, so that it is not scaled again."""
    whole = isinstance(result, int) and not isinstance(result, bool)
    return Count(result) if whole and any(isinstance(s, Count) for s in sources) else result


def _bounded(result: Any, span: Span) -> Any:
    if isinstance(result, complex):
        raise CnnError.of("value", "a root of a negative number", span)
    if isinstance(result, int) and abs(result) > LARGEST:
        raise _too_large(span)
    if isinstance(result, float) and not math.isfinite(result):
        raise _too_large(span)
    return result


def _too_large(span: Span) -> CnnError:
    return CnnError.of("limit", "a number beyond the language's limit of 40 digits", span)
