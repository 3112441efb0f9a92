"""JSON and YAML that others may have written: plain values of bounded depth, and dataclasses made of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from math import isfinite
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

MOST_DEPTH: Final = 100
"""Lists and mappings lie within each other this deep at most: what goes through them may recurse."""

T = TypeVar("T")


class BadDocument(ValueError):
    """A text that is not read, and why."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text as RFC 8259 has it: numbers are finite, and no name is there twice.

    Raises:
        BadDocument: it is no such text, or deeper than `MOST_DEPTH`.
    """
    try:
        value = json.loads(text, object_pairs_hook=_distinct, parse_constant=_constant, parse_float=_finite)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # JSON's own, UnicodeDecodeError, a whole number of too many digits
        raise BadDocument(" ".join(str(error).split())) from error
    _require_flat(value)
    return value


def parse_yaml(text: str) -> Any:
    """The value of a YAML text without tags and aliases, which no file of ours has.

    Raises:
        BadDocument: it is no such text, or deeper than `MOST_DEPTH`.
    """
    import yaml

    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_DEPTH:
                raise _too_deep()
            if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
                raise BadDocument("it has a tag or an alias, which are not read")
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # a date or a number that is none
        raise BadDocument(" ".join(str(error).split())[:200]) from error


def typed(kind: type[T], values: Mapping[Any, Any]) -> T:
    """A dataclass of values by field; lists become tuples, and fields with a default may be left out.

    Raises:
        BadDocument: a field is unknown, lacking, or has a value of another type than its annotation says.
    """
    hints = get_type_hints(kind, include_extras=True)
    wanted = {each.name: hints[each.name] for each in fields(kind) if each.init}  # type: ignore[arg-type]  # a dataclass
    if unknown := [str(name) for name in values if name not in wanted]:
        raise BadDocument(f"`{unknown[0]}` is unknown")
    frozen = {name: _frozen(value) for name, value in values.items()}
    for name, value in frozen.items():
        if not is_of(value, wanted[name]):
            raise BadDocument(f"`{name}` cannot be `{str(values[name])[:60]}`")
    try:
        return kind(**frozen)
    except TypeError as error:
        lacking = [name for name in wanted if name not in values and not hasattr(kind, name)]
        raise BadDocument(f"`{lacking[0]}` is missing" if lacking else str(error)) from error


def is_of(value: Any, annotation: Any) -> bool:
    """Whether a value is what an annotation says; a whole number is a float, and a truth value is no number."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return True
    if origin is Annotated:
        return is_of(value, arguments[0])
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin in (Union, UnionType):
        return any(is_of(value, each) for each in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        each = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return len(each) == len(value) and all(map(is_of, value, each))
    if annotation in (int, float):
        return isinstance(value, (int, float) if annotation is float else int) and not isinstance(value, bool)
    if annotation is None:
        return value is None
    return isinstance(value, origin or annotation)


def _frozen(value: Any) -> Any:
    """Lists as tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise BadDocument(
            f"the name `{next(name for name, count in Counter(names).items() if count > 1)}` appears twice"
        )
    return found


def _constant(word: str) -> Any:
    raise BadDocument(f"`{word}` is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise BadDocument(f"`{text}` is too large a number")
    return number


def _require_flat(value: Any) -> None:
    level = _containers([value])
    for _ in range(MOST_DEPTH):
        level = [inner for each in level for inner in _containers(each.values() if isinstance(each, dict) else each)]
    if level:
        raise _too_deep()


def _containers(values: Iterable[Any]) -> list[Any]:
    return [each for each in values if isinstance(each, dict | list)]


def _too_deep() -> BadDocument:
    return BadDocument(f"its lists and mappings are nested more than {MOST_DEPTH} deep")
