"""Expressions: precedence, the kinds of numbers, truth values, functions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnc.diagnostics import CnnError
from tests.support.networks_of_texts import attributes, channels, operators


def value(expression: str) -> float:
    """What an expression is, as an operator's attribute that takes any number."""
    (found,) = attributes(f"input 1\nelu({expression})", "alpha")
    return float(found)


def whole(expression: str) -> int:
    """What an expression is where a whole number is wanted."""
    (found,) = channels(f"input 1\ndense({expression})")
    return found


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("2 * 3 ^ 2", 18),
        ("2 ^ 3 ^ 2", 512),  # from the right, as in mathematics
        ("-2 ^ 2", -4),
        ("2 ^ -1", 0.5),
        ("10 - 4 - 3", 3),
        ("16 / 4 / 2", 2),
        ("7 // 2", 3),
        ("-7 // 2", -4),
        ("7 % 4", 3),
        ("-3 % 5", 2),
        ("7 / 2", 3.5),
        ("2 * 7 // 3", 4),
        ("1e3", 1000),
        ("min(3, 1, 2)", 1),
        ("max(3, 1, 2)", 3),
        ("round(2.6)", 3),
        ("round(-0.4)", 0),
        ("floor(2.9)", 2),
        ("ceil(2.1)", 3),
        ("floor(-2.1)", -3),
        ("abs(-3)", 3),
        ("sqrt(2)", math.sqrt(2)),
        ("log2(8)", 3),
        ("fixed(3)", 3),
        ("1 if 2 > 1 else 3", 1),
        ("1 if 2 < 1 else 3", 3),
        ("1 if false else 2 if false else 3", 3),
    ],
)
def test_arithmetic(expression: str, wanted: float) -> None:
    assert value(expression) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "expression", ["8 / 2", "8 // 2", "2 ^ 2", "floor(4.5)", "ceil(3.5)", "round(4.2)", "7 % 5 + 2"]
)
def test_what_is_whole_counts(expression: str) -> None:
    """Division of whole numbers that goes up is whole."""
    assert whole(expression) == 4


@pytest.mark.parametrize("expression", ["9 / 2", "4.0", "sqrt(16)", "log2(16)", "8 * 0.5", "2 ^ -1 * 8"])
def test_what_is_not_whole_has_to_be_rounded(expression: str) -> None:
    with pytest.raises(CnnError) as error:
        whole(expression)
    assert error.value.diagnostics[0].code == "type"
    assert whole(f"round({expression})") == 4


@pytest.mark.parametrize(
    ("test", "wanted"),
    [
        ("1 < 2", True),
        ("2 <= 2", True),
        ("2 > 2", False),
        ("2 >= 3", False),
        ("1 == 1.0", True),
        ("1 != 2", True),
        ("not true", False),
        ("not 1 == 2", True),
        ("true or false and false", True),
        ("(true or false) and false", False),
        ("not false and false", False),
        ("1 + 1 == 2 and 2 * 2 == 4", True),
        ("3 == 3x3", True),
        ("3x1 == 3", False),
        ("3x1 == 3x1", True),
        ('"a" == "a"', True),
        ("[1, 2] == [1, 2]", True),
        ("true == false", False),
    ],
)
def test_tests(test: str, wanted: bool) -> None:
    assert operators(f"input 1\nif {test} {{ relu }} else {{ tanh }}") == ["relu" if wanted else "tanh"]


def test_and_and_or_look_at_the_right_side_only_when_they_must() -> None:
    assert operators("input 1\nif false and 1 / 0 == 1 { relu } else { tanh }") == ["tanh"]
    assert operators("input 1\nif true or 1 / 0 == 1 { relu } else { tanh }") == ["relu"]


@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.sampled_from(["+", "-", "*"]))
def test_whole_arithmetic_is_exact(left: int, right: int, operator: str) -> None:
    wanted = {"+": left + right, "-": left - right, "*": left * right}[operator]
    assert value(f"({left}) {operator} ({right})") == wanted


@given(st.integers(-1000, 1000), st.integers(1, 50))
def test_floor_division_and_remainder_belong_together(left: int, right: int) -> None:
    assert value(f"({left}) // {right} * {right} + ({left}) % {right}") == left
    assert 0 <= value(f"({left}) % {right}") < right


@pytest.mark.parametrize(
    "use", ["dense(a)", "dense(a + 1)", "dropout(a)", "a x relu", "dense([a])", "dense(1 if a else 2)"]
)
def test_a_result_is_no_number(use: str) -> None:
    with pytest.raises(CnnError) as error:
        operators(f"input 4\na: relu\n{use}")
    assert [d.code for d in error.value.diagnostics] == ["type"]


@pytest.mark.parametrize(
    "expression",
    [
        "nn",
        "-nn",
        "n * nn",
        "nn + 1",
        "min(n, nn)",
        "max(nn, n)",
        "2 if nn > 1 else 3",
        "nn if n > 1 else 3",
        "2 if n > 1 else nn",
        "min(n, nn if n > 1 else 3)",
        "nn.channels",
        "min(n, nn.channels)",
    ],
)
@pytest.mark.parametrize("body", ["dense({})", "a = {}\n dense(a)", "if ({}) > 2 {{ relu }}"])
def test_a_misspelt_name_is_found_anywhere_in_an_expression_that_is_never_computed(expression: str, body: str) -> None:
    text = f"block b(n=1) {{\n if n > 1 {{\n {body.format(expression)}\n }}\n}}\ninput 3\nrelu"
    with pytest.raises(CnnError) as caught:
        operators(text)
    assert [d.code for d in caught.value.diagnostics] == ["name"]
    assert "`nn`" in caught.value.diagnostics[0].message
