"""Idea 4 of the language: repeats, stages, and one value for each."""

from __future__ import annotations

import pytest

from cnnc import ops as op
from cnnc.ir import Repeat
from tests.support.networks_of_texts import PICTURE, attributes, channels, edges, names, network, operators, ops, shape


def strides(text: str) -> list[int]:
    """The stride of every convolution along its first axis."""
    return [stride[0] for stride in attributes(text, "stride")]


def test_a_number_of_repeats() -> None:
    text = PICTURE + "r: 3 x conv(3, 8)"
    assert edges(text) == {"r.0": ("input",), "r.1": ("r.0",), "r.2": ("r.1",)}


def test_a_list_of_repeats_makes_stages() -> None:
    assert names(PICTURE + "r: [1, 2] x conv(3, 8)") == ["r.0.0", "r.1.0", "r.1.1"]


def test_a_count_may_be_an_expression() -> None:
    assert channels(PICTURE + "n = 2\nn + 1 x conv(1, 4)") == [4] * 3
    assert channels(PICTURE + "n = 2\n(n * 2) x conv(1, 4)") == [4] * 4
    assert channels("model m(counts=[2, 1]) {\n input 8x8x3\n counts x conv(1, [4, 2])\n}") == [4, 4, 2]


@pytest.mark.parametrize("count", ["0", "[]", "[0, 0]"])
def test_no_turns_are_no_layers(count: str) -> None:
    assert operators(PICTURE + f"{count} x conv(1, 4)\nrelu") == ["relu"]


def test_a_list_argument_gives_one_value_a_stage() -> None:
    text = PICTURE + "[2, 1, 2] x conv([3x3, 1, 5], [4, 8, 16], padding=[valid, same, 2])"
    assert channels(text) == [4, 4, 8, 16, 16]
    assert attributes(text, "kernel") == [(3, 3), (3, 3), (1, 1), (5, 5), (5, 5)]
    assert attributes(text, "padding") == ["valid", "valid", "same", ((2, 2), (2, 2)), ((2, 2), (2, 2))]


def test_a_list_argument_gives_one_value_a_repeat() -> None:
    assert channels(PICTURE + "3 x conv(3, [4, 8, 16])") == [4, 8, 16]
    assert ops(PICTURE + "2 x leaky_relu([0.1, 0.2])") == [op.LeakyRelu(0.1), op.LeakyRelu(0.2)]


def test_lists_reach_every_layer_of_a_repeated_group() -> None:
    text = PICTURE + "[1, 2] x (conv(3, [4, 8]) | dropout([0.1, 0.2]))"
    assert attributes(text, "filters") == [4, 8, 8]
    assert attributes(text, "rate") == [0.1, 0.2, 0.2]


def test_a_list_may_hold_layers() -> None:
    assert operators(PICTURE + "2 x b([relu, tanh])\nblock b(act: layer) { act }") == ["relu", "tanh"]


def test_a_list_may_have_a_name() -> None:
    assert channels(PICTURE + "widths = [4, 8]\n[1, 1] x conv(3, widths)") == [4, 8]
    assert channels("model m(widths=[4, 8]) {\n input 8x8x3\n 2 x conv(3, widths)\n}") == [4, 8]


def test_a_list_that_is_the_value_needs_a_list_of_lists_for_turns() -> None:
    text = PICTURE + "2 x normalize(mean={})"
    assert attributes(text.format("[1, 2, 3]"), "mean") == [(1, 2, 3)] * 2
    assert attributes(text.format("[[1, 2, 3], 4]"), "mean") == [(1, 2, 3), (4,)]


def test_stride_is_for_the_first_repeat_of_a_stage_only() -> None:
    assert strides(PICTURE + "3 x conv(3, 4, stride=2)") == [2, 1, 1]
    assert strides(PICTURE + "[2, 3] x conv(3, 4, stride=2)") == [2, 1, 2, 1, 1]
    assert strides(PICTURE + "[2, 3] x conv(3, 4, stride=[1, 2])") == [1, 1, 2, 1, 1]


def test_stride_is_for_the_first_repeat_of_a_block_too() -> None:
    block = "\nblock b(f: channels, stride: dims = 1) { conv(3, f, stride=stride) | conv(3, f, stride=stride) }"
    assert strides(PICTURE + "2 x b(4, stride=2)" + block) == [2, 2, 1, 1]
    assert strides(PICTURE + "[2, 1] x b(4, 2)" + block) == [2, 2, 1, 1, 2, 2]


def test_a_default_stride_is_for_the_first_repeat_too() -> None:
    assert strides(PICTURE + "3 x b\nblock b(stride=2) { conv(3, 4, stride=stride) }") == [2, 1, 1]


@pytest.mark.parametrize("strides_", ["[2, 1, 2]", "list", "([2, 1, 2] if true else [1, 1, 1])"])
def test_a_stride_listed_for_each_repeat_is_that_repeats_own(strides_: str) -> None:
    assert strides(PICTURE + f"list = [2, 1, 2]\n3 x conv(3, 4, stride={strides_})") == [2, 1, 2]


def test_in_a_group_every_repeat_has_its_own_stride() -> None:
    assert strides(PICTURE + "2 x (conv(3, 4, stride=2) | relu)") == [2, 2]
    assert shape("input 32x32x3\n3 x (conv(3, 4) | relu | maxpool(2))") == (4, 4, 4)


def test_each_layer_of_a_pipeline_after_a_repeat_is_outside_of_it() -> None:
    assert operators(PICTURE + "2 x relu | tanh") == ["relu", "relu", "tanh"]


def test_repeats_nest() -> None:
    text = PICTURE + "r: 2 x 3 x relu"
    assert names(text) == [f"r.{outer}.{inner}" for outer in range(2) for inner in range(3)]


def test_a_list_belongs_to_the_innermost_repeat() -> None:
    assert channels(PICTURE + "2 x 3 x conv(1, [2, 4, 6])") == [2, 4, 6] * 2
    assert channels(PICTURE + "[1, 1] x (conv(1, [8, 9]) | 3 x conv(1, [2, 4, 6]))") == [8, 2, 4, 6, 9, 2, 4, 6]


def test_stage_and_repeat_count_from_zero() -> None:
    assert channels(PICTURE + "[1, 2, 1] x conv(1, 10 * stage + repeat + 1)") == [1, 11, 12, 21]
    assert channels(PICTURE + "3 x conv(1, 10 * stage + repeat + 1)") == [1, 2, 3]


def test_progress_is_the_share_of_turns_before_as_in_stochastic_depth() -> None:
    """Huang et al. 2016, figure 2: the rate grows linearly with depth, over all stages."""
    text = PICTURE + "[2, 3] x drop_path(0.5 * progress)"
    assert attributes(text, "rate") == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_a_default_may_follow_the_stage() -> None:
    """What makes `[3, 4, 6, 3] x bottleneck` work with nothing else written."""
    block = (
        "\nblock b(f: channels = 4 * 2 ^ stage, stride: dims = 1 if stage == 0 else 2) { conv(3, f, stride=stride) }"
    )
    assert channels(PICTURE + "[1, 2, 1] x b" + block) == [4, 8, 8, 16]
    assert strides(PICTURE + "[1, 2, 1] x b" + block) == [1, 2, 1, 2]


def test_outside_of_repeats_stage_and_repeat_are_zero() -> None:
    assert channels(PICTURE + "conv(1, 1 + stage + repeat + round(progress))") == [1]


def test_a_block_does_not_see_the_turn_that_calls_it() -> None:
    assert channels(PICTURE + "[1, 1] x b(2)\nblock b(f: channels) { conv(1, f + stage) }") == [2, 2]


def test_a_repeat_in_a_block_counts_with_the_blocks_parameters() -> None:
    text = PICTURE + "[1, 2] x b(n=[2, 1])\nblock b(n: int) { n x relu }"
    assert len(operators(text)) == 2 + 2 * 1


def test_nodes_keep_their_group_and_turn() -> None:
    graph = network(PICTURE + "r: [1, 2] x (conv(3, 8) | 2 x relu)\ntanh").graph
    assert graph["r.1.1.conv1"].repeats == (Repeat("r.1", 1, 2),)
    assert graph["r.1.0.relu1.1"].repeats == (Repeat("r.1", 0, 2), Repeat("r.1.0.relu1", 1, 2))
    assert graph["tanh1"].repeats == ()


def test_nodes_of_a_block_keep_the_repeats_around_it() -> None:
    graph = network(PICTURE + "r: 2 x b\nblock b() { conv(3, 8) | 3 x relu }").graph
    assert graph["r.1.relu1.2"].repeats == (Repeat("r", 1, 2), Repeat("r.1.relu1", 2, 3))


def test_a_layer_under_a_name_can_be_repeated() -> None:
    assert channels(PICTURE + "unit = conv(3, [4, 8]) | relu\n2 x unit") == [4, 4, 8, 8]


def test_a_layer_as_argument_belongs_to_the_turn_it_is_written_in() -> None:
    block = "\nblock b(unit: layer) { 2 x (unit | inner(unit)) }\nblock inner(unit: layer) { unit }"
    assert attributes(PICTURE + "[1, 2] x b(leaky_relu([0.1, 0.2]))" + block, "slope") == [0.1] * 4 + [0.2] * 8
    rates = attributes(PICTURE + "4 x b(drop_path(progress))" + block, "rate")
    assert rates == [rate for rate in (0, 0.25, 0.5, 0.75) for _ in range(4)]


def test_a_layer_under_a_name_belongs_to_the_turn_it_is_used_in() -> None:
    assert attributes(PICTURE + "drop = drop_path(progress)\n2 x (relu | drop)", "rate") == [0, 0.5]


def test_a_stride_belongs_to_the_repeat_around_the_layer() -> None:
    block = "\nblock b(unit: layer) { 2 x unit }"
    assert strides(PICTURE + "2 x b(conv(3, 8, stride=2))" + block) == [2, 1, 2, 1]
    assert strides(PICTURE + "unit = conv(3, 8, stride=2)\n3 x unit") == [2, 1, 1]
