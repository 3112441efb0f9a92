"""What keeps a layer off the Edge TPU, at its place in the .cnn file."""

from __future__ import annotations

import pytest

from cnnc import load_text, ops
from cnnc.backends.edgetpu.locate import locate
from cnnc.backends.edgetpu.prediction import check
from cnnc.backends.tflite.structure import outline
from cnnc.diagnostics import Source, Span, render
from cnnc.ir import Frame, Graph, Node, Origin
from cnnc.tflite_file.program import File, Operator, Program
from tests.support.tflite_programs import tensor

SOURCE = Source("net.cnn", "input 8x8x4\nrelu\nleaky_relu\nblock()\n")
NAMES = ("x", "a", "b", "c")


def span(text: str) -> Span:
    start = SOURCE.text.index(text)
    return Span(SOURCE, start, start + len(text))


GRAPH = Graph(
    "net",
    (
        Node("x", ops.Input((8, 8, 4)), (), (8, 8, 4)),
        Node("act", ops.LeakyRelu(), ("x",), (8, 8, 4), origin=Origin(span("leaky_relu"))),
        Node(
            "block.0",
            ops.Relu(),
            ("act",),
            (8, 8, 4),
            origin=Origin(span("relu"), (Frame("block", span("block()")),)),
        ),
    ),
    (("out", "block.0"),),
)


def program(*operators: Operator) -> File:
    tensors = {name: tensor(name, (1, 8, 8, 4), "INT8", 0.5) for name in NAMES}
    return File((Program("net", tensors, operators, ("x",), (operators[-1].outputs[0],)),))


def test_a_layer_is_found_in_the_source() -> None:
    file = program(
        Operator("LEAKY_RELU", ("x",), ("a",), origin="act"),
        Operator("RELU", ("a",), ("b",), origin="block.0"),
    )
    (found,) = locate(check(file), GRAPH)
    assert found.code == "target"
    assert found.primary is not None
    assert found.primary.span.location == "net.cnn:3:1"
    assert "layer `act`" in found.message
    assert "LEAKY_RELU" in found.message
    assert "operation not supported" in found.message
    assert found.help
    assert "net.cnn:3:1" in render(found)


def test_the_chain_of_calls_is_told() -> None:
    (found,) = locate(check(program(Operator("RELU", ("x",), ("a",), version=9, origin="block.0"))), GRAPH)
    assert found.notes
    assert "in block, expanded from net.cnn:4:1" in found.notes[0]


def test_a_layer_is_told_once_for_a_reason() -> None:
    parts = (Operator("ELU", ("x",), ("a",), origin="act"), Operator("EXP", ("a",), ("b",), origin="act"))
    assert len(locate(check(program(*parts)), GRAPH)) == 1


@pytest.mark.fault("E4")
def test_a_place_is_one_fault_however_many_layers_it_makes() -> None:
    """ViT's encoder written short: four places, though twelve turns make layers of three of them."""
    net = load_text(ENCODERS)
    found = locate(check(File((outline(net.graph),))), net.graph)
    places = [each.primary.span.text for each in found if each.primary is not None]
    assert places == ["layer_norm(epsilon=1e-6)", "attention(3)", "layer_norm", "elu"]
    norm, attention, _, elu = found
    assert "layer `body.0.layer_norm1`, one of 12 written here: TFLite has no int8 form of it" in norm.message
    assert norm.help == "use bn, which the convolution or dense layer before it takes in"
    assert attention.help == "mix positions with convolutions"
    assert "written here" not in elu.message
    assert elu.help == "use relu, relu6 or swish"
    assert "quantise the whole model" not in "".join(map(render, found))


ENCODERS = """
model small {
  input 16x24
  body: 12 x encoder
  layer_norm | elu | globalpool | dense(4)
}
block encoder {
  add {
    layer_norm(epsilon=1e-6) | attention(3)
    identity
  }
}
"""


@pytest.mark.parametrize(
    ("layer", "advice"),
    [
        ("conv(3x3x3, 2)", "use layers of two dimensions, with the third as channels"),
        ("group_norm(2)", "use bn"),
        ("lrn", "leave it out, or use bn"),
        ("mish", "use swish"),
        ("elu", "use relu, relu6 or swish"),
    ],
)
def test_what_to_use_instead_is_a_layer_of_the_language(layer: str, advice: str) -> None:
    size = "4x4x4x2" if "x3x3" in layer else "4x4x2"
    graph = load_text(f"model m {{\n  input {size}\n  {layer}\n}}\n").graph
    (found,) = locate(check(File((outline(graph),))), graph)
    assert str(found.help).startswith(advice)


def test_an_operator_of_no_layer_has_no_place() -> None:
    (found,) = locate(check(program(Operator("ELU", ("x",), ("a",)))), GRAPH)
    assert found.primary is None
    assert "`a`" in found.message


def test_a_refusal_is_located_too() -> None:
    (found,) = locate(check(program(Operator("RELU", ("x",), ("a",), version=9, origin="act"))), GRAPH)
    assert found.primary is not None
    assert "didn't find op for builtin opcode 'RELU' version '9'" in found.message


def test_nothing_is_told_of_what_is_mapped() -> None:
    assert locate(check(program(Operator("RELU", ("x",), ("a",), origin="act"))), GRAPH) == []


def test_a_fault_of_a_layer_and_its_activation_is_the_layers() -> None:
    """The two are one operator, named after the activation; the caret stands where the fault is."""
    graph = load_text("model m {\n  input 64x64x1\n  conv(64x64, 4, padding=valid) | bn | relu\n}\n").graph
    (found,) = locate(check(File((outline(graph),))), graph)
    assert found.primary is not None
    assert found.primary.span.text == "conv(64x64, 4, padding=valid)"
    assert "layer `conv1`" in found.message


def test_a_conversion_at_an_end_is_no_fault_of_the_layer_there() -> None:
    graph = load_text("model m {\n  input 8x8x3\n  conv(3, 4) | layer_norm\n}\n").graph
    ends = outline(load_text("model m {\n  input 8x8x3\n  conv(3, 4)\n}\n").graph, io="float32")
    (entry, end) = locate(check(File((ends,))), graph)
    assert "QUANTIZE" in entry.message
    assert "DEQUANTIZE" in end.message
    assert "int8 form" not in entry.message + end.message
    assert str(end.help).startswith("end the graph in int8 or uint8")
