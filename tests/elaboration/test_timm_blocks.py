"""timm's block strings: networks written in them have their published numbers of parameters."""

from __future__ import annotations

import pytest

from cnnc import ops as op
from tests.support.networks_of_texts import PICTURE, attributes, names, network, operators, shape

EFFICIENTNET_B0 = (
    "ds_r1_k3_s1_e1_c16_se0.25",
    "ir_r2_k3_s2_e6_c24_se0.25",
    "ir_r2_k5_s2_e6_c40_se0.25",
    "ir_r3_k3_s2_e6_c80_se0.25",
    "ir_r3_k5_s1_e6_c112_se0.25",
    "ir_r4_k5_s2_e6_c192_se0.25",
    "ir_r1_k3_s1_e6_c320_se0.25",
)
MOBILENET_V2 = (
    "ds_r1_k3_s1_c16",
    "ir_r2_k3_s2_e6_c24",
    "ir_r3_k3_s2_e6_c32",
    "ir_r4_k3_s2_e6_c64",
    "ir_r3_k3_s1_e6_c96",
    "ir_r3_k3_s2_e6_c160",
    "ir_r1_k3_s1_e6_c320",
)
MNASNET = (
    "ds_r1_k3_s1_c16_noskip",
    "ir_r3_k3_s2_e3_c24",
    "ir_r3_k5_s2_e3_c40",
    "ir_r3_k5_s2_e6_c80",
    "ir_r2_k3_s1_e6_c96",
    "ir_r4_k5_s2_e6_c192",
    "ir_r1_k3_s1_e6_c320_noskip",
)


def mobile(blocks: tuple[str, ...], act: str) -> str:
    """A network of blocks between the stem of 32 channels and the head of 1280 that they all have."""
    strings = ", ".join(f'"{block}"' for block in blocks)
    return f"""input 224x224x3
    conv(3, 32, stride=2) | bn | {act}
    blocks: timm([{strings}], act={act})
    conv(1, 1280) | bn | {act} | globalpool | dense(1000)"""


@pytest.mark.parametrize(
    ("blocks", "act", "parameters"),
    [
        (EFFICIENTNET_B0, "swish", 5_288_548),
        (MOBILENET_V2, "relu6", 3_504_872),
        (MNASNET, "relu", 4_383_312),  # torchvision's mnasnet1_0
    ],
)
def test_networks_of_block_strings_have_the_published_parameters(
    blocks: tuple[str, ...], act: str, parameters: int
) -> None:
    assert network(mobile(blocks, act)).graph.trainable_count == parameters


@pytest.mark.parametrize(
    ("width", "depth", "parameters"), [(1.0, 1.1, 7_794_184), (1.2, 1.4, 12_233_232), (1.4, 1.8, 19_341_616)]
)
def test_block_strings_scale_as_efficientnet_does(width: float, depth: float, parameters: int) -> None:
    graph = network(mobile(EFFICIENTNET_B0, "swish"), width=width, depth=depth).graph
    assert graph.trainable_count == parameters


def test_one_string_is_one_stage() -> None:
    text = PICTURE + 'conv(1, 8)\nb: timm("ir_r2_k5_s2_e6_c24_se0.25_nre")'
    again = PICTURE + "conv(1, 8)\nb: 2 x mbconv(5x5, 24, 6, stride=2, se=0.25, act=relu)"
    assert operators(text) == operators(again)
    assert shape(text) == (4, 4, 24)
    assert network(text).graph.trainable_count == network(again).graph.trainable_count


def test_stages_and_repeats_are_named_as_everywhere() -> None:
    found = names(PICTURE + 'b: timm(["cn_r2_k3_s1_c8", "cn_r1_k3_s2_c16"])')
    assert [name for name in found if name.endswith("conv1")] == ["b.0.0.conv1", "b.0.1.conv1", "b.1.0.conv1"]


@pytest.mark.parametrize(
    ("token", "wanted"),
    [("nre", op.Relu), ("nr6", op.Relu6), ("nhs", op.HardSwish), ("nsw", op.Swish), ("nmi", op.Mish)],
)
def test_activations(token: str, wanted: type[op.Op]) -> None:
    graph = network(PICTURE + f'timm("cn_k3_c8_{token}")').graph
    assert isinstance(graph.nodes[-1].op, wanted)


def test_kinds_of_blocks() -> None:
    assert operators(PICTURE + 'timm("cn_k3_c8")') == ["conv", "bn", "relu"]
    assert operators(PICTURE + 'timm("ds_k3_c8_noskip")') == ["depthwise", "bn", "relu", "conv", "bn"]
    assert operators(PICTURE + 'timm("dsa_k3_c8")') == ["depthwise", "bn", "relu", "conv", "bn", "relu"]
    assert operators(PICTURE + 'timm("er_k3_e4_c8_s2")') == ["conv", "bn", "relu", "conv", "bn"]
    assert operators(PICTURE + 'timm("ir_k3_e4_c3_d2")') == [
        *["conv", "bn", "relu", "depthwise", "bn", "relu"],
        "conv",
        "bn",
        "add",
    ]
    assert attributes(PICTURE + 'timm("ir_k3_e4_c3_d2")', "dilation")[1] == (2, 2)


def test_a_skip_can_be_turned_off() -> None:
    assert "add" in operators(PICTURE + 'timm("ir_k3_e4_c3")')
    assert "add" not in operators(PICTURE + 'timm("ir_k3_e4_c3_noskip")')


def test_the_layers_that_strings_say_nothing_of_are_arguments() -> None:
    text = PICTURE + 'timm(["cn_k3_c8", "cn_k3_c8_nmi"], act=leaky_relu(0.2), norm=group_norm(4))'
    assert operators(text) == ["conv", "group_norm", "leaky_relu", "conv", "group_norm", "mish"]
    assert attributes(text, "slope") == [0.2]


def test_strings_may_have_a_name() -> None:
    text = 'model m(blocks=["cn_k3_c8", "cn_k1_c4"]) {\n input 8x8x3\n timm(blocks)\n}'
    assert [n for n in attributes(text, "filters")] == [8, 4]


def test_an_expansion_may_be_a_fraction_as_in_mobilenet_v3() -> None:
    """Howard et al. 2019, table 1: 80 channels are expanded to 200 and 184."""
    text = "input 14x14x80\n" + 'timm(["ir_r1_k3_s1_e2.5_c80", "ir_r1_k3_s1_e2.3_c80"])'
    assert attributes(text, "filters") == [200, 80, 184, 80]
