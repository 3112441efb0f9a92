"""What keeps a layer off the Edge TPU, at its place in the .cnn file."""

from __future__ import annotations

from cnnc import ops
from cnnc.backends.edgetpu.check import check, locate
from cnnc.diagnostics import Source, Span, render
from cnnc.ir import Frame, Graph, Node, Origin
from cnnc.tflite.program import File, Operator, Program
from tests.tflite_programs import tensor

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
    (found,) = locate(check(program(Operator("ELU", ("x",), ("a",), origin="block.0"))), GRAPH)
    assert found.notes
    assert "in block, expanded from net.cnn:4:1" in found.notes[0]


def test_a_layer_is_told_once_for_a_reason() -> None:
    parts = (Operator("ELU", ("x",), ("a",), origin="act"), Operator("EXP", ("a",), ("b",), origin="act"))
    assert len(locate(check(program(*parts)), GRAPH)) == 1


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
