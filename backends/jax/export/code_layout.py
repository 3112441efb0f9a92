"""Lays written Python out as `ruff format` does, so that a written module is not changed by it.

It keeps to ruff's default width. What is too long for a line is written one part a line, each with a comma behind.
"""

from __future__ import annotations

from collections.abc import Iterator

WIDTH = 88
_INDENT = "    "
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def lay_out(code: str, depth: int, comment: str = "") -> list[str]:
    """The lines of a statement, `depth` levels deep, with a comment behind it or, for want of room, before it."""
    indent = _INDENT * depth
    behind = f"  # {comment}" if comment else ""
    if len(indent + code + behind) <= WIDTH:
        return [indent + code + behind]
    above = [f"{indent}# {comment}"] if comment else []
    if len(indent + code) <= WIDTH:
        return [*above, indent + code]
    return [*above, *_split(code, indent)]


def _split(code: str, indent: str) -> list[str]:
    """A statement that is too long, over several lines."""
    if len(indent + code) <= WIDTH:
        return [indent + code]
    bracket = _outermost(code)
    if bracket is None:
        return _split_sum(code, indent)
    start, end = bracket
    parts = [part.strip() for part in _parts(code[start + 1 : end])]
    inner = [line for part in parts if part for line in _split(f"{part},", indent + _INDENT)]
    return [indent + code[: start + 1], *inner, indent + code[end:]]


def _split_sum(code: str, indent: str) -> list[str]:
    """`target = a + b`, whose operands stand in parentheses: in one line where that is enough."""
    target, equals, value = code.partition(" = ")
    if not equals:
        return [indent + code]
    inner = indent + _INDENT
    for operator in "+-*@":
        first, *rest = value.split(f" {operator} ")
        if rest:
            lines = [inner + value] if len(inner + value) <= WIDTH else [inner + first]
            lines += [] if len(inner + value) <= WIDTH else [f"{inner}{operator} {operand}" for operand in rest]
            return [f"{indent}{target} = (", *lines, f"{indent})"]
    return [indent + code]


def _outermost(code: str) -> tuple[int, int] | None:
    """Where the bracket opens and closes that can be split: the last one outside all others that is not empty.

    A bracket with an operator before it, or one that subscripts, is left alone.
    """
    found: tuple[int, int] | None = None
    depth, opened = 0, 0
    for place, character in _outside_strings(code):
        if character in _PAIRS:
            if depth == 0:
                opened = place
            depth += 1
        elif character in _PAIRS.values():
            depth -= 1
            if depth == 0 and place > opened + 1 and code[opened] != "[":
                found = (opened, place)
    return found


def _parts(code: str) -> Iterator[str]:
    """The text between commas that stand in no bracket."""
    depth = start = 0
    for place, character in _outside_strings(code):
        depth += (character in _PAIRS) - (character in _PAIRS.values())
        if character == "," and depth == 0:
            yield code[start:place]
            start = place + 1
    yield code[start:]


def _outside_strings(code: str) -> Iterator[tuple[int, str]]:
    """The characters that are in no string, and their places."""
    inside = False
    for place, character in enumerate(code):
        if character == '"' and (place == 0 or code[place - 1] != "\\"):
            inside = not inside
        elif not inside:
            yield place, character
