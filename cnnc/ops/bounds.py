"""The ranges of attributes: each function raises OpError, of code `value` unless it says another, for one outside."""

from __future__ import annotations

from cnnc.ops.base import Op, OpError


def require_at_least(op: Op, minimum: int, *attributes: str) -> None:
    """Every number of the attributes is `minimum` or more; an attribute that is None or a word is left alone."""
    for attribute in attributes:
        value = getattr(op, attribute)
        if any(number < minimum for number in _numbers(value)):
            raise OpError(
                f"`{attribute}` must be at least {minimum}, but is {_format(value)}", code="value", attribute=attribute
            )


def require_positive(op: Op, *attributes: str) -> None:
    """Every number of the attributes is above zero."""
    for attribute in attributes:
        value = getattr(op, attribute)
        if any(number <= 0 for number in _numbers(value)):
            raise OpError(f"`{attribute}` must be above 0, but is {_format(value)}", code="value", attribute=attribute)


def require_rate(op: Op, attribute: str) -> None:
    """The attribute is a probability from 0 up to, not including, 1."""
    value = getattr(op, attribute)
    if not 0 <= value < 1:
        raise OpError(
            f"`{attribute}` must be from 0 up to, not including, 1, but is {value}", code="value", attribute=attribute
        )


def require_groups(channels: int, groups: int) -> None:
    """The channels of an input split into equal groups; else the error is of code `shape`."""
    if channels % groups:
        raise OpError(
            f"{channels} channels do not split into {groups} groups",
            attribute="groups",
            help=f"groups={largest_divisor(channels, groups)}",
        )


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number that is at most `limit`, among those up to 1024: a suggestion, found at once."""
    return next(n for n in range(min(number, limit, 1024), 0, -1) if number % n == 0)


def _numbers(value: object) -> list[float]:
    if isinstance(value, (int, float)):
        return [value]
    return [number for part in value for number in _numbers(part)] if isinstance(value, tuple) else []


def _format(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
