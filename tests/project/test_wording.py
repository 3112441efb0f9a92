"""Numbers within sentences: one is not many, and what is all the same goes from nowhere to nowhere."""

from __future__ import annotations

from cnnc.wording import extent, number_of, quoted


def test_a_count_has_the_number_of_its_noun() -> None:
    assert [number_of(count, "label") for count in (0, 1, 2, 1234)] == [
        "0 labels",
        "1 label",
        "2 labels",
        "1,234 labels",
    ]
    assert [number_of(count, "class") for count in (1, 2)] == ["1 class", "2 classes"]


def test_values_that_are_written_alike_are_all_the_same() -> None:
    assert extent(-1, 3) == "goes from -1 to 3"
    assert extent(-1, 3, plural=True) == "go from -1 to 3"
    assert extent(7.0001, 7.0002, ".3g") == "is 7 throughout"
    assert extent(7, 7, plural=True) == "are all 7"


def test_a_list_of_names_says_how_many_it_leaves_out() -> None:
    assert quoted(["a", "b"]) == quoted(["a", "b"], 2) == "`a`, `b`"
    assert quoted(iter("abcde"), 2) == "`a`, `b` and 3 more"
    assert quoted([]) == ""
