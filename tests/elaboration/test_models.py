"""Ideas 8 and 10 of the language, and what a model is made of: pixels, inputs, outputs, imports, budgets, bias."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc import ops as op
from cnnc.backends import reference
from cnnc.diagnostics import CnnError, Source
from cnnc.loading import Spec, examine, find
from cnnc.overrides import Overrides
from tests.support.networks_of_texts import PICTURE, attributes, edges, names, network, operators, ops

# Pixels


def output_of(text: str, *pixels: float) -> list[float]:
    """What a network makes of a picture of one pixel."""
    graph = network(f"input 1x1x{len(pixels)}\n{text}").graph
    values = reference.run(graph, {}, {"input": np.array(pixels).reshape(1, 1, 1, -1)})
    return [float(value) for value in values[graph.outputs[0][1]].ravel()]


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        ("normalize(mean=127, std=128)", [-127 / 128, 0, 1]),
        ("normalize(mean=[0, 100, 255], std=[1, 9, 2])", [0, 3, 0]),
        ("normalize(unit)", [0, 127 / 255, 1]),
        ("normalize(symmetric)", [-1, -1 / 255, 1]),
        # Torchvision's constants for pixels of 0 to 1.
        ("normalize(imagenet)", [-0.485 / 0.229, (127 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]),
        ("bgr", [255, 127, 0]),
        # Caffe's: blue, green, red without their means.
        ("bgr | normalize(mean=[104, 117, 123])", [151, 10, -123]),
    ],
)
def test_preprocessing_is_layers(layers: str, wanted: list[float]) -> None:
    assert output_of(layers, 0, 127, 255) == pytest.approx(wanted, abs=1e-6)


def test_a_preset_of_colours_counts_by_its_average_for_grey() -> None:
    mean, std = 255 * (0.485 + 0.456 + 0.406) / 3, 255 * (0.229 + 0.224 + 0.225) / 3
    assert output_of("normalize(imagenet)", 100) == pytest.approx([(100 - mean) / std])


def test_preprocessing_is_part_of_the_graph() -> None:
    assert edges(PICTURE + "pixels: normalize(unit)\nconv(3, 4)")["conv1"] == ("pixels",)


# Inputs and outputs


def test_several_inputs() -> None:
    graph = network("input a 8x4\ninput b 6\nflat: a | flatten\nconcat(flat, b) | dense(2)").graph
    assert [(node.name, node.shape) for node in graph.inputs] == [("a", (8, 4)), ("b", (6,))]
    assert graph["concat1"].shape == (38,)


def test_inputs_may_be_declared_where_they_are_needed() -> None:
    graph = network("input a 8\none: a | dense(4)\ninput b 8\ntwo: b | dense(4)\nadd(one, two)").graph
    assert graph["add1"].inputs == ("one", "two")


def test_several_outputs() -> None:
    text = "input board 9x9x3\ntrunk: conv(3, 8)\npolicy: trunk | flatten | dense(82) | softmax\n"
    graph = network(text + "value: trunk | globalpool | dense(1) | tanh\noutput policy, value").graph
    assert graph.outputs == (("policy", "policy.softmax1"), ("value", "value.tanh1"))


def test_outputs_may_be_declared_in_several_lines_and_be_inner_results() -> None:
    text = PICTURE + "a: conv(3, 8)\nb: a | relu\noutput a\nc: b | tanh\noutput c, b"
    assert network(text).graph.outputs == (("a", "a"), ("c", "c"), ("b", "b"))


def test_without_a_declaration_the_last_line_is_the_output() -> None:
    assert network(PICTURE + "a: relu\nb: a | tanh\nadd(a, b)").graph.outputs == (("output", "add1"),)


def test_an_input_of_indices() -> None:
    graph = network("input words 12 int\nembedding(100, 8)").graph
    assert graph.inputs[0].op == op.Input((12,), "int")


def test_the_designs_two_headed_network() -> None:
    """Silver et al. 2017: the heads' sizes follow from a board of 19x19."""
    graph = cnnc.load("alphazero", blocks=2).graph
    assert dict(graph.outputs).keys() == {"policy", "value"}
    assert graph["policy.dense1"].shape == (362,)
    assert graph["value.dense2"].shape == (1,)
    assert graph["policy.flatten1"].shape == (2 * 19 * 19,)


# Bias


@pytest.mark.parametrize(
    ("layers", "biases"),
    [
        ("conv(3, 8) | bn", [False]),
        ("conv(3, 8) | relu", [True]),
        ("conv(3, 8) | relu | bn", [True]),
        ("conv(3, 8) | layer_norm", [True]),
        ("depthwise(3) | bn", [False]),
        ("conv_transpose(2, 8) | bn", [False]),
        ("dense(8) | bn", [False]),
        ("conv(3, 8, bias=true) | bn", [True]),
        ("conv(3, 8, bias=false) | relu", [False]),
        ("conv(3, 8, bias=auto) | bn", [False]),
        ("conv(3, 8)", [True]),
    ],
)
def test_a_bias_that_batch_norm_would_undo_is_left_out(layers: str, biases: list[bool]) -> None:
    assert attributes(PICTURE + layers, "bias") == biases


def test_a_bias_stays_where_others_read_the_result_too() -> None:
    assert attributes(PICTURE + "a: conv(3, 8)\nb: bn\nadd(a, b)", "bias") == [True]
    assert attributes(PICTURE + "a: conv(3, 8)\nb: bn\noutput a, b", "bias") == [True]


# Imports


def test_an_import_brings_blocks(tmp_path: Path) -> None:
    (tmp_path / "mine.cnn").write_text("block twice(f: channels) { conv(3, f) | conv(3, f) }\n")
    (tmp_path / "net.cnn").write_text('import "mine.cnn"\nmodel net {\n input 8x8x3\n twice(4)\n}\n')
    assert [node.shape[-1] for node in cnnc.load(tmp_path / "net.cnn").graph] == [3, 4, 4]


def test_imports_are_relative_to_the_file_and_bring_what_they_import(tmp_path: Path) -> None:
    (tmp_path / "blocks" / "deep").mkdir(parents=True)
    (tmp_path / "blocks" / "deep" / "leaf.cnn").write_text("block leaf() { tanh }\n")
    (tmp_path / "blocks" / "tree.cnn").write_text('import "deep/leaf.cnn"\nblock tree() { leaf | relu }\n')
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "net.cnn").write_text('import "../blocks/tree.cnn"\ninput 8x8x3\ntree | leaf\n')
    graph = cnnc.load(tmp_path / "specs" / "net.cnn").graph
    assert [node.op.name for node in graph] == ["input", "tanh", "relu", "tanh"]


def test_a_block_may_come_by_two_ways(tmp_path: Path) -> None:
    (tmp_path / "leaf.cnn").write_text("block leaf() { tanh }\n")
    for name in ("a", "b"):
        (tmp_path / f"{name}.cnn").write_text(f'import "leaf.cnn"\nblock {name}() {{ leaf }}\n')
    (tmp_path / "net.cnn").write_text('import "a.cnn"\nimport "b.cnn"\ninput 8x8x3\na | b | leaf\n')
    assert [node.op.name for node in cnnc.load(tmp_path / "net.cnn").graph][1:] == ["tanh"] * 3


def test_an_imported_block_keeps_the_blocks_it_was_written_with(tmp_path: Path) -> None:
    (tmp_path / "blocks.cnn").write_text("block residual() { tanh }\nblock outer() { residual }\n")
    (tmp_path / "net.cnn").write_text('import "blocks.cnn"\ninput 8x8x3\nouter | residual\n')
    assert [node.op.name for node in cnnc.load(tmp_path / "net.cnn").graph][1:] == ["tanh", "tanh"]


def test_only_blocks_of_an_imported_model_count(tmp_path: Path) -> None:
    text = "model other {\n input 4x4x3\n relu\n}\nblock leaf() { tanh }\ntrain { epochs 9 }\n"
    (tmp_path / "other.cnn").write_text(text)
    (tmp_path / "net.cnn").write_text('import "other.cnn"\nmodel net {\n input 8x8x3\n leaf\n}\n')
    net = cnnc.load(tmp_path / "net.cnn")
    assert net.name == "net"
    assert net.recipe.epochs == 10
    assert net.graph.inputs[0].shape == (8, 8, 3)


def test_a_net_carries_the_text_that_it_can_be_made_of_again(tmp_path: Path) -> None:
    (tmp_path / "leaf.cnn").write_text("block leaf(act: layer = relu) { act }\n")
    (tmp_path / "net.cnn").write_text('# mine\nimport "leaf.cnn"\ninput 8x8x3\nconv(3, 8) | leaf(tanh)\n')
    net = cnnc.load(tmp_path / "net.cnn", width=2)
    again = cnnc.load_text(net.text, overrides=net.overrides)
    assert [(n.name, n.op) for n in again.graph] == [(n.name, n.op) for n in net.graph]


# Budgets


def faults(text: str, **overrides: object) -> list[str]:
    """The messages of a check with budgets."""
    spec = Spec(Source("test.cnn", text), None, "test")
    return [d.message for d in examine(spec, Overrides(**overrides), budgets=True)[1]]  # type: ignore[arg-type]  # by name


CONV = PICTURE + "conv(3, 8)\n"
"""3 * 3 * 3 * 8 + 8 = 224 parameters; 64 * 216 = 13,824 multiply-accumulates."""


@pytest.mark.parametrize(
    "budget",
    [
        "params = 224",
        "macs = 13_824",
        "params = 224, macs = 13824",
        "params < 225",
        "params <= 224",
        "macs = 14k",
        "macs = 13.8k",
        "macs = 13.82k",
        "macs = 13.824K",
        "macs = 0.014M",
        "macs < 1G",
        "params = 0.2k",
    ],
)
def test_a_budget_that_is_met(budget: str) -> None:
    assert faults(CONV + f"expect {budget}") == []


@pytest.mark.parametrize(
    "budget", ["params = 225", "macs = 13.9k", "macs = 13.83k", "params < 224", "params <= 223", "macs = 14.0k"]
)
def test_a_figure_holds_to_its_written_digits(budget: str) -> None:
    (message,) = faults(CONV + f"expect {budget}")
    assert budget.split()[-1] in message


def test_parameters_are_the_trainable_ones() -> None:
    """Batch norm's running statistics are no parameters in the papers' counts."""
    assert faults(PICTURE + "conv(3, 8) | bn\nexpect params = 232") == []


def test_a_budget_may_stand_in_the_model() -> None:
    assert faults("model m {\n input 8x8x3\n conv(3, 8)\n expect params = 225\n}") != []


def test_each_variant_is_held_to_its_own_budgets() -> None:
    text = "model m(f: channels = 8) {\n input 8x8x3\n conv(3, f)\n}\nvariants {\n wide: f=16\n 2: f=2\n}\n"
    assert faults(text + "expect params = 224\nexpect wide: params = 448\nexpect 2: params = 56") == []
    assert len(faults(text + "expect params = 224\nexpect wide: params = 224\nexpect 2: params = 224")) == 2


def test_an_equality_is_not_judged_of_a_model_that_a_flag_has_changed() -> None:
    assert faults(CONV + "expect params = 1", width=2.0) == []
    assert faults(CONV + "expect params < 300", width=2.0) != []


def test_every_bundled_spec_is_found_by_its_name_and_by_its_variants() -> None:
    assert find("resnet").variant is None
    assert find("resnet50").variant == "50"
    assert find("resnet-50").variant == "50"
    assert find("mobilenet_v2_w50").variant == "w50"
    with pytest.raises(CnnError) as error:
        find("resnet51")
    assert error.value.diagnostics[0].code == "spec"


def test_normalisation_names_stay_short() -> None:
    assert names(PICTURE + "bn | batch_norm | ln | layer_norm | gn(1)") == [
        "bn1",
        "bn2",
        "layer_norm1",
        "layer_norm2",
        "group_norm1",
    ]


def test_every_alias_is_its_operator() -> None:
    for alias, kind in op.OPS.items():
        assert alias in kind.names
    assert ops(PICTURE + "silu") == [op.Swish()]
    assert operators(PICTURE + "stochastic_depth(0.1) | depthwise_conv(3)") == ["drop_path", "depthwise"]
