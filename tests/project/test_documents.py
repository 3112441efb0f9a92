"""JSON and YAML that others wrote: what is no plain value, or would need much to be read, is a message."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from cnnc.documents import BadDocument, is_of, parse_json, parse_yaml, typed
from cnnc.overrides import Overrides

DEEP = 20_000


def test_plain_documents_are_read() -> None:
    assert parse_json('{"a": [1, 2.5, null, "x"], "b": {"c": true}}') == {"a": [1, 2.5, None, "x"], "b": {"c": True}}
    assert parse_yaml("a: [1, 2.5, null, x]\nb: {c: true}\n") == {"a": [1, 2.5, None, "x"], "b": {"c": True}}


@pytest.mark.fault("S9")
@pytest.mark.parametrize(
    "text",
    [
        "[" * DEEP,
        "[" * DEEP + "]" * DEEP,
        "[" * 101 + "]" * 101,
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": 1, "a": 2}',
        "9" * 10_000,
        "{",
        "",
        b"\xff\xfe\xfa",
    ],
)
def test_what_is_no_json_is_said(text: str | bytes) -> None:
    with pytest.raises(BadDocument):
        parse_json(text)


@pytest.mark.fault("S9")
@pytest.mark.parametrize(
    "text",
    [
        "[" * DEEP,
        "[" * DEEP + "]" * DEEP,
        "- " * DEEP,
        "a: &a [1]\nb: *a\n",
        "!!python/object/apply:os.getcwd []",
        "!!timestamp x",
        "!!bool maybe",
        "2001-99-99",
        "0x_",
        "? [a]\n: b",
        "a: b: c",
        "\x00",
    ],
)
def test_what_is_no_plain_yaml_is_said(text: str) -> None:
    with pytest.raises(BadDocument):
        parse_yaml(text)


@pytest.mark.fault("S9")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": "evil"}, "`width` cannot be `evil`"),
        ({"width": True}, "`width` cannot be `True`"),
        ({"settings": [["a", 1]]}, "`settings` cannot be"),
        ({"input": [[None, ["8", 8]]]}, "`input` cannot be"),
        ({"input": 3}, "`input` cannot be"),
        ({"heights": 1}, "`heights` is unknown"),
        ({3: 1}, "`3` is unknown"),
    ],
)
def test_values_of_another_type_are_said(values: dict[Any, Any], message: str) -> None:
    with pytest.raises(BadDocument, match=message):
        typed(Overrides, values)


def test_values_of_the_type_make_the_dataclass() -> None:
    found = typed(Overrides, {"width": 1, "input": [[None, [8, 8, 3]]], "settings": [["classes", "10"]]})
    assert found == Overrides(width=1, input=((None, (8, 8, 3)),), settings=(("classes", "10"),))


def test_choices_are_told_by_type_and_value() -> None:
    assert is_of("a", Literal["a", "b"])
    assert not is_of("c", Literal["a", "b"])
    assert not is_of(True, Literal[1])
