"""The table: which layers it folds, what it sums, how it fits a terminal."""

from __future__ import annotations

import json
from math import prod

import pytest

import cnnc
from cnnc.ir import Graph, Node, Repeat
from cnnc.ops import AvgPool, Conv, Dense, GlobalPool, Input, MaxPool, Normalize, Op, Pad, Relu, Resize
from cnnc.rendering.captions import caption, magnitude
from cnnc.rendering.folding import Group, flatten, fold
from cnnc.rendering.layer_table import render, rows, to_json
from cnnc.rendering.text_table import box

RESNET50 = """model resnet50(classes=1000) {
  input 224x224x3
  stem:   conv(7x7, 64, stride=2) | bn | relu | maxpool(3x3, stride=2)
  resnet: [3, 4, 6, 3] x bottleneck(width=[64, 128, 256, 512], stride=[1, 2, 2, 2])
  head:   globalpool | dense(classes) | softmax
}"""
TWO_HEADS = """model heads {
  input pixels 8x8x3
  input words 5
  trunk: pixels | conv(3x3, 8) | relu | flatten
  left:  concat(trunk, words) | dense(4)
  right: trunk | dense(2)
  output left, right
}"""


@pytest.fixture(scope="module")
def resnet() -> Graph:
    return cnnc.load_text(RESNET50).graph


def test_alike_turns_are_one_row_and_the_first_of_a_stage_another(resnet: Graph) -> None:
    counts = {row.name: row.count for row in rows(resnet)}
    assert {name: counts[name] for name in counts if name.endswith(".conv2")} == {
        "resnet.0.0.conv2": 1,
        "resnet.0.1-2.conv2": 2,
        "resnet.1.0.conv2": 1,
        "resnet.1.1-3.conv2": 3,
        "resnet.2.0.conv2": 1,
        "resnet.2.1-5.conv2": 5,
        "resnet.3.0.conv2": 1,
        "resnet.3.1-2.conv2": 2,
    }


def test_rows_sum_to_the_papers_totals_folded_or_not(resnet: Graph) -> None:
    for unfold in (False, True):
        found = rows(resnet, unfold)
        assert sum(row.params * row.count for row in found) == resnet.parameter_count
        assert sum(row.macs * row.count for row in found) == resnet.mac_count
        assert sum(row.count for row in found) == len(resnet)
    assert resnet.trainable_count == 25_557_032
    assert magnitude(resnet.mac_count) == "4.09 G"


def test_unfolded_rows_are_the_nodes(resnet: Graph) -> None:
    assert [row.name for row in rows(resnet, unfold=True)] == [node.name for node in resnet]


def _chain(*repeats: tuple[Repeat, ...], ops: tuple[Op, ...]) -> Graph:
    nodes = [Node("x", Input((4,)), (), (4,))]
    for place, (op, inside) in enumerate(zip(ops, repeats, strict=True)):
        name = f"{inside[-1].group}.{inside[-1].index}" if inside else f"n{place}"
        nodes.append(Node(name, op, (nodes[-1].name,), (4,), inside))
    return Graph("chain", tuple(nodes), (("y", nodes[-1].name),))


def test_nested_repeats_fold_from_the_inside_out() -> None:
    repeats = [(Repeat("a", i, 3), Repeat(f"a.{i}.b", j, 2)) for i in range(3) for j in range(2)]
    found = rows(_chain(*repeats, ops=(Relu(),) * 6))
    assert [(row.name, row.count) for row in found] == [("x", 1), ("a.0-2.b.0-1", 6)]


def test_turns_that_differ_stay_apart() -> None:
    repeats = [(Repeat("a", i, 4),) for i in range(4)]
    found = rows(_chain(*repeats, ops=(Dense(4), Dense(4), Relu(), Dense(4))))
    assert [(row.name, row.count) for row in found] == [("x", 1), ("a.0-1", 2), ("a.2", 1), ("a.3", 1)]


def test_turns_wired_differently_stay_apart() -> None:
    x = Node("x", Input((4,)), (), (4,))
    repeat = [(Repeat("a", i, 2),) for i in range(2)]
    nodes = (
        x,
        Node("a.0.p", Relu(), ("x",), (4,), repeat[0]),
        Node("a.0.q", Relu(), ("a.0.p",), (4,), repeat[0]),
        Node("a.1.p", Relu(), ("a.0.q",), (4,), repeat[1]),
        Node("a.1.q", Relu(), ("a.0.q",), (4,), repeat[1]),
    )
    assert [row.count for row in rows(Graph("wired", nodes, (("y", "a.1.q"),)))] == [1] * 5


def test_a_fold_keeps_all_nodes_that_differ(resnet: Graph) -> None:
    folded = fold(resnet)
    groups = [item for item in folded if isinstance(item, Group)]
    assert [(group.name, group.count) for group in groups] == [(f"resnet.{i}", n) for i, n in enumerate([3, 4, 6, 3])]
    assert {node.op for node in flatten(folded)} == {node.op for node in resnet}


def test_json_has_exactly_the_documented_keys(resnet: Graph) -> None:
    found = json.loads(json.dumps(to_json(resnet)))
    assert list(found) == ["name", "inputs", "outputs", "params", "trainable_params", "macs", "layers"]
    assert found["inputs"] == {"input": [224, 224, 3]}
    assert list(found["outputs"].values()) == [[1000]]
    assert found["trainable_params"] == 25_557_032
    assert len(found["layers"]) == len(resnet)
    for layer, node in zip(found["layers"], resnet, strict=True):
        assert list(layer) == ["name", "op", "output_shape", "params", "macs"]
        assert layer["params"] == sum(prod(weight.shape) for weight in resnet.weights(node).values())


def test_json_names_every_input_and_output() -> None:
    found = to_json(cnnc.load_text(TWO_HEADS).graph)
    assert found["inputs"] == {"pixels": [8, 8, 3], "words": [5]}
    assert found["outputs"] == {"left": [4], "right": [2]}


def test_totals_say_shapes_and_counts(resnet: Graph) -> None:
    last = render(resnet).splitlines()[-1]
    assert last == "resnet50: 224x224x3 -> 1000, 25,610,152 parameters (25,557,032 trainable), 4.09 G MACs"
    last = render(cnnc.load_text(TWO_HEADS).graph).splitlines()[-1]
    assert last.startswith("heads: pixels 8x8x3, words 5 -> left 4, right 2, ")
    assert "(all trainable)" in last


def test_the_table_is_a_box_no_wider_than_asked(resnet: Graph) -> None:
    natural = render(resnet).splitlines()[:-1]
    assert len({len(line) for line in natural}) == 1
    narrow = render(resnet, widest=80).splitlines()[:-1]
    assert {len(line) for line in narrow} == {80}
    assert "…" in "".join(narrow)


def test_a_box_shrinks_its_columns_in_order_and_not_to_nothing() -> None:
    cells = [[["a" * 30, "b" * 30]]]
    assert "b" * 30 in box(["h", "h"], cells, shrink=(0, 1), widest=50)
    assert max(map(len, box(["h", "h"], cells, shrink=(0, 1), widest=3).splitlines())) == 2 * 12 + 7


def test_net_summary_is_the_table(resnet: Graph) -> None:
    assert cnnc.load_text(RESNET50).summary() == render(resnet)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (9_994, "9.99 k"),
        (9_996, "10.0 k"),
        (99_960, "100 k"),
        (4_089_184_256, "4.09 G"),
        (19_632_112_640, "19.6 G"),
        (10**12, "1.00 T"),
    ],
)
def test_magnitudes_have_three_digits(number: int, text: str) -> None:
    assert magnitude(number) == text


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (Input((8, 8, 3)), "input"),
        (Conv((7, 7), 64, (2, 2), "same", (1, 1)), "conv(7x7, 64, stride=2)"),
        (Conv((3,), 8, (1,), ((1, 1),), (2,)), "conv(3, 8, padding=1, dilation=2)"),
        (Conv((3, 1), 8, (2, 1), ((1, 0), (0, 0))), "conv(3x1, 8, stride=2x1, padding=[1+0, 0+0])"),
        (MaxPool((2, 2), (2, 2)), "maxpool(2x2)"),
        (AvgPool((3, 3), (2, 2), count_padding=True), "avgpool(3x3, stride=2, count_padding=true)"),
        (GlobalPool("max"), "globalpool(mode=max)"),
        (Dense(10, bias=False), "dense(10)"),
        (Pad(((1, 1), (1, 1)), 0.5), "pad(1, value=0.5)"),
        (Resize(scale=(2, 2)), "resize(scale=2)"),
        (Normalize(mean=(127.5,), std=(127.5,)), "normalize(mean=127.5, std=127.5)"),
        (Normalize(mean=(1.0, 2.0, 3.0)), "normalize(mean=[1, 2, 3])"),
    ],
)
def test_captions_say_what_is_not_default(op: Op, text: str) -> None:
    assert caption(op) == text
