"""Idea 6 of the language: one spec for signals, pictures and volumes; channels are last."""

from __future__ import annotations

import pytest

from tests.support.networks_of_texts import attributes, network, operators, shape

INPUTS = {1: "input 16x4\n", 2: "input 16x16x4\n", 3: "input 16x16x16x4\n"}


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_number_counts_for_every_axis(rank: int) -> None:
    text = INPUTS[rank] + "conv(3, 8, stride=2, dilation=1) | maxpool(2)"
    assert attributes(text, "kernel") == [(3,) * rank, (2,) * rank]
    assert attributes(text, "stride") == [(2,) * rank, (2,) * rank]
    assert shape(text) == (4,) * rank + (8,)
    assert network(text).graph.trainable_count == 3**rank * 4 * 8 + 8


@pytest.mark.parametrize(("rank", "kernel", "sizes"), [(1, "5", (5,)), (2, "5x3", (5, 3)), (3, "5x3x1", (5, 3, 1))])
def test_dims_say_each_axis(rank: int, kernel: str, sizes: tuple[int, ...]) -> None:
    assert attributes(INPUTS[rank] + f"conv({kernel}, 8)", "kernel") == [sizes]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("block", "out"),
    [
        ("residual", 4),
        ("residual(8)", 8),
        ("basic(8, stride=1)", 8),
        ("bottleneck(2, stride=1)", 8),
        ("se(2)", 4),
        ("inverted_residual(6)", 6),
        ("mbconv(filters=6)", 6),
        ("mbconv", 4),
        ("fused_mbconv(filters=6)", 6),
        ("depthwise_separable(6)", 6),
        ("conv_bn_act(6)", 6),
        ("shortcut(6)", 6),
        ("shortcut(4)", 4),
    ],
)
def test_the_preludes_blocks_work_in_every_rank(rank: int, block: str, out: int) -> None:
    assert shape(INPUTS[rank] + "relu | " + block) == (16,) * rank + (out,)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    "block", ["basic(8", "bottleneck(2", "mbconv(filters=8", "inverted_residual(8", "conv_bn_act(8"]
)
def test_the_preludes_blocks_take_strides_in_every_rank(rank: int, block: str) -> None:
    assert shape(INPUTS[rank] + f"{block}, stride=2)") == (8,) * rank + (8,)


def test_the_preludes_vgg_block_halves() -> None:
    assert shape(INPUTS[1] + "vgg(8, 3)") == (8, 8)
    assert operators(INPUTS[1] + "vgg(8, 3)") == ["conv", "relu"] * 3 + ["maxpool"]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_pooling_leaves_channels(rank: int) -> None:
    assert shape(INPUTS[rank] + "globalpool") == (4,)
    assert shape(INPUTS[rank] + "globalpool(keepdims=true)") == (1,) * rank + (4,)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_same_halves_rounding_up_and_valid_leaves_out_the_border(rank: int) -> None:
    odd = "input " + "x".join(["15"] * rank + ["4"]) + "\n"
    assert shape(odd + "conv(3, 4, stride=2)") == (8,) * rank + (4,)
    assert shape(odd + "conv(3, 4, stride=2, padding=valid)") == (7,) * rank + (4,)
    assert shape(odd + "conv(3, 4, stride=2, padding=1)") == (8,) * rank + (4,)
    assert shape(odd + "conv(3, 4, stride=2, padding=0)") == (7,) * rank + (4,)


def test_padding_may_be_said_for_each_axis_and_side() -> None:
    assert shape("input 8x8x4\nconv(3, 4, padding=1x0)") == (8, 6, 4)
    assert shape("input 8x8x4\nconv(3, 4, padding=[0, 1])") == (7, 7, 4)
    assert shape("input 8x8x4\nconv(3, 4, padding=[[0, 1], [2, 2]])") == (7, 10, 4)


def test_features_without_axes_are_dense() -> None:
    assert shape("input 16\ndense(8) | bn | relu | dropout(0.5) | dense(2)") == (2,)


def test_dense_works_on_the_last_axis() -> None:
    assert shape("input 7x7x16\ndense(8)") == (7, 7, 8)
    assert network("input 7x7x16\ndense(8)").graph.trainable_count == 16 * 8 + 8


def test_indices_are_embedded() -> None:
    net = network("input words 400 int\nembedding(20_000, 16) | conv(5, 8) | globalpool | dense(1)")
    assert net.graph["embedding1"].shape == (400, 16)
    assert net.graph.trainable_count == 20_000 * 16 + 5 * 16 * 8 + 8 + 8 + 1


def test_a_model_without_an_input_takes_imagenets_pictures() -> None:
    assert network("globalpool | dense(10)").graph.inputs[0].shape == (224, 224, 3)
