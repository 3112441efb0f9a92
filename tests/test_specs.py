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
    "mobilenet_v1_w25": 470_072,  # Keras, as the others of this network
    "mobilenet_v1_w50": 1_331_592,
    "mobilenet_v1_w75": 2_585_560,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v3_large": 5_483_032,  # torchvision's documentation
    "mobilenet_v3_small": 2_542_856,
    "mnasnet_a1": 3_887_038,  # timm
    "mnasnet_b1": 4_383_312,  # torchvision's documentation
    "efficientnet_lite_0": 4_652_008,  # timm
    "efficientnet_lite_1": 5_416_680,
    "efficientnet_lite_2": 6_092_072,
    "efficientnet_lite_3": 8_197_096,
    "efficientnet_lite_4": 13_006_568,
    "efficientnet_v2_b0": 7_139_704,  # Keras, as the others but S, which is in torchvision's documentation
    "efficientnet_v2_b1": 8_141_052,
    "efficientnet_v2_b2": 10_096_086,
    "efficientnet_v2_b3": 14_358_406,
    "efficientnet_v2_s": 21_458_488,
    "squeezenet_v10": 1_248_424,  # torchvision's documentation, down to ConvNeXt
    "squeezenet_v11": 1_235_496,
    "shufflenet_v2_x05": 1_366_792,
    "shufflenet_v2_x10": 2_278_604,
    "shufflenet_v2_x15": 3_503_624,
    "shufflenet_v2_x20": 7_393_996,
    "convnext_tiny": 28_589_128,
    "xception": 22_855_952,  # Chollet 2017, table 3
    "alexnet_imagenet": 62_378_344,
    "alexnet_original": 60_965_224,  # Caffe's bvlc_alexnet
    "inception_v1": 6_998_552,  # Caffe's bvlc_googlenet
    "inception_v3": 23_817_352,  # Keras, down to NASNet
    "resnet_v1_50": 25_583_592,
    "resnet_v1_101": 44_601_832,
    "resnet_v1_152": 60_268_520,
    "resnet_v2_50": 25_568_360,
    "resnet_v2_101": 44_577_896,
    "resnet_v2_152": 60_236_904,
    "nasnet": 5_289_978,
    "resnext50": 25_028_904,  # torchvision's documentation
    "resnext101": 88_791_336,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "resnet3d18": 33_371_472,
    "wide_resnet28_10": 36_479_194,  # Zagoruyko & Komodakis 2016, table 4: 36.5 M
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
    "mobilenet_v1_w25": 41e6,  # Howard et al. 2017, table 6
    "mobilenet_v1_w50": 149e6,
    "mobilenet_v1_w75": 325e6,
    "mobilenet_v1": 569e6,
    "mobilenet_v3_large": 219e6,  # Howard et al. 2019, table 3
    "mnasnet_a1": 312e6,  # Tan et al. 2019, table 1
    "mnasnet_b1": 315e6,
    "efficientnet_lite_0": 0.385e9,  # d-li14/efficientnet-lite.pytorch
    "efficientnet_lite_1": 0.600e9,
    "efficientnet_lite_2": 0.860e9,
    "efficientnet_lite_3": 1.383e9,
    "efficientnet_lite_4": 2.553e9,
    "efficientnet_v2_s": 8.37e9,  # torchvision's documentation
    "shufflenet_v2_x10": 146e6,  # Ma et al. 2018, table 8
    "shufflenet_v2_x20": 0.58e9,  # torchvision's documentation
    "convnext_tiny": 4.46e9,
    "xception": 8.4e9,  # timm
    "alexnet_original": 724e6,
    "resnet_v1_101": 7.6e9,  # He et al. 2015, table 1
    "resnet_v1_152": 11.3e9,
    "nasnet": 564e6,  # Zoph et al. 2018, table 2
    "resnext50": 4.23e9,  # torchvision's documentation
    "resnext101": 16.41e9,
    "wide_resnet50_2": 11.40e9,
    "wide_resnet101_2": 22.75e9,
    "inception_v3": 5.71e9,
    "resnet3d18": 40.70e9,
}
NO_CLASSIFIERS = ("alphafold", "alphazero", "astronet", "qanet", "resnet3d", "unet", "voxnet", "wavenet")
"""Of pictures: of other things, or of every part of them."""


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
        *("alphazero", "astronet", "voxnet", "alexnet", "resnet_v1", "resnet_v2", "resnext", "wide_resnet"),
        *("inception_v1", "inception_v3", "nasnet", "unet", "alphafold", "resnet3d", "wavenet"),
        *("mobilenet_v1", "mobilenet_v3", "mnasnet", "efficientnet_lite", "efficientnet_edgetpu", "efficientnet_v2"),
        *("squeezenet", "shufflenet_v2", "convnext", "xception", "qanet"),
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


@pytest.mark.parametrize("name", [n for n in specs.names() if n not in NO_CLASSIFIERS])
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
    **{f"mobilenet_v1_w{round(100 * a)}": ("MobileNet", {"alpha": a}) for a in (0.25, 0.5, 0.75, 1.0)},
    "mobilenet_v3_large": ("MobileNetV3Large", {}),
    "mobilenet_v3_small": ("MobileNetV3Small", {}),
    **{f"efficientnet_v2_{size.lower()}": (f"EfficientNetV2{size}", {}) for size in ("B0", "B1", "B2", "B3", "S")},
    "convnext_tiny": ("ConvNeXtTiny", {}),
    "xception": ("Xception", {}),
    **{f"resnet_v1_{size}": (f"ResNet{size}", {}) for size in (50, 101, 152)},
    **{f"resnet_v2_{size}": (f"ResNet{size}V2", {}) for size in (50, 101, 152)},
    "inception_v3": ("InceptionV3", {}),
    "nasnet": ("NASNetMobile", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KERAS)
def test_keras_has_as_many_trainable_parameters(name: str, graphs: dict[str, Graph]) -> None:
    keras = pytest.importorskip("keras")
    kind, arguments = KERAS[name]
    model = getattr(keras.applications, kind)(weights=None, **arguments)
    assert built(graphs, name).trainable_count == sum(prod(weight.shape) for weight in model.trainable_weights)
