"""Every bundled spec and variant: the parameters, multiply-accumulates and shapes that the papers have."""

from __future__ import annotations

import re
from math import prod

import pytest

import cnnc
from cnnc import ir_text, specs
from cnnc.diagnostics import Source
from cnnc.ir import Graph, verify
from cnnc.loading import examine, find
from cnnc.net import Net
from cnnc.ops import Softmax
from cnnc.overrides import Overrides
from cnnc.parser import parse

PARAMETERS = {
    "mlp": 669_706,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
    "mobilenet_v2": 3_504_872,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "voxnet": 921_736,
}
"""Trainable parameters, exactly, as the papers' reference implementations have them."""
MACS = {
    "vgg16": 15.47e9,  # torchvision's documentation, as for the ResNets and EfficientNets but B2
    "vgg19": 19.63e9,
    "resnet18": 1.814e9,
    "resnet34": 3.664e9,
    "resnet50": 4.089e9,
    "resnet101": 7.801e9,
    "resnet152": 11.514e9,
    "efficientnet_b0": 0.39e9,
    "efficientnet_b1": 0.69e9,
    "efficientnet_b2": 1.0e9,  # Tan & Le 2019, table 2
    "efficientnet_b3": 1.83e9,
    "efficientnet_b4": 4.39e9,
    "efficientnet_b5": 10.27e9,
    "efficientnet_b6": 19.07e9,
    "efficientnet_b7": 37.75e9,
    "densenet121": 2.83e9,  # torchvision's documentation
    "densenet161": 7.73e9,
    "densenet169": 3.36e9,
    "densenet201": 4.29e9,
    "mobilenet_v2_w35": 59e6,  # the table beside the authors' code
    "mobilenet_v2_w50": 97e6,
    "mobilenet_v2_w75": 209e6,
    "mobilenet_v2": 300e6,
    "mobilenet_v2_w130": 509e6,
    "mobilenet_v2_w140": 582e6,
}


def all_names() -> list[str]:
    """`resnet`, `resnet18`, ...: every spec, and each of its variants."""
    found = []
    for name in specs.names():
        variants = parse(Source(name, specs.read(name))).variants
        found += [name, *(f"{name}_{variant.name.text}" for variant in variants)]
    return found


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    """Networks that were built already: the large ones take a while."""
    return {}


def built(graphs: dict[str, Graph], name: str) -> Graph:
    if name not in graphs:
        graphs[name] = cnnc.load(name).graph
    return graphs[name]


def test_the_bundled_specs_are_those_promised() -> None:
    assert set(specs.names()) >= {
        *("mlp", "mnist_cnn", "cifar_cnn", "vgg", "resnet", "densenet", "efficientnet", "mobilenet_v2"),
        *("alphazero", "astronet", "voxnet"),
    }


@pytest.mark.parametrize("name", PARAMETERS)
def test_trainable_parameters_are_exact(name: str, graphs: dict[str, Graph]) -> None:
    assert built(graphs, name).trainable_count == PARAMETERS[name]


@pytest.mark.parametrize("name", MACS)
def test_macs_are_the_published_ones_within_a_percent(name: str, graphs: dict[str, Graph]) -> None:
    assert built(graphs, name).mac_count == pytest.approx(MACS[name], rel=0.01)


@pytest.mark.parametrize("name", specs.names())
def test_every_spec_meets_its_budgets(name: str) -> None:
    net, diagnostics = examine(find(name), Overrides(), budgets=True)
    assert net is not None
    assert diagnostics == []


@pytest.mark.parametrize("name", specs.names())
def test_every_spec_says_where_it_is_from(name: str) -> None:
    assert re.match(r"# .*(\b(19|20)\d\d\b|[Tt]he talk)", specs.read(name)), "the first line cites a paper or the talk"


@pytest.mark.parametrize("name", all_names())
def test_every_variant_is_a_sound_graph_that_its_text_gives_again(name: str, graphs: dict[str, Graph]) -> None:
    graph = built(graphs, name)
    verify(graph)
    assert ir_text.read_graph(ir_text.print_graph(graph)) == graph


@pytest.mark.parametrize("name", specs.names())
@pytest.mark.parametrize(
    "overrides",
    [Overrides(phi=0.5), Overrides(width=0.5), Overrides(depth=1.5), Overrides(resolution=1.25)],
    ids=lambda o: ",".join(k for k in ("phi", "width", "depth", "resolution") if getattr(o, k)),
)
def test_every_spec_scales(name: str, overrides: Overrides) -> None:
    net, diagnostics = examine(find(name), overrides)
    assert diagnostics == []
    assert net is not None
    verify(net.graph)


@pytest.mark.parametrize("name", [n for n in specs.names() if n not in ("alphazero", "astronet", "voxnet")])
def test_every_classifier_takes_other_pictures_and_classes(name: str) -> None:
    graph = cnnc.load(name, input=(96, 96, 1), classes=7).graph
    assert graph.inputs[0].shape == (96, 96, 1)
    assert graph[graph.outputs[0][1]].shape == (7,)


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


@pytest.mark.parametrize(("name", "blocks"), [("alphazero", 40), ("alphazero_small", 19), ("alphazero_large", 39)])
def test_alphazero_is_the_papers_tower_with_two_heads(name: str, blocks: int, graphs: dict[str, Graph]) -> None:
    """Silver et al. 2017, "Neural network architecture": 256 filters of 3x3, 17 planes of 19x19, 362 moves."""
    graph = built(graphs, name)
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


@pytest.mark.parametrize("name", specs.names())
def test_classifiers_end_in_probabilities(name: str) -> None:
    graph = cnnc.load(name).graph
    if name not in ("alphazero", "astronet"):
        assert isinstance(graph[graph.outputs[0][1]].op, Softmax)


def test_vggs_dense_layers_hold_most_of_it() -> None:
    """Simonyan & Zisserman 2015, table 1: 4096, 4096, 1000 after a pool to 7x7x512."""
    graph = cnnc.load("vgg19").graph
    weights = [prod(graph.weights(node)["kernel"].shape) for node in graph if node.op.name == "dense"]
    assert weights == [7 * 7 * 512 * 4096, 4096 * 4096, 4096 * 1000]
    assert sum(node.op.name == "conv" for node in graph) == 16


KERAS = {
    "vgg16": ("VGG16", {}),
    "vgg19": ("VGG19", {}),
    **{f"mobilenet_v2_w{round(100 * a)}": ("MobileNetV2", {"alpha": a}) for a in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)},
    **{f"efficientnet_b{size}": (f"EfficientNetB{size}", {}) for size in range(8)},
    **{f"densenet{size}": (f"DenseNet{size}", {}) for size in (121, 169, 201)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KERAS)
def test_keras_has_as_many_trainable_parameters(name: str, graphs: dict[str, Graph]) -> None:
    keras = pytest.importorskip("keras")
    kind, arguments = KERAS[name]
    model = getattr(keras.applications, kind)(weights=None, **arguments)
    assert built(graphs, name).trainable_count == sum(prod(weight.shape) for weight in model.trainable_weights)
