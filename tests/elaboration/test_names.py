"""How layers are named: labels, counts, blocks, repeats. Weights are named after them."""

from __future__ import annotations

import cnnc
from tests.support.networks_of_texts import PICTURE, names, network


def test_unlabelled_layers_are_counted_by_operator() -> None:
    assert names(PICTURE + "conv(3, 8) | relu | conv(3, 8) | relu\nbn") == ["conv1", "relu1", "conv2", "relu2", "bn1"]


def test_an_alias_is_named_like_the_operator() -> None:
    assert names(PICTURE + "silu | swish | batch_norm") == ["swish1", "swish2", "bn1"]


def test_a_label_names_a_single_layer() -> None:
    assert names(PICTURE + "first: conv(3, 8)\nrelu") == ["first", "relu1"]
    assert names(PICTURE + "a: relu\nlast: a | tanh") == ["a", "last"]


def test_a_label_is_a_group_of_several_layers() -> None:
    assert names(PICTURE + "stem: conv(3, 8) | bn | conv(1, 4)") == ["stem.conv1", "stem.bn1", "stem.conv2"]


def test_each_group_counts_by_itself() -> None:
    assert names(PICTURE + "a: conv(3, 8) | relu\nconv(3, 8)\nb: conv(3, 8) | relu") == [
        "a.conv1",
        "a.relu1",
        "conv1",
        "b.conv1",
        "b.relu1",
    ]


def test_a_block_is_a_group() -> None:
    block = "\nblock unit() { conv(3, 3) | relu }"
    assert names(PICTURE + "unit | unit" + block) == ["unit1.conv1", "unit1.relu1", "unit2.conv1", "unit2.relu1"]
    assert names(PICTURE + "stem: unit" + block) == ["stem.conv1", "stem.relu1"]
    assert names(PICTURE + "stem: unit | tanh" + block) == ["stem.unit1.conv1", "stem.unit1.relu1", "stem.tanh1"]


def test_labels_in_a_block_are_within_its_group() -> None:
    block = "\nblock unit() {\n wide: conv(3, 8)\n relu | narrow(wide)\n}\nblock narrow(like: any_) { tanh }"
    block = block.replace("narrow(wide)", "tanh").split("\nblock narrow")[0]
    assert names(PICTURE + "unit" + block) == ["unit1.wide", "unit1.relu1", "unit1.tanh1"]


def test_repeats_and_stages_are_numbers() -> None:
    assert names(PICTURE + "r: 2 x relu") == ["r.0", "r.1"]
    assert names(PICTURE + "r: [1, 1] x relu") == ["r.0.0", "r.1.0"]
    assert names(PICTURE + "r: 2 x (relu | tanh)") == ["r.0.relu1", "r.0.tanh1", "r.1.relu1", "r.1.tanh1"]


def test_an_unlabelled_repeat_is_named_after_what_it_repeats() -> None:
    assert names(PICTURE + "1 x relu | 1 x relu") == ["relu1.0", "relu2.0"]
    assert names(PICTURE + "1 x (relu | tanh)") == ["repeat1.0.relu1", "repeat1.0.tanh1"]
    assert names(PICTURE + "1 x unit\nblock unit() { relu }") == ["unit1.0.relu1"]


def test_the_designs_example() -> None:
    net = cnnc.load("resnet", variant="50")
    assert net.graph["resnet.2.0.conv1"].shape == (28, 28, 256)
    assert "resnet.2.0.conv1.kernel" in {
        f"{node.name}.{weight}" for node in net.graph for weight in net.graph.weights(node)
    }


def test_a_count_passes_over_labels() -> None:
    assert names(PICTURE + "conv2: conv(3, 8)\nconv(3, 8) | conv(3, 8)") == ["conv2", "conv1", "conv3"]


def test_a_count_passes_over_labels_of_branches() -> None:
    assert names(PICTURE + "stem: relu | add {\n relu2: relu\n relu\n}") == [
        "stem.relu1",
        "stem.relu2",
        "stem.relu3",
        "stem.add1",
    ]
    assert names(PICTURE + "stem: add {\n relu1: relu\n relu\n}") == ["stem.relu1", "stem.relu2", "stem"]
    assert names(PICTURE + "r: 2 x add {\n relu1: relu\n relu\n}")[:3] == ["r.0.relu1", "r.0.relu2", "r.0"]


def test_a_layer_under_a_name_has_a_group_each_time_where_it_has_labels() -> None:
    text = PICTURE + "gate = mul {\n identity\n share: sigmoid\n}\ngate | gate"
    assert names(text) == ["gate1.share", "gate1", "gate2.share", "gate2"]


def test_a_branchs_label_names_its_layer() -> None:
    assert names(PICTURE + "add {\n main: conv(3, 3)\n short: conv(1, 3) | bn\n}") == [
        "main",
        "short.conv1",
        "short.bn1",
        "add1",
    ]


def test_inputs_are_called_input_or_by_their_name() -> None:
    assert [node.name for node in network(PICTURE + "relu").graph.inputs] == ["input"]
    assert [node.name for node in network("input board 19x19x17\nrelu").graph.inputs] == ["board"]


def test_the_output_is_called_output_or_by_its_label() -> None:
    assert network(PICTURE + "last: relu").graph.outputs == (("output", "last"),)
    assert network(PICTURE + "last: relu\noutput last").graph.outputs == (("last", "last"),)


def test_the_model_names_the_graph() -> None:
    assert network("model tiny {\n input 4\n relu\n}").graph.name == "tiny"
    assert cnnc.load("resnet", variant="50").name == cnnc.load("resnet50").name == "resnet50"
    assert cnnc.load("efficientnet", variant="b0").name == "efficientnet_b0"
