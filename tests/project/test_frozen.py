"""The project's frozen dataclasses behave as the standard library's."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import pytest

from cnnc.frozen import dataclass as ours


def _zoo(dataclass: Callable[..., Any]) -> dict[str, Any]:
    @dataclass(frozen=True)
    class Base:
        """Without fields."""

        names: ClassVar[tuple[str, ...]] = ("base",)

    class Plain(Base):
        """Not decorated itself."""

    @dataclass(frozen=True)
    class One(Base):
        size: int

    @dataclass(frozen=True)
    class Many(One):
        kernel: tuple[int, ...] = (1,)
        parts: list[int] = field(default_factory=list)
        note: str = field(default="", compare=False, repr=False)

        def __post_init__(self) -> None:
            assert self.size >= 0, self.size

        @cached_property
        def area(self) -> int:
            return self.size * self.size

    return {"Base": Base, "Plain": Plain, "One": One, "Many": Many}


STANDARD: Mapping[str, Any] = _zoo(dataclasses.dataclass)
OURS: Mapping[str, Any] = _zoo(ours)
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("Base", (), {}),
    ("Plain", (), {}),
    ("One", (3,), {}),
    ("One", (), {"size": 3}),
    ("Many", (3,), {}),
    ("Many", (3, (2, 2)), {"note": "x"}),
    ("Many", (), {"size": 1, "parts": [1]}),
    ("Many", (1, (1,), [1], "other"), {}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS)
def test_instances_have_the_same_fields_and_text(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    one, two = STANDARD[name](*args, **kwargs), OURS[name](*args, **kwargs)
    assert vars(one) == vars(two)
    assert repr(one).rpartition(".")[2] == repr(two).rpartition(".")[2]
    assert [f.name for f in fields(one)] == [f.name for f in fields(two)]
    assert type(one).__match_args__ == type(two).__match_args__


def test_equality_is_the_same_for_every_pair() -> None:
    pairs = [(a, b) for a in CALLS for b in CALLS]
    for (a, args, kwargs), (b, others, named) in pairs:
        standard = STANDARD[a](*args, **kwargs) == STANDARD[b](*others, **named)
        assert (OURS[a](*args, **kwargs) == OURS[b](*others, **named)) is standard


def test_equal_instances_have_equal_hashes() -> None:
    assert hash(OURS["One"](3)) == hash(OURS["One"](size=3))
    assert len({OURS["One"](3), OURS["One"](3), OURS["One"](4)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(OURS["Many"](3))


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [("One", (), {}), ("One", (1, 2), {}), ("One", (1,), {"other": 2}), ("One", (1,), {"size": 1}), ("Base", (1,), {})],
)
def test_wrong_arguments_are_refused_alike(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    messages = []
    for zoo in (STANDARD, OURS):
        with pytest.raises(TypeError) as raised:
            zoo[name](*args, **kwargs)
        messages.append(str(raised.value).replace(zoo[name].__qualname__, name))
    assert messages[0] == messages[1]


def test_nothing_can_be_assigned_or_deleted() -> None:
    each = OURS["Many"](3)
    with pytest.raises(FrozenInstanceError, match="size"):
        each.size = 4
    with pytest.raises(FrozenInstanceError, match="new"):
        each.new = 4
    with pytest.raises(FrozenInstanceError, match="size"):
        del each.size
    assert each.size == 3


def test_every_instance_has_a_default_of_its_own() -> None:
    one, two = OURS["Many"](3), OURS["Many"](3)
    one.parts.append(1)
    assert two.parts == []


def test_replace_copy_and_cached_properties_work() -> None:
    each = OURS["Many"](3, note="kept")
    changed = replace(each, size=4)
    assert (changed.size, changed.note, changed.area) == (4, "kept", 16)
    assert copy.deepcopy(each) == each
    with pytest.raises(AssertionError, match="-1"):
        replace(each, size=-1)


def test_the_signature_is_told_once_an_instance_was_made() -> None:
    OURS["Many"](3)
    assert [*inspect.signature(OURS["Many"]).parameters] == ["size", "kernel", "parts", "note"]


def test_methods_of_ones_own_stay() -> None:
    @ours(frozen=True)
    class Own:
        size: int

        def __repr__(self) -> str:
            return "own"

        def __hash__(self) -> int:
            return 7

    assert repr(Own(1)) == "own"
    assert hash(Own(1)) == 7
    assert Own(1) == Own(1)


@pytest.mark.parametrize("dataclass", [ours, dataclasses.dataclass])
def test_what_follows_the_fields_is_run(dataclass: Any) -> None:
    @dataclass(frozen=True)
    class Even:
        number: int

        def __post_init__(self) -> None:
            assert self.number % 2 == 0, self.number

    assert Even(2).number == 2
    with pytest.raises(AssertionError):
        Even(3)
