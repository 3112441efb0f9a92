"""What a prediction tells one by one, and what it only counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from cnnc.backends.edgetpu.prediction import Report, Verdict, check
from cnnc.backends.edgetpu.refusals import Refusal
from cnnc.backends.edgetpu.render import render
from cnnc.backends.edgetpu.warnings import Caution
from cnnc.tflite_file.program import File
from tests.support.tflite_programs import one_operator, tensor

LOGISTIC = one_operator("LOGISTIC", [tensor("x", (1, 8), "INT8", 0.5)], tensor("y", (1, 8), "INT8", 0.5))
SOUND = replace(check(File((LOGISTIC,))), warnings=())


def refused(count: int) -> Report:
    return replace(SOUND, refused=tuple(Refusal(f"fault {i}", "mend it", "a log", i) for i in range(count)))


def left(remedies: Sequence[str]) -> Report:
    verdicts = tuple(
        Verdict(i, "ELU", 1, f"y{i}", False, "known", "not supported", remedy, "a log")
        for i, remedy in enumerate(remedies)
    )
    return replace(SOUND, operators=verdicts)


def doubted(remedies: Sequence[str]) -> Report:
    verdicts = tuple(
        Verdict(i, "ABS", 1, f"y{i}", True, "likely", remedy="mend it", doubt=f"none like {remedy} was shown")
        for i, remedy in enumerate(remedies)
    )
    return replace(SOUND, operators=verdicts)


def warned(count: int) -> Report:
    return replace(SOUND, warnings=tuple(Caution(f"caution {i}", "mend it", i) for i in range(count)))


def letters(count: int) -> list[str]:
    """Words that differ in more than their numbers."""
    return [chr(ord("a") + i) for i in range(count)]


MANY: dict[str, Callable[[int], Report]] = {
    "refused": refused,
    "left on the CPU": lambda count: left(letters(count)),
    "doubted": lambda count: doubted(letters(count)),
    "warned of": warned,
}


@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize(("count", "hidden"), [(19, 0), (20, 0), (21, 1), (23, 3)])
def test_twenty_of_a_kind_are_told_and_the_rest_is_counted(kind: str, count: int, hidden: int) -> None:
    text = render(MANY[kind](count))
    assert text.count("\n  ") == count - hidden
    assert [line for line in text.splitlines() if line.startswith("...")] == [f"... {hidden} more"] * bool(hidden)


@pytest.mark.parametrize("make", [left, doubted])
def test_operators_alike_are_told_once_and_counted(make: Callable[[Sequence[str]], Report]) -> None:
    assert "more like this" not in render(make("ab"))
    text = render(make("aaab"))
    assert text.count("(and 2 more like this)\n") == 1
    assert text.count("more like this") == 1


def test_the_place_of_a_refusal_is_told_where_it_is_an_operator_s() -> None:
    assert "refused: fault 0 (operator 0)\n" in render(refused(1))
    assert "refused: of all\n" in render(replace(SOUND, refused=(Refusal("of all", "mend it", "a log"),)))
