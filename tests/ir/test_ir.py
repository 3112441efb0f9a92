"""The graph: what `verify` holds it to, and its text form."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc import ops
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph, Node, Repeat, scopes_of, verify
from cnnc.ir.text import print_graph, read_graph
from cnnc.ops import Op
from tests.support.strategies import cases

PIXELS = Node("pixels", ops.Input((8, 8, 3)), (), (8, 8, 3))
CONV = Node("conv", ops.Conv((3, 3), 4, (1, 1), "same", (1, 1), 1, False), ("pixels",), (8, 8, 4))
NORM = Node("bn", ops.BatchNorm(), ("conv",), (8, 8, 4))
SOUND = Graph("small", (PIXELS, CONV, NORM), (("bn", "bn"),))


def _with(node: Node) -> Graph:
    """The sound graph with one node in another's place."""
    return replace(SOUND, nodes=tuple(node if node.name == old.name else old for old in SOUND.nodes))


def test_verify_accepts_a_sound_graph() -> None:
    verify(SOUND)


BROKEN: dict[str, Graph] = {
    "is defined twice": replace(SOUND, nodes=(PIXELS, PIXELS)),
    "before it is computed": replace(SOUND, nodes=(PIXELS, NORM, CONV)),
    "0 inputs": _with(replace(CONV, inputs=())),
    "2 inputs": _with(replace(CONV, inputs=("pixels", "pixels"))),
    r"shape \(8, 8, 5\), inferred \(8, 8, 4\)": _with(replace(NORM, shape=(8, 8, 5))),
    "empty shape": _with(replace(PIXELS, op=ops.Input((8, 0, 3)), shape=(8, 0, 3))),
    "without outputs": replace(SOUND, outputs=()),
    "names no node: gone": replace(SOUND, outputs=(("y", "gone"),)),
    "named twice": replace(SOUND, outputs=(("y", "conv"), ("y", "bn"))),
}


@pytest.mark.parametrize("message", BROKEN)
def test_verify_refuses_a_broken_graph(message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        verify(BROKEN[message])


def test_counts_agree_with_sums_by_hand() -> None:
    assert SOUND.parameter_count == 3 * 3 * 3 * 4 + 4 * 4
    assert SOUND.trainable_count == 3 * 3 * 3 * 4 + 2 * 4
    assert SOUND.mac_count == 8 * 8 * 4 * 3 * 3 * 3 + SOUND.macs(NORM)


def test_consumers_hold_a_reader_once_for_each_read() -> None:
    twice = Node("add", ops.Add(), ("bn", "bn"), (8, 8, 4))
    graph = Graph("twice", (*SOUND.nodes, twice), (("add", "add"),))
    assert graph.consumers["bn"] == (twice, twice)
    assert graph.consumers["add"] == ()


@st.composite
def graphs(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Graph:
    """Random operators that read each other's results where a shape fits, and inputs where none does."""
    nodes: dict[str, Node] = {}
    names = st.one_of(st.from_regex(r"[a-z_]\w{0,5}(\.\d\.[a-z]{1,4})?", fullmatch=True), st.text(max_size=8))

    def place(op: Op, inputs: tuple[str, ...]) -> str:
        name: str = draw(names.filter(lambda each: each not in nodes))
        shape = op.infer(*[nodes[each].shape for each in inputs])
        counts = draw(st.lists(st.integers(1, 9), max_size=2))
        repeats = tuple(Repeat(draw(names), draw(st.integers(0, count - 1)), count) for count in counts)
        nodes[name] = Node(name, op, inputs, shape, repeats)
        return name

    for cls in draw(st.lists(st.sampled_from(Op.__subclasses__()), min_size=1, max_size=6)):
        case = draw(cases(cls))
        fitting = [[node.name for node in nodes.values() if node.shape == shape] for shape in case.shapes]
        inputs = [
            draw(st.sampled_from(some)) if some else place(ops.Input(shape), ())
            for some, shape in zip(fitting, case.shapes, strict=True)
        ]
        place(case.op, tuple(inputs))
    labels = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    outputs = tuple((label, draw(st.sampled_from(sorted(nodes)))) for label in labels)
    return Graph(draw(names), tuple(nodes.values()), outputs)


@given(graphs())
@settings(max_examples=20, deadline=None)
def test_text_reads_back_equal(graph: Graph) -> None:
    verify(graph)
    text = print_graph(graph)
    read = read_graph(text)
    assert read == graph
    assert print_graph(read) == text


@given(st.floats(0, 0.999), st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9))
def test_floats_keep_every_bit(rate: float, value: float) -> None:
    dropped = Node("dropped", ops.Dropout(rate), ("pixels",), (8, 8, 3))
    padded = Node("padded", ops.Pad(((1, 0), (0, 0)), value), ("pixels",), (9, 8, 3))
    graph = Graph("floats", (PIXELS, dropped, padded), (("y", "dropped"),))
    assert read_graph(print_graph(graph)) == graph


def test_text_is_a_line_a_node() -> None:
    body = replace(CONV, name="body.0.conv", repeats=(Repeat("body", 0, 2),))
    text = print_graph(Graph("small", (PIXELS, body), (("y", "body.0.conv"),)))
    assert text == (
        "graph small\n"
        'pixels = input(shape=(8, 8, 3), dtype="float") -> 8x8x3\n'
        'body.0.conv = conv(pixels, kernel=(3, 3), filters=4, stride=(1, 1), padding="same", dilation=(1, 1), '
        'groups=1, bias=false, init="he_normal") -> 8x8x4 in body[0] of 2\n'
        "output y = body.0.conv\n"
    )


def test_comments_and_blank_lines_are_skipped() -> None:
    lines = print_graph(SOUND).splitlines()
    assert read_graph("# a note\n\n" + "\n  # another\n\n".join(lines)) == SOUND


FIRST = 'graph g\nx = input(shape=(4, 4, 3), dtype="float") -> 4x4x3\n'
FAULTS = [
    ("", 1, "syntax", "the text is empty"),
    ("x = relu()", 1, "syntax", "expected `graph`, found `x`"),
    (FIRST, 3, "output", "no output"),
    (FIRST + "y = relu(x) -> 4x4x3 4", 3, "syntax", "expected the end of the line, found `4`"),
    (FIRST + "y = relu(x) 4x4x3", 3, "syntax", "expected `->`, found `4x4x3`"),
    (FIRST + "y = relu(x", 3, "syntax", "expected `,`, found the end of the line"),
    (FIRST + "y = relu(x) -> ", 3, "syntax", "expected a shape"),
    (FIRST + "y = relu(x) -> -4", 3, "syntax", "expected a shape"),
    (FIRST + "y = relu(x) -> 99999999999999999999", 3, "syntax", "expected a shape"),
    (FIRST + "y = relu(§) -> 4", 3, "syntax", "found `§`"),
    (FIRST + 'y = relu("\\q") -> 4', 3, "syntax", "escape"),
    (FIRST + "y = reul(x) -> 4x4x3", 3, "name", "no operator is named `reul`"),
    (FIRST + "y = relu(z) -> 4x4x3", 3, "name", "no node above is named `z`"),
    (FIRST + "x = relu(x) -> 4x4x3", 3, "duplicate", "the node `x` is defined twice"),
    (FIRST + "y = relu(x, x) -> 4x4x3", 3, "arity", "`relu` takes 1 input, found 2"),
    (FIRST + "y = relu(x, slope=1) -> 4x4x3", 3, "argument", "`relu` has no attribute `slope`"),
    (FIRST + "y = dense(x) -> 4x4x3", 3, "argument", "`units` is missing"),
    (FIRST + "y = dropout(x, rate=0.1, rate=0.1) -> 4x4x3", 3, "argument", "`rate` is given twice"),
    (FIRST + "y = dropout(rate=0.1, x) -> 4x4x3", 3, "syntax", "expected an attribute, found `x`"),
    (FIRST + 'y = dropout(x, rate="0.1") -> 4x4x3', 3, "type", "`rate` must be float"),
    (FIRST + "y = dropout(x, rate=true) -> 4x4x3", 3, "type", "`rate` must be float"),
    (FIRST + "y = dropout(x, rate=none) -> 4x4x3", 3, "type", "`rate` must be float"),
    (FIRST + "y = dropout(x, rate=1.5) -> 4x4x3", 3, "value", "rate"),
    (FIRST + 'y = globalpool(x, mode="most") -> 3', 3, "type", "`mode` must be"),
    (FIRST + "y = pad(x, amount=((1, 2), (3, 4, 5))) -> 4x4x3", 3, "type", "`amount`"),
    (FIRST + "y = pad(x, amount=((((((1)))))) -> 4x4x3", 3, "syntax", "expected a value"),
    (FIRST + "y = maxpool(x, kernel=(2, 2, 2)) -> 4x4x3", 3, "shape", "`kernel` has 3 axes"),
    (FIRST + "y = relu(x) -> 4x4x4", 3, "shape", "`y` has the shape 4x4x3, not 4x4x4"),
    (FIRST + "y = relu(x) -> 4x4x3 in r[3] of 3", 3, "value", "repeat 3, counted from 0, is beyond 3 repeats"),
    (FIRST + "y = relu(x) -> 4x4x3 in r[0.5] of 3", 3, "syntax", "expected the number of the repeat"),
    (FIRST + "output a = x\noutput a = x", 4, "duplicate", "the output `a` is defined twice"),
    (FIRST + "output a = y", 3, "name", "no node above is named `y`"),
]


@pytest.mark.parametrize(("text", "line", "code", "message"), FAULTS, ids=[fault[3] for fault in FAULTS])
def test_broken_text_is_an_error_with_its_line(text: str, line: int, code: str, message: str) -> None:
    with pytest.raises(CnnError) as raised:
        read_graph(text, "net.graph")
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.code == code
    assert message in diagnostic.message
    assert diagnostic.primary is not None
    assert diagnostic.primary.span.location.startswith(f"net.graph:{line}:")


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_mutated_text_gives_a_graph_or_an_error(data: st.DataObject) -> None:
    text = print_graph(SOUND)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    middle = data.draw(
        st.one_of(st.text(max_size=6), st.sampled_from(["(", ")", ",", "=", "->", "0", "x", '"', "in a[0] of 1"]))
    )
    with suppress(CnnError):
        verify(read_graph(text[:start] + middle + text[end:]))


def test_the_scopes_of_a_name_are_the_labels_and_blocks_it_lies_in() -> None:
    assert scopes_of("stage.0.conv1") == ("stage", "stage.0")
    assert scopes_of("branch/conv") == ("branch",)
    assert scopes_of("conv") == scopes_of("") == ()
