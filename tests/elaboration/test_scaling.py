"""Idea 7 of the language: every model scales, by width, depth and resolution."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnnc
from cnnc.elaboration.scaling import compound, round8, round_channels, round_repeats
from cnnc.overrides import Overrides
from tests.support.networks_of_texts import PICTURE, channels, network, operators

# Width


@given(filters=st.integers(1, 4096), width=st.floats(0.1, 8.0))
def test_channels_stay_near_the_target(filters: int, width: float) -> None:
    rounded = round_channels(filters, width)
    if width != 1.0:
        assert rounded % 8 == 0
        assert 0.9 * filters * width <= rounded <= max(8, filters * width + 8)


@given(filters=st.integers(1, 4096), width=st.floats(0.1, 8.0))
def test_round8_rounds_as_width_does(filters: int, width: float) -> None:
    if width != 1.0:
        assert round8(filters * width) == round_channels(filters, width)


def test_a_spec_may_round_so_itself() -> None:
    assert channels("input 4x4x18\nconv(1, round8(in.channels / 4)) | conv(1, round8(in.channels))") == [8, 24]


@pytest.mark.parametrize(
    ("filters", "width", "wanted"),
    [
        (32, 0.5, 16),
        (32, 0.35, 16),  # 11.2: 8 would be more than a tenth less
        (16, 0.75, 16),  # 12, half way between 8 and 16: up
        (24, 0.5, 16),
        (64, 1.1, 72),  # 70.4: the nearest multiple
        (40, 1.1, 48),  # 44, half way: up
        (320, 1.1, 352),
        (1280, 1.4, 1792),
        (3, 0.1, 8),
        (30, 1.0, 30),  # as written
    ],
)
def test_width_rounds_to_a_multiple_of_eight(filters: int, width: float, wanted: int) -> None:
    assert channels(PICTURE + f"conv(3, {filters})", width=width) == [wanted]


def test_fixed_channels_are_exempt() -> None:
    assert channels(PICTURE + "conv(3, 64) | conv(3, fixed(64)) | conv(1, fixed(2))", width=0.5) == [32, 64, 2]


def test_only_channels_are_scaled() -> None:
    text = PICTURE + "conv(3, 64) | globalpool | dense(64) | dense(10)"
    assert channels(text, width=0.5) == [32, 32, 64, 10]


def test_a_blocks_channels_are_scaled_where_the_model_gives_them() -> None:
    block = "\nblock b(f: channels, n=64) { conv(3, f) | conv(3, f * 2) | conv(3, 64) | conv(3, n) }"
    assert channels(PICTURE + "b(32)" + block, width=0.5) == [16, 32, 64, 64]


def test_nothing_in_a_block_scales_twice() -> None:
    blocks = """
    block outer(f: channels) { inner(f) | inner(64) | conv(1, f) }
    block inner(f: channels, more: channels = 64) { conv(3, f) | conv(3, more) }"""
    assert channels(PICTURE + "outer(128)" + blocks, width=0.5) == [64, 64, 64, 64, 64]


def test_a_blocks_default_is_scaled_where_the_model_calls_it() -> None:
    assert channels(PICTURE + "b\nblock b(f: channels = 64) { conv(3, f) }", width=0.5) == [32]
    graph = network("resnet: [1, 1] x basic", width=0.5).graph
    assert [graph[f"resnet.{stage}.0.relu2"].shape[-1] for stage in (0, 1)] == [32, 64]


def test_what_came_in_is_not_scaled_again() -> None:
    text = (
        PICTURE + "conv(3, 64) | b | residual\nblock b(f: channels = in.channels) { conv(1, f) | conv(1, in.channels) }"
    )
    assert channels(text, width=0.5)[:3] == [32, 32, 32]
    assert set(channels(text, width=0.5)) == {32}
    assert channels(PICTURE + "a: conv(3, 64)\nconv(1, a.channels * 2)", width=0.5) == [32, 64]
    assert channels("input 8x8x24\nconv(1, in.channels)", width=0.5) == [24]


def test_lists_and_parameters_of_channels_are_scaled() -> None:
    assert channels(PICTURE + "[1, 2] x conv(3, [64, 128])", width=0.25) == [16, 32, 32]
    text = "model m(f: channels = 64) {\n input 8x8x3\n conv(3, f) | conv(3, f * 2)\n}"
    assert channels(text, width=0.25) == [16, 32]
    assert channels(text, width=0.25, settings=(("f", "128"),)) == [32, 64]


def test_an_expansion_is_relative() -> None:
    """Sandler et al. 2018: the expanded channels are 6 times the scaled ones, not 6 times and scaled."""
    graph = network(PICTURE + "conv(1, 32) | inverted_residual(32)", width=0.5).graph
    assert graph["inverted_residual1.mbconv1.expanded1.conv1"].shape[-1] == 6 * 16


# Depth


@pytest.mark.parametrize(
    ("repeats", "depth", "wanted"),
    [(3, 1.0, 3), (3, 1.1, 4), (10, 1.1, 11), (5, 2.2, 11), (2, 0.5, 1), (3, 0.5, 2), (1, 0.1, 1), (0, 2.0, 0)],
)
def test_repeats_are_rounded_up(repeats: int, depth: float, wanted: int) -> None:
    assert len(channels(PICTURE + f"relu\n{repeats} x tanh", depth=depth)) == 1 + wanted


@given(st.integers(1, 200), st.integers(1, 40))
def test_a_whole_number_of_repeats_is_not_rounded_up_by_a_hair(repeats: int, tenths: int) -> None:
    assert round_repeats(repeats, tenths / 10) == -(-repeats * tenths // 10)


def test_stages_deepen_each_by_itself() -> None:
    assert channels(PICTURE + "[1, 2, 3] x conv(1, [2, 4, 6])", depth=1.5) == [2] * 2 + [4] * 3 + [6] * 5


def test_a_list_for_each_repeat_is_spread_over_more_of_them() -> None:
    assert channels(PICTURE + "2 x conv(1, [2, 4])", depth=2) == [2, 2, 4, 4]
    assert channels(PICTURE + "2 x conv(1, [2, 4])", depth=1.5) == [2, 2, 4]


def test_only_repeats_of_the_model_deepen() -> None:
    block = "\nblock b(n: repeats, m: int) {\n n x relu\n m x tanh\n 2 x elu\n}"
    assert operators(PICTURE + "b(2, 2)" + block, depth=2) == ["relu"] * 4 + ["tanh"] * 2 + ["elu"] * 2


def test_fixed_repeats_are_exempt() -> None:
    assert len(operators(PICTURE + "fixed(2) x relu", depth=2)) == 2


def test_one_depth_does_not_deepen_twice() -> None:
    text = PICTURE + "outer(2)\nblock outer(n: repeats) { inner(n) }\nblock inner(n: repeats) { n x relu }"
    assert len(operators(text, depth=2)) == 4


def test_strides_stay_with_the_first_of_more_repeats() -> None:
    graph = network(PICTURE + "r: 1 x conv(3, 8, stride=2)", depth=3).graph
    assert [graph[f"r.{turn}"].shape[0] for turn in range(3)] == [4, 4, 4]


# Resolution


@pytest.mark.parametrize(
    ("sizes", "resolution", "wanted"),
    [
        ("224x224x3", 1.15, (258, 258, 3)),  # 257.6
        ("32x48x3", 0.5, (16, 24, 3)),
        ("100x4", 2.0, (200, 4)),
        ("10x20x30x2", 0.5, (5, 10, 15, 2)),
        ("8x8x3", 0.01, (1, 1, 3)),
        ("16", 2.0, (16,)),
    ],
)
def test_resolution_scales_the_input_in_space(sizes: str, resolution: float, wanted: tuple[int, ...]) -> None:
    assert network(f"input {sizes}\nrelu", resolution=resolution).graph.inputs[0].shape == wanted


def test_indices_have_no_resolution() -> None:
    assert network("input words 40 int\nembedding(10, 4)", resolution=2).graph.inputs[0].shape == (40,)


def test_another_input_takes_the_place_of_the_specs() -> None:
    text = PICTURE + "conv(3, 4) | globalpool"
    assert network(text, input=((None, (6, 5, 1)),)).graph.inputs[0].shape == (6, 5, 1)
    assert network(text, input=((None, (6, 4, 1)),), resolution=2).graph.inputs[0].shape == (12, 8, 1)
    assert network(text, input=((None, (64, 1)),)).graph.inputs[0].shape == (64, 1)


def test_one_of_several_inputs_is_replaced_by_its_name() -> None:
    text = "input left 4\ninput right 4\nconcat(left, right)"
    assert network(text, input=(("right", (6,)),)).graph["concat1"].shape == (10,)


# One coefficient

RULE = "\nscale phi {\n width = 2 ^ phi\n depth = 1 + phi\n resolution = 1 / 2 ^ phi\n}"
MODEL = "model m(f: channels = 16) {\n input 8x8x3\n 2 x conv(3, f)\n}"


def test_a_scale_rule_derives_the_three() -> None:
    graph = network(MODEL + RULE, phi=1).graph
    assert graph.inputs[0].shape == (4, 4, 3)
    assert [node.shape[-1] for node in graph][1:] == [32] * 4


def test_a_rule_may_leave_factors_out() -> None:
    graph = network(MODEL + "\nscale coefficient {\n width = coefficient\n}", phi=2).graph
    assert graph.inputs[0].shape == (8, 8, 3)
    assert [node.shape[-1] for node in graph][1:] == [32] * 2


def test_without_a_rule_tan_and_les_counts() -> None:
    """Tan & Le 2019, equation 3: alpha 1.2, beta 1.1, gamma 1.15."""
    graph = network("input 200x200x3\n10 x conv(3, 80)", phi=1).graph
    assert graph.inputs[0].shape == (230, 230, 3)
    assert [node.shape[-1] for node in graph][1:] == [88] * 12


@pytest.mark.parametrize("phi", [0, 1, 2, 3.5])
def test_a_step_of_phi_doubles_the_work(phi: float) -> None:
    """Equation 3: alpha * beta^2 * gamma^2 is about 2."""
    scale = compound(phi)
    assert scale.depth * scale.width**2 * scale.resolution**2 == pytest.approx(2**phi, rel=0.05 * max(1, phi))


def test_phi_zero_is_the_model_as_written() -> None:
    assert network(MODEL + RULE, phi=0).graph == network(MODEL + RULE).graph


def test_a_factor_by_name_goes_over_the_rules() -> None:
    graph = network(MODEL + RULE, phi=1, width=0.5).graph
    assert graph.inputs[0].shape == (4, 4, 3)
    assert [node.shape[-1] for node in graph][1:] == [8] * 4


def test_a_coefficient_may_be_negative() -> None:
    assert channels(MODEL + "\nscale phi {\n width = 2 ^ phi\n}", phi=-1) == [8, 8]


# Variants

VARIANTS = """
variants {
  small: width=0.5, depth=0.5, input=4x4x3, f=32
  16:    f=64,
         resolution=2
  tan:   phi=1
  list:  g=[1, 2]
}"""
TWO = "model m(f: channels = 16, g=[1, 1]) {\n input 8x8x3\n 2 x conv(3, f)\n g x relu\n}"


def variant(name: str, **overrides: object) -> tuple[tuple[int, ...], list[int], int]:
    """The input, the convolutions' filters, the number of activations."""
    graph = network(TWO + RULE + VARIANTS, variant=name, **overrides).graph
    convs = [node.shape[-1] for node in graph if node.op.name == "conv"]
    return graph.inputs[0].shape, convs, sum(node.op.name == "relu" for node in graph)


def test_a_variant_sets_scales_inputs_and_parameters() -> None:
    assert variant("small") == ((4, 4, 3), [16], 2)
    assert variant("16") == ((16, 16, 3), [64, 64], 2)
    assert variant("list") == ((8, 8, 3), [16, 16], 3)


def test_a_variant_may_give_the_coefficient() -> None:
    assert variant("tan") == ((4, 4, 3), [32] * 4, 4)


def test_flags_go_over_the_variant() -> None:
    assert variant("small", width=2.0) == ((4, 4, 3), [64], 2)
    assert variant("small", depth=2) == ((4, 4, 3), [16] * 4, 4)
    assert variant("small", settings=(("f", "64"),)) == ((4, 4, 3), [32], 2)
    assert variant("small", input=((None, (2, 2, 3)),)) == ((2, 2, 3), [16], 2)
    assert variant("small", phi=1) == ((2, 2, 3), [64] * 4, 4)
    assert variant("small", phi=1, width=1.0) == ((2, 2, 3), [32] * 4, 4)


def test_a_variants_number_may_be_its_name() -> None:
    assert cnnc.load("resnet", variant="18").graph.trainable_count == 11_689_512
    assert cnnc.load("resnet18").overrides == Overrides(variant="18")


def test_python_asks_for_the_same_by_name() -> None:
    net = cnnc.load("resnet18", width=0.5, input=(32, 32, 3), classes=10)
    assert net.graph.outputs[0][1] == "head.softmax1"
    assert net.graph[net.graph.outputs[0][1]].shape == (10,)
    assert net.graph.inputs[0].shape == (32, 32, 3)
    assert net.graph["resnet.3.1.relu2"].shape == (1, 1, 256)


def test_parameters_are_set_by_values_of_any_type() -> None:
    net = cnnc.load("resnet", repeats=[1, 1, 1, 1], block="basic", classes=7, stem="cifar_stem")
    assert net.graph["head.dense1"].shape == (7,)
    assert net.graph["resnet.3.0.relu2"].shape == (28, 28, 512)
