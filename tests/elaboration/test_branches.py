"""Idea 5 of the language: branches side by side, and results joined by name."""

from __future__ import annotations

import pytest

from tests.support.networks_of_texts import PICTURE, channels, edges, names, network, operators, shape


@pytest.mark.parametrize("merge", ["add", "mul", "concat"])
def test_branches_all_read_the_same_input(merge: str) -> None:
    text = PICTURE + f"relu | {merge} {{\n conv(3, 3)\n tanh | sigmoid\n}} | bn"
    assert edges(text) == {
        "relu1": ("input",),
        "conv1": ("relu1",),
        "tanh1": ("relu1",),
        "sigmoid1": ("tanh1",),
        f"{merge}1": ("conv1", "sigmoid1"),
        "bn1": (f"{merge}1",),
    }


def test_add_keeps_the_shape_and_concat_adds_up_channels() -> None:
    assert shape(PICTURE + "add {\n conv(3, 8)\n conv(1, 8)\n}") == (8, 8, 8)
    assert shape(PICTURE + "concat {\n conv(3, 8)\n conv(1, 4)\n identity\n}") == (8, 8, 8 + 4 + 3)


def test_mul_spreads_axes_of_one() -> None:
    assert shape(PICTURE + "mul {\n identity\n globalpool(keepdims=true) | sigmoid\n}") == (8, 8, 3)


def test_identity_is_the_empty_branch() -> None:
    assert edges(PICTURE + "tanh | add {\n relu\n identity\n}")["add1"] == ("relu1", "tanh1")


@pytest.mark.parametrize(("test", "inputs"), [("1 == 1", ("relu1", "tanh1", "input")), ("1 == 2", ("relu1", "tanh1"))])
def test_identity_if_is_there_only_when_true(test: str, inputs: tuple[str, ...]) -> None:
    assert edges(PICTURE + f"add {{\n relu\n tanh\n identity if {test}\n}}")["add1"] == inputs


def test_any_branch_may_have_a_condition() -> None:
    assert operators(PICTURE + "add {\n relu\n conv(3, 3) | bn if false\n identity\n}") == ["relu", "add"]
    assert operators(PICTURE + "add {\n relu if false else tanh\n identity\n}") == ["tanh", "add"]


def test_one_branch_that_is_left_needs_no_merge() -> None:
    assert operators(PICTURE + "add {\n conv(3, 8)\n identity if in.channels == 8\n}\nrelu") == ["conv", "relu"]


def test_a_branch_may_start_from_a_label() -> None:
    text = PICTURE + "stem: conv(3, 4)\nrelu | concat {\n stem | maxpool(3, stride=1)\n stem\n tanh\n}"
    assert edges(text)["maxpool1"] == ("stem",)
    assert edges(text)["concat1"] == ("maxpool1", "stem", "tanh1")


def test_branches_stand_anywhere_in_a_pipeline_and_nest() -> None:
    text = PICTURE + "conv(3, 4) | add {\n relu | concat {\n conv(1, 2)\n conv(3, 2)\n }\n identity\n} | relu"
    assert operators(text) == ["conv", "relu", "conv", "conv", "concat", "add", "relu"]


def test_branches_repeat_as_a_residual_tower() -> None:
    text = PICTURE + "tower: 2 x (add {\n conv(3, 3) | bn\n identity\n} | relu)"
    assert edges(text)["tower.1.add1"] == ("tower.1.bn1", "tower.0.relu1")
    assert names(PICTURE + "tower: 2 x add {\n relu\n identity\n}") == [
        "tower.0.relu1",
        "tower.0",
        "tower.1.relu1",
        "tower.1",
    ]


def test_braces_may_share_lines() -> None:
    assert operators(PICTURE + "add { relu\n identity }") == ["relu", "add"]
    assert operators(PICTURE + "add {\n\n relu  # one\n\n # two\n identity\n\n}") == ["relu", "add"]


def test_a_long_branch_goes_on_in_the_next_line() -> None:
    text = PICTURE + "add {\n conv(1, 4)\n | relu\n | conv(1, 3)\n identity\n}"
    assert operators(text) == ["conv", "relu", "conv", "add"]


@pytest.mark.parametrize("merge", ["add", "mul", "concat"])
def test_named_results_are_joined_by_a_call(merge: str) -> None:
    text = PICTURE + f"a: relu\nb: a | tanh\nc: sigmoid\n{merge}(a, b, c)"
    assert edges(text)[f"{merge}1"] == ("a", "b", "c")


def test_a_call_may_join_pipelines_too() -> None:
    text = PICTURE + "a: conv(3, 3)\nb: add(a | relu, in | tanh) | bn"
    assert edges(text) == {
        "a": ("input",),
        "b.relu1": ("a",),
        "b.tanh1": ("input",),
        "b.add1": ("b.relu1", "b.tanh1"),
        "b.bn1": ("b.add1",),
    }


def test_a_call_that_joins_may_be_labelled_and_be_a_branch() -> None:
    assert names(PICTURE + "a: relu\nb: tanh\nboth: add(a, b)") == ["a", "b", "both"]
    assert edges(PICTURE + "a: relu\nb: tanh\nmul {\n add(a, b)\n sigmoid\n}")["mul1"] == ("add1", "sigmoid1")


def test_a_branchs_label_is_known_afterwards() -> None:
    text = PICTURE + "x1: add {\n left: relu\n identity\n}\nconcat(x1, left)"
    assert edges(text)["concat1"] == ("x1", "x1.left")


def test_squeeze_and_excite_is_three_lines() -> None:
    """Hu et al. 2018, figure 2, against the prelude's block of the same."""
    own = "mul {\n identity\n globalpool(keepdims=true) | conv(1, 2) | relu | conv(1, 8) | sigmoid\n}"
    assert operators(PICTURE + "conv(3, 8)\n" + own) == operators(PICTURE + "conv(3, 8)\nse(2)")
    assert channels(PICTURE + "conv(3, 8)\n" + own) == channels(PICTURE + "conv(3, 8)\nse(2)")


def test_an_inception_block_has_the_papers_width() -> None:
    """Szegedy et al. 2015, table 1, inception (3a): 64 + 128 + 32 + 32 channels from 192, 163,696 parameters.

    The paper's table says 159K; with biases the sum below is exact arithmetic.
    """
    text = """input 28x28x192
    concat {
      conv(1x1, 64) | relu
      conv(1x1, 96) | relu | conv(3x3, 128) | relu
      conv(1x1, 16) | relu | conv(5x5, 32) | relu
      maxpool(3x3, stride=1) | conv(1x1, 32) | relu
    }"""
    assert shape(text) == (28, 28, 256)
    sizes = [(1, 192, 64), (1, 192, 96), (9, 96, 128), (1, 192, 16), (25, 16, 32), (1, 192, 32)]
    assert network(text).graph.trainable_count == sum(taps * i * o + o for taps, i, o in sizes)
