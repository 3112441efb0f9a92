"""A graph written out as a spec is the same network."""

from __future__ import annotations

import pytest

from cnnc import load, load_text, specs
from cnnc.ir import Graph
from cnnc.printer import print_spec


def structure(graph: Graph) -> list[int]:
    """The graph without names and order: for every node a digest of its operator, shape and all that it reads."""
    digests: dict[str, int] = {}
    for node in graph:
        digests[node.name] = hash((node.op, node.shape, tuple(digests[name] for name in node.inputs)))
    return sorted(digests.values())


@pytest.mark.parametrize("name", [*specs.names(), "resnet18", "vgg19", "efficientnet_b1"])
def test_the_text_describes_the_same_network_and_recipe(name: str) -> None:
    net = load(name)
    again = load_text(print_spec(net.graph, net.recipe))
    assert structure(again.graph) == structure(net.graph)
    assert again.recipe == net.recipe
    assert [shape.shape for shape in again.graph.inputs] == [shape.shape for shape in net.graph.inputs]


def test_scaling_is_written_out() -> None:
    text = print_spec(load("resnet18", width=0.5, input=(64, 64, 3)).graph)
    assert "input 64x64x3" in text
    assert "conv(7x7, 32, stride=2, padding=3)" in text
    assert "# resnet.3.1" in text


def test_every_way_to_write_an_attribute_reads_back() -> None:
    text = """
    input 17x16x6
    a: conv(3x1, 8, stride=2x1, padding=1x0, dilation=1x2, groups=2, bias=false) | bn(scale=false)
    gelu(approximate=true)
    pad([[0, 1], [1, 0]], value=0.5) | conv(3, 8, padding=[0, 1]) | avgpool(2, stride=1, count_padding=true)
    b: resize(scale=2, method=bilinear) | maxpool(3) | attention(heads=2, key_features=3)
    add(a | resize(size=4x4), b | resize(size=4x4), in | conv(1, 8) | resize(size=4x4)) | leaky_relu(0.25)
    flatten | dense(3, bias=true)
    """
    graph = load_text(text).graph
    assert structure(load_text(print_spec(graph)).graph) == structure(graph)


def test_what_else_a_step_does_reads_back() -> None:
    text = "input 4\ndense(2)\ntrain {\n accumulate 4\n clip 0.5\n ema 0.99\n patience 3\n remat on\n"
    net = load_text(f"{text} batch_norm local\n on_nan skip\n optimizer lars(trust=0.01)\n schedule one_cycle(0.2)\n}}")
    assert net.recipe.ema == 0.99
    assert load_text(print_spec(net.graph, net.recipe)).recipe == net.recipe


def test_what_a_training_starts_from_and_leaves_alone_is_printed() -> None:
    text = 'input 4\na: dense(2)\nb: dense(2)\ntrain {\n weights "w.safetensors"\n freeze a, "*.bn1"\n'
    net = load_text(f"{text} unfreeze a: 5\n rates b: 0.25\n}}")
    assert net.recipe.freeze == ("a", "*.bn1")
    assert load_text(print_spec(net.graph, net.recipe)).recipe == net.recipe
