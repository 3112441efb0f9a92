"""A graph written out as a spec is the same network."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc import load, load_text, specs
from cnnc.diagnostics import CnnError
from cnnc.rendering.spec_text import print_spec
from tests.support.networks_of_texts import assert_same_text, structure


@pytest.mark.fault("L6", "L7", "L8")
@pytest.mark.parametrize(
    "text",
    [
        "input 8x8x4\ns = shared(conv(1, 4))\n2 x s\n",
        "input 8x8x4\ns = shared(conv(1, 4) | bn | relu)\na: s\nb: s\nadd(a, b) | s\n",
        "input 8x8x4\na: conv(1, 4)\nb: a | identity\noutput a, b\n",
        "input 8x8x4\na: conv(1, 4)\nb: a\nc: b\noutput c, a, b\n",
        "input 8x8x4\na: in\nb: conv(1, 4)\noutput b, a\n",
        "input x 8x8x4\ninput y 8x8x4\na: x\nb: add(x, y)\noutput a, b\n",
        "input 8x8x3\noutput a, y\ny: conv(3, 4) | (add {\n a: conv(1, 4)\n identity\n} if true)\n",
        "input 8x8x3\noutput a, y\ny: conv(3, 4) | 2 x (add {\n a: conv(1, 4)\n identity\n})\n",
        "input 8x8x3\noutput a, y\ns = conv(3, 4) | add {\n a: conv(1, 4)\n identity\n}\ny: s\n",
        "input 8x8x3\noutput a, y\nif 1 < 2 {\n a: conv(3, 4)\n}\ny: relu\n",
        "input 8x8x3\nrelu: conv(3, 4)\na: tanh\nb: relu\nc: sigmoid\nadd(a, c, b | conv(1, 4)) | dropout(0.5)\n",
        "input 8x8x3\noutput relu, y\nrelu: conv(3, 4)\na: tanh\nb = leaky_relu(0.5)\ny: a | b\n",
        "input 8x8x3\noutput relu, y\nrelu: conv(3, 4)\nif 1 < 2 {\n y: in | unit\n}\nblock unit { tanh | relu }\n",
        "input 8x8x3\noutput valid, y\nvalid: conv(3, 4)\ny: in | unit\nblock unit { conv(3, 4, padding=valid) }\n",
    ],
)
def test_shared_layers_and_every_name_of_a_result_are_printed(text: str) -> None:
    assert_same_text(text)


@pytest.mark.fault("L8")
def test_an_output_is_known_or_not_wherever_it_is_declared() -> None:
    before, after = ("input 8x8x3\noutput b, y\ny: conv(3, 4)\n", "input 8x8x3\ny: conv(3, 4)\noutput b, y\n")
    for text in (before, after):
        with pytest.raises(CnnError, match="nothing is named `b`") as caught:
            load_text(text)
        assert len(caught.value.diagnostics) == 1


LINES = (
    "conv(3x3, 4)",
    "conv(1x1, 4) | bn | relu",
    "relu",
    "identity",
    "s",
    "t",
    "2 x s",
    "add {\n  p{n}: conv(1x1, 4)\n  identity\n}",
    "(add {\n  p{n}: s\n  identity\n} if true)",
    "(add {\n  p{n}: conv(1x1, 4)\n  identity\n} if false)",
    "2 x (add {\n  p{n}: t\n  identity\n})",
)
"""Layers that keep a map of four channels as it is."""


@st.composite
def named_specs(draw: st.DrawFn) -> str:
    """A spec of labelled lines that read any of those before, with shared layers, and any of them as outputs."""
    labels = ["in"]
    lines = []
    for number in range(draw(st.integers(1, 6))):
        source = draw(st.sampled_from(labels))
        layer = draw(st.sampled_from(LINES)).replace("{n}", str(number))
        lines.append(f"a{number}: {source} | {layer}")
        labels.append(f"a{number}")
    read = {line.split(": ", 1)[1].split(" | ")[0] for line in lines}
    outputs = [name for name in labels[1:] if name not in read or draw(st.booleans())]
    declared = f"output {', '.join(draw(st.permutations(outputs)))}"
    lines.insert(draw(st.integers(0, len(lines))), declared)
    return "\n".join(["input 6x6x4", "s = shared(conv(3x3, 4))", "t = shared(conv(1x1, 4) | bn)", *lines]) + "\n"


@pytest.mark.fault("L6", "L7", "L8")
@settings(max_examples=40)
@given(named_specs())
def test_random_names_and_shared_layers_are_printed(text: str) -> None:
    assert_same_text(text)


@pytest.mark.slow
@settings(max_examples=1500)
@given(named_specs())
def test_many_random_names_and_shared_layers_are_printed(text: str) -> None:
    assert_same_text(text)


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
