"""Distances between names of layers: an order where numbers count, nearness, and whether a layer is a shortcut.

Names are trees: `layer3.0.conv2` is the second convolution of the first block of the third stage. Only siblings that
differ by a number have an order; which of `branch1x1` and `branch5x5` runs first, a name does not say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_SHORTCUTS: Final = frozenset({"downsample", "shortcut", "skip", "identity", "sc", "skipconv"})


@dataclass(frozen=True)
class Token:
    """A part of a name between points: `Mixed_5b` has `Mixed` and `5b`, the latter of number 5 and rest `b`."""

    stem: str
    number: int | None
    rest: str


def tokens(name: str) -> tuple[Token, ...]:
    """The parts of a name, outermost first."""
    found = []
    for part in re.split(r"[./_:]+", name):
        match = re.fullmatch(r"(\D*)(\d{0,9})(.*)", part, re.DOTALL)
        assert match is not None, part
        if part:
            found.append(Token(match[1].lower(), int(match[2]) if match[2] else None, match[3].lower()))
    return tuple(found)


def is_before(first: tuple[Token, ...], second: tuple[Token, ...]) -> bool:
    """Whether numbers say that a layer comes before another: `block2` before `block10`, `conv` before `conv_1`."""
    for own, other in zip(first, second, strict=False):
        if own == other:
            continue
        if own.stem != other.stem:
            return False
        if own.number == other.number:
            return own.number is not None and len(own.rest) <= 1 and len(other.rest) == 1 and own.rest < other.rest
        if own.rest != other.rest and max(len(own.rest), len(other.rest)) > 1:
            return False
        return (-1 if own.number is None else own.number) < (-1 if other.number is None else other.number)
    more = second[len(first) :]
    return len(first) < len(second) and len(more) == 1 and more[0].stem == "" and more[0].number is not None


def distance(first: tuple[Token, ...], second: tuple[Token, ...]) -> float:
    """Steps from one name to the other in the tree; a little less between siblings that only a number tells apart."""
    common = 0
    for own, other in zip(first, second, strict=False):
        if own != other:
            break
        common += 1
    steps = len(first) + len(second) - 2 * common
    alike = common < min(len(first), len(second)) and "" != first[common].stem == second[common].stem
    return steps - 0.5 * alike


def is_shortcut(name: tuple[Token, ...]) -> bool:
    """Whether a name says that its layer is on the short way of a residual block."""
    return any(token.stem in _SHORTCUTS for token in name)


def is_pooled(name: tuple[Token, ...]) -> bool:
    """Whether a name says that its layer follows a pool on the same branch, as in Inception's blocks."""
    return any("pool" in (token.stem, token.rest) for token in name)
