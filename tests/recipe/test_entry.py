"""Ranges of numbers: what lies in them, and what is said of what does not."""

from __future__ import annotations

from math import inf, nan

import pytest

from cnnc.recipe import Adam, Cosine, Entry, Mixup, OutOfRange
from cnnc.recipe.entry import FRACTION, NOT_NEGATIVE, OPEN_UNIT, POSITIVE, SHARE, UNIT, Range


@pytest.mark.parametrize(
    ("range", "inside", "outside", "words"),
    [
        (UNIT, (0, 0.5, 1), (-1e-9, 1.001, inf, nan), "be from 0 to 1"),
        (FRACTION, (0, 0.999), (-1e-9, 1, nan), "be from 0 up to 1"),
        (SHARE, (1e-9, 1), (0, 1.001, nan), "be above 0 and at most 1"),
        (OPEN_UNIT, (1e-9, 0.999), (0, 1, nan), "be above 0 and below 1"),
        (POSITIVE, (1e-9, 1e300), (0, -1, inf, nan), "be above 0"),
        (NOT_NEGATIVE, (0, 1e300), (-1e-9, inf, nan), "not be negative"),
        (Range(0, 0.5), (0, 0.5), (0.501,), "be from 0 to 0.5"),
        (Range(2), (2, 3), (1, inf), "be at least 2"),
    ],
)
def test_ranges(range: Range, inside: tuple[float, ...], outside: tuple[float, ...], words: str) -> None:
    assert all(number in range for number in inside)
    assert not any(number in range for number in outside)
    assert str(range) == words


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Adam(weight_decay=-1.0), "`weight_decay` must not be negative"),
        (Adam(weight_decay=inf), "`weight_decay` must be finite"),
        (Cosine(floor=inf), "`floor` must be from 0 to 1"),
        (Mixup(alpha=0.0), "`alpha` must be above 0 and at most 100"),
    ],
)
def test_a_field_outside_its_range_is_refused(entry: Entry, words: str) -> None:
    with pytest.raises(OutOfRange) as error:
        entry.validate()
    assert error.value.message == words
