"""Ideas 1 and 2 of the language: lines are pipelines, names are values; and what a file may look like."""

from __future__ import annotations

import pytest

import cnnc
from tests.support.networks_of_texts import PICTURE, attributes, channels, edges, names, network, operators, shape


def test_a_line_is_a_pipeline() -> None:
    assert operators(PICTURE + "conv(3, 8) | bn | relu | maxpool(2)") == ["conv", "bn", "relu", "maxpool"]


def test_a_line_continues_from_the_line_above_it() -> None:
    assert edges(PICTURE + "conv(3, 8)\nrelu\nflatten") == {
        "conv1": ("input",),
        "relu1": ("conv1",),
        "flatten1": ("relu1",),
    }


@pytest.mark.parametrize(
    "text",
    [
        "stem: conv(3, 8) | bn | relu",
        "stem: conv(3, 8)\n  | bn\n  | relu",
        "stem: conv(3, 8) |\n bn |\n relu",
        "stem:\tconv(3, 8)\t| bn\r\n\r\n  # the activation comes last\n\n  | relu  # and nothing else",
        "stem: conv(\n  3,\n  8,  # filters\n) | bn\n| relu",
        "stem: (conv(3, 8)\n  | bn\n  | relu)",
        "stem: conv(3,8)|bn|relu",
    ],
)
def test_a_pipeline_may_be_laid_out_freely(text: str) -> None:
    assert names(PICTURE + text) == ["stem.conv1", "stem.bn1", "stem.relu1"]


def test_a_layer_without_arguments_may_have_empty_parentheses() -> None:
    assert operators(PICTURE + "relu() | bn()") == ["relu", "bn"]


def test_arguments_are_given_by_position_or_by_name() -> None:
    positional = network(PICTURE + "conv(5x3, 8, 2, valid)").graph["conv1"].op
    assert network(PICTURE + "conv(padding=valid, stride=2, filters=8, kernel=5x3)").graph["conv1"].op == positional
    assert network(PICTURE + "conv(5x3, 8, stride=2, padding=valid)").graph["conv1"].op == positional


def test_a_label_is_a_value_and_starts_other_pipelines() -> None:
    text = PICTURE + "stem: conv(3, 8)\na: stem | relu\nb: stem | sigmoid | tanh\nmul(a, b) | dense(2)"
    assert edges(text) == {
        "stem": ("input",),
        "a": ("stem",),
        "b.sigmoid1": ("stem",),
        "b.tanh1": ("b.sigmoid1",),
        "mul1": ("a", "b.tanh1"),
        "dense1": ("mul1",),
    }


def test_a_label_alone_on_a_line_goes_back_to_its_result() -> None:
    text = PICTURE + "a: relu\nb: tanh\na\nc: sigmoid\nadd(b, c)"
    assert edges(text)["c"] == ("a",)


def test_a_label_reaches_over_many_lines_as_in_a_u_net() -> None:
    text = PICTURE + (
        "down: conv(3, 8)\nmaxpool(2) | conv(3, 16)\nup: conv_transpose(2, 8, stride=2)\nconcat(down, up) | conv(1, 2)"
    )
    assert edges(text)["concat1"] == ("down", "up")
    assert shape(text) == (8, 8, 2)


def test_the_input_is_a_value_by_its_name() -> None:
    assert edges("input board 19x19x17\na: conv(3, 17)\nadd(board, a)")["add1"] == ("board", "a")
    assert edges(PICTURE + "a: conv(3, 3)\nadd(input, a)")["add1"] == ("input", "a")


def test_in_is_the_input_in_the_body_of_a_model() -> None:
    assert edges(PICTURE + "a: conv(3, 3)\nadd(a, in)")["add1"] == ("a", "input")


def test_a_layer_may_be_named_like_the_keyword_x() -> None:
    assert edges(PICTURE + "x: conv(3, 8)\nx | relu") == {"x": ("input",), "relu1": ("x",)}
    assert channels(PICTURE + "x = 4\n2 x conv(3, x)") == [4, 4]


def test_a_file_of_bare_lines_is_a_model() -> None:
    net = cnnc.load_text("input 28x28x1\nflatten | dense(10)", name="tiny.cnn")
    assert net.name == "tiny"
    assert net.graph.trainable_count == 784 * 10 + 10


def test_bare_lines_may_have_blocks_a_train_section_and_budgets_beside_them() -> None:
    text = "input 28x28x1\nhalve(8)\nblock halve(f: channels) { conv(3, f, stride=2) }\ntrain { epochs 3 }\n"
    net = network(text + "expect params = 80")
    assert net.graph.trainable_count == 3 * 3 * 8 + 8
    assert net.recipe.epochs == 3


def test_the_line_of_the_projects_card_is_a_spec() -> None:
    """ResNet-50's stages on 224x224x3. By He et al. 2015, table 1: 3-4-6-3 bottlenecks, 64 to 512 wide, times 4."""
    graph = network("resnet: [3,4,6,3] x bottleneck").graph
    assert graph.inputs[0].shape == (224, 224, 3)
    stages = [graph[f"resnet.{stage}.{last}.relu3"].shape for stage, last in enumerate((2, 3, 5, 2))]
    assert stages == [(224, 224, 256), (112, 112, 512), (56, 56, 1024), (28, 28, 2048)]
    assert sum(name.endswith("conv2") for name in graph.by_name) == 16
    # ResNet-50's 25,557,032 less its stem and classifier; the first block reads 3 channels in place of 64, twice.
    stem, head = 7 * 7 * 3 * 64 + 2 * 64, 2048 * 1000 + 1000
    assert graph.trainable_count == 25_557_032 - stem - head - (64 - 3) * (64 + 256)


def test_the_line_of_the_projects_card_takes_basic_blocks_too() -> None:
    graph = network("resnet: [2, 2, 2, 2] x basic").graph
    assert [graph[f"resnet.{stage}.1.relu2"].shape[-1] for stage in range(4)] == [64, 128, 256, 512]


def test_comments_and_blank_lines_mean_nothing() -> None:
    text = "# a comment\n\ninput 8x8x3  # sizes\n\n\n  # another\nrelu # and\n\n"
    assert operators(text) == ["relu"]


@pytest.mark.parametrize("number", ["1_000", "1000", "1_0_0_0"])
def test_digits_may_be_grouped(number: str) -> None:
    assert channels(f"input 4\ndense({number})") == [1000]


@pytest.mark.parametrize("number", ["0.25", ".25", "25e-2", "2.5e-1", "2.5E-1", "1 / 4"])
def test_decimals_are_written_as_everywhere(number: str) -> None:
    assert attributes(f"input 4\ndropout({number})", "rate") == [0.25]
