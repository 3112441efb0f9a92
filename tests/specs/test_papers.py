"""Layers of the bundled specs have the sizes that tables and figures of the papers have."""

from __future__ import annotations

from math import prod

import pytest

import cnnc
from cnnc.net import Net
from tests.support.bundled import built


def parameters_of_convolution(kernel: int, channels: int, filters: int, *, bias: bool) -> int:
    return kernel * channels * filters + (filters if bias else 2 * filters)  # else batch norm's two


def last_of(net: Net, operator: str) -> tuple[int, ...]:
    """The shape after the last layer of an operator."""
    return [node.shape for node in net.graph if node.op.name == operator][-1]


def test_the_mlp_is_784_512_512_10() -> None:
    net = cnnc.load("mlp")
    assert [node.shape for node in net.graph if node.op.name in ("flatten", "dense")] == [(784,), (512,), (512,), (10,)]


def test_the_mnist_network_pools_to_13x13x32() -> None:
    net = cnnc.load("mnist_cnn")
    assert last_of(net, "maxpool") == (13, 13, 32)
    assert net.graph.trainable_count == sum(
        [9 * 32 + 32, 9 * 32 * 32 + 32, 13 * 13 * 32 * 512 + 512, 512 * 512 + 512, 512 * 10 + 10]
    )


def test_the_cifar_network_pools_to_6x6x64() -> None:
    net = cnnc.load("cifar_cnn")
    assert last_of(net, "maxpool") == (6, 6, 64)
    convolutions = [9 * 3 * 32 + 32, 9 * 32 * 32 + 32, 9 * 32 * 64 + 64, 9 * 64 * 64 + 64]
    dense = [6 * 6 * 64 * 512 + 512, 512 * 512 + 512, 512 * 10 + 10]
    assert net.graph.trainable_count == sum(convolutions) + sum(dense)


def test_resnets_stages_have_the_sizes_of_table_1() -> None:
    """He et al. 2015, table 1."""
    graph = cnnc.load("resnet50").graph
    assert graph["entry.conv1"].shape == (112, 112, 64)
    assert [graph[f"resnet.{stage}.0.relu3"].shape for stage in range(4)] == [
        (56, 56, 256),
        (28, 28, 512),
        (14, 14, 1024),
        (7, 7, 2048),
    ]


def test_resnets_form_for_cifar_keeps_the_picture_whole() -> None:
    graph = cnnc.load("resnet", variant="cifar").graph
    assert graph.inputs[0].shape == (32, 32, 3)
    assert [graph[f"resnet.{stage}.1.relu2"].shape[0] for stage in range(4)] == [32, 16, 8, 4]
    # ResNet-18's, less the difference of the stems and of the heads.
    assert graph.trainable_count == 11_689_512 - (49 - 9) * 3 * 64 - 513 * (1000 - 10)


def test_efficientnets_stages_have_the_sizes_of_table_1() -> None:
    """Tan & Le 2019, table 1."""
    graph = cnnc.load("efficientnet_b0").graph
    assert graph["stem.conv1"].shape == (112, 112, 32)
    ends = [[n.shape for n in graph if n.name.startswith(f"blocks.{stage}.0.")][-1] for stage in range(7)]
    sizes = [(112, 16), (56, 24), (28, 40), (14, 80), (14, 112), (7, 192), (7, 320)]
    assert ends == [(size, size, channels) for size, channels in sizes]


def test_mobilenets_stages_have_the_sizes_of_table_2() -> None:
    """Sandler et al. 2018, table 2."""
    graph = cnnc.load("mobilenet_v2").graph
    ends = [[n.shape for n in graph if n.name.startswith(f"blocks.{stage}.0.")][-1] for stage in range(7)]
    sizes = [(112, 16), (56, 24), (28, 32), (14, 64), (14, 96), (7, 160), (7, 320)]
    assert ends == [(size, size, channels) for size, channels in sizes]


def test_mobilenet_v1_ends_its_stages_with_the_sizes_of_table_1() -> None:
    """Howard et al. 2017, table 1."""
    graph = cnnc.load("mobilenet_v1").graph
    ends = [[n.shape for n in graph if n.name.startswith(f"blocks.{stage}.0.")][-1] for stage in range(5)]
    assert ends == [(112, 112, 64), (56, 56, 128), (28, 28, 256), (14, 14, 512), (7, 7, 1024)]


LARGE = [16, 64, 72, 72, 120, 120, 240, 200, 184, 184, 480, 672, 672, 960, 960]
SMALL = [16, 72, 88, 96, 240, 240, 120, 144, 288, 576, 576]
EXCITED = {"large": [72, 120, 120, 480, 672, 672, 960, 960], "small": [16, 96, 240, 240, 120, 144, 288, 576, 576]}


@pytest.mark.parametrize(("variant", "widths"), [("large", LARGE), ("small", SMALL)])
def test_mobilenet_v3_expands_to_the_sizes_of_its_tables(variant: str, widths: list[int]) -> None:
    """Howard et al. 2019, tables 1 and 2: the columns `exp size` and `SE`."""
    graph = cnnc.load("mobilenet_v3", variant=variant).graph
    assert [n.shape[-1] for n in graph if n.op.name == "depthwise"] == widths
    assert [n.shape[-1] for n in graph if n.op.name == "mul"] == EXCITED[variant]


@pytest.mark.parametrize(("variant", "millions"), [("s", 5.44), ("m", 6.90), ("l", 10.59)])
def test_efficientnets_for_the_edge_tpu_have_their_authors_parameters(variant: str, millions: float) -> None:
    graph = cnnc.load("efficientnet_edgetpu", variant=variant).graph
    assert round(graph.trainable_count / 1e6, 2) == millions


def test_efficientnet_v2_s_has_the_layers_of_table_4() -> None:
    """Tan & Le 2021, table 4: 22 layers of fused blocks have no depthwise convolution."""
    graph = cnnc.load("efficientnet_v2", variant="s").graph
    ends = [[n for n in graph if n.name.startswith(f"blocks.{stage}.")][-1].shape[-1] for stage in range(6)]
    assert ends == [24, 48, 64, 128, 160, 256]
    assert sum(n.op.name == "depthwise" for n in graph) == 6 + 9 + 15


@pytest.mark.parametrize(("variant", "sizes"), [("v10", [111, 55, 27, 27, 13, 13]), ("v11", [113, 56, 28, 28, 14, 14])])
def test_squeezenet_pools_as_caffe_does(variant: str, sizes: list[int]) -> None:
    """Iandola et al. 2016, table 1; Caffe rounds the sizes of pools up."""
    graph = cnnc.load("squeezenet", variant=variant).graph
    found = [n.shape[0] for n in graph if n.op.name == "conv" and len(n.shape) == 3]
    assert list(dict.fromkeys(found)) == list(dict.fromkeys(sizes))


def test_shufflenet_has_the_stages_of_table_5() -> None:
    """Ma et al. 2018, table 5: half of the channels pass every unit that keeps the size."""
    graph = cnnc.load("shufflenet_v2", variant="x10").graph
    ends = [[n for n in graph if n.name.startswith(f"stages.{stage}.")][-1].shape for stage in range(3)]
    assert ends == [(28, 28, 116), (14, 14, 232), (7, 7, 464)]
    assert sum(n.op.name == "channel_shuffle" for n in graph) == 4 + 8 + 4
    assert sum(n.op.name == "slice" for n in graph) == 2 * (3 + 7 + 3)


def test_convnexts_stages_have_the_sizes_of_table_9() -> None:
    """Liu et al. 2022, table 9."""
    graph = cnnc.load("convnext").graph
    ends = [[n for n in graph if n.name.startswith(f"body.{stage}.")][-1].shape for stage in range(4)]
    assert ends == [(56, 56, 96), (28, 28, 192), (14, 14, 384), (7, 7, 768)]


def test_xception_is_figure_5() -> None:
    """Chollet 2017, figure 5: the entry flow leaves 19x19x728, the exit flow 10x10x2048."""
    graph = cnnc.load("xception").graph
    assert [n.shape for n in graph if n.op.name == "add"] == [
        *[(74, 74, 128), (37, 37, 256), (19, 19, 728)],
        *[(19, 19, 728)] * 8,
        (10, 10, 1024),
    ]
    assert last_of(cnnc.load("xception"), "conv") == (10, 10, 2048)


@pytest.mark.parametrize(("name", "blocks"), [("alphazero", 40), ("alphazero_small", 19), ("alphazero_large", 39)])
def test_alphazero_is_the_papers_tower_with_two_heads(name: str, blocks: int) -> None:
    """Silver et al. 2017, "Neural network architecture": 256 filters of 3x3, 17 planes of 19x19, 362 moves."""
    graph = built(name)
    tower = parameters_of_convolution(9, 17, 256, bias=False)
    tower += 2 * blocks * parameters_of_convolution(9, 256, 256, bias=False)
    policy = parameters_of_convolution(1, 256, 2, bias=False) + 2 * 361 * 362 + 362
    value = parameters_of_convolution(1, 256, 1, bias=False) + 361 * 256 + 256 + 256 + 1
    assert graph.trainable_count == tower + policy + value
    assert {label: graph[node].shape for label, node in graph.outputs} == {"policy": (362,), "value": (1,)}


def test_astronet_is_figure_7() -> None:
    """Shallue & Vanderburg 2018, figure 7: two columns of convolutions over 2001 and 201 points, four dense layers."""
    graph = cnnc.load("astronet").graph

    def column(length: int, pool: int, filters: list[int]) -> tuple[int, int]:
        """Parameters, and values at the end."""
        channels, parameters = 1, 0
        for width in filters:
            parameters += parameters_of_convolution(5, channels, width, bias=True)
            parameters += parameters_of_convolution(5, width, width, bias=True)
            channels, length = width, (length - pool) // 2 + 1
        return parameters, length * channels

    global_parameters, global_values = column(2001, 5, [16, 32, 64, 128, 256])
    local_parameters, local_values = column(201, 7, [16, 32])
    dense = (global_values + local_values) * 512 + 512 + 3 * (512 * 512 + 512) + 512 + 1
    assert graph.trainable_count == global_parameters + local_parameters + dense
    assert [node.shape for node in graph.inputs] == [(2001, 1), (201, 1)]


def test_voxnet_is_figure_2() -> None:
    """Maturana & Scherer 2015: Conv(32, 5, 2), Conv(32, 3, 1), Pool(2), Full(128), Full(K)."""
    graph = cnnc.load("voxnet").graph
    assert [n.shape for n in graph if n.op.name in ("conv", "maxpool")] == [
        (14, 14, 14, 32),
        (12, 12, 12, 32),
        (6, 6, 6, 32),
    ]
    assert graph.trainable_count == 125 * 32 + 32 + 27 * 32 * 32 + 32 + 6**3 * 32 * 128 + 128 + 128 * 40 + 40


def test_vggs_dense_layers_hold_most_of_it() -> None:
    """Simonyan & Zisserman 2015, table 1: 4096, 4096, 1000 after a pool to 7x7x512."""
    graph = cnnc.load("vgg19").graph
    weights = [prod(graph.weights(node)["kernel"].shape) for node in graph if node.op.name == "dense"]
    assert weights == [7 * 7 * 512 * 4096, 4096 * 4096, 4096 * 1000]
    assert sum(node.op.name == "conv" for node in graph) == 16
