"""Idea 3 of the language: blocks are functions from tensor to tensor, with typed parameters."""

from __future__ import annotations

import pytest

from cnnc import ops as op
from cnnc.diagnostics import CnnError
from tests.support.networks_of_texts import PICTURE, attributes, channels, edges, names, operators, ops, shape


def test_a_block_is_called_like_a_layer_wherever_it_is_defined() -> None:
    block = "block twice(filters: channels) { conv(3, filters) | conv(1, filters) }\n"
    assert channels(PICTURE + block + "twice(8)") == channels(PICTURE + "twice(8)\n" + block) == [8, 8]


@pytest.mark.parametrize(
    ("parameter", "argument", "layer", "wanted"),
    [
        ("n: int", "4", "dense(n)", op.Dense(4, bias=True)),
        ("rate: float", "0.5", "dropout(rate)", op.Dropout(0.5)),
        ("rate: float", "0", "dropout(rate)", op.Dropout(0.0)),
        ("keep: bool", "true", "globalpool(keepdims=keep)", op.GlobalPool(keepdims=True)),
        ("k: dims", "3x1", "maxpool(k)", op.MaxPool((3, 1), (3, 1))),
        ("k: dims", "3", "maxpool(k)", op.MaxPool((3, 3), (3, 3))),
        ("f: channels", "5", "conv(1, f)", op.Conv((1, 1), 5, (1, 1), "same", (1, 1), bias=True)),
        ("act: layer", "leaky_relu(0.25)", "act", op.LeakyRelu(0.25)),
        ("how: string", '"max"', "globalpool(how)", op.GlobalPool("max")),
        ("anything", "0.5", "dropout(anything)", op.Dropout(0.5)),
        ("anything", "leaky_relu(0.25)", "anything", op.LeakyRelu(0.25)),
    ],
)
def test_every_type_of_parameter(parameter: str, argument: str, layer: str, wanted: op.Op) -> None:
    assert ops(f"{PICTURE}b({argument})\nblock b({parameter}) {{ {layer} }}") == [wanted]


@pytest.mark.parametrize(
    ("default", "argument"),
    [("1", "0.5"), ("0.5", "true"), ("true", "1"), ("3x3", "true"), ('"a"', "1"), ("3x3", "0.5")],
)
def test_a_default_gives_its_parameter_the_type(default: str, argument: str) -> None:
    with pytest.raises(CnnError) as error:
        ops(f"{PICTURE}b({argument})\nblock b(p={default}) {{ relu }}")
    assert error.value.diagnostics[0].code == "type"


def test_repeats_count_a_blocks_repeats() -> None:
    assert channels(PICTURE + "b(3)\nblock b(n: repeats) { n x conv(3, 4) }") == [4, 4, 4]


def test_a_default_may_use_earlier_parameters_and_what_came_in() -> None:
    text = PICTURE + "b(2)\nblock b(f: channels, more: channels = f * 2, last: channels = in.channels) {\n"
    assert channels(text + "conv(1, f) | conv(1, more) | conv(1, last) }") == [2, 4, 3]


@pytest.mark.parametrize(
    ("sizes", "attribute", "value"),
    [
        ("16", "channels", 16),
        ("16", "rank", 0),
        ("9x4", "channels", 4),
        ("9x4", "length", 9),
        ("9x4", "rank", 1),
        ("6x7x5", "channels", 5),
        ("6x7x5", "height", 6),
        ("6x7x5", "width", 7),
        ("6x7x5", "rank", 2),
        ("2x6x7x5", "channels", 5),
        ("2x6x7x5", "depth", 2),
        ("2x6x7x5", "height", 6),
        ("2x6x7x5", "width", 7),
        ("2x6x7x5", "rank", 3),
    ],
)
def test_in_tells_what_came_in(sizes: str, attribute: str, value: int) -> None:
    text = f"input {sizes}\nb\nblock b() {{ dense(in.{attribute} + 1) }}"
    assert channels(text) == [value + 1]


@pytest.mark.parametrize("sizes", ["16", "9x4", "6x7x5", "2x6x7x5"])
def test_in_shape_is_dims(sizes: str) -> None:
    text = f"input {sizes}\nrelu | b\nblock b() {{ flatten | reshape(in.shape) }}"
    assert "x".join(map(str, shape(text))) == sizes


def test_a_label_has_the_attributes_that_in_has() -> None:
    text = PICTURE + "b\nblock b() {\n wide: conv(1, 6)\n maxpool(2)\n conv(1, wide.channels * 2)\n}"
    assert channels(text) == [6, 6, 12]


def test_in_stays_what_came_into_the_block() -> None:
    text = PICTURE + "conv(3, 8) | b\nblock b() {\n conv(1, 2)\n conv(1, in.channels)\n add(in, tanh)\n}"
    assert edges(text) == {
        "conv1": ("input",),
        "b1.conv1": ("conv1",),
        "b1.conv2": ("b1.conv1",),
        "b1.tanh1": ("b1.conv2",),
        "b1.add1": ("conv1", "b1.tanh1"),
    }


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        ("relu", ["conv", "relu"]),
        ("relu()", ["conv", "relu"]),
        ("identity", ["conv"]),
        ("conv(1, 4) | bn | relu", ["conv", "conv", "bn", "relu"]),
        ("2 x tanh", ["conv", "tanh", "tanh"]),
        ("se(2)", ["conv", "globalpool", "conv", "relu", "conv", "sigmoid", "mul"]),
        ("mul {\n identity\n sigmoid\n }", ["conv", "sigmoid", "mul"]),
        ("relu if true else tanh", ["conv", "relu"]),
        ("(relu if false)", ["conv"]),
    ],
)
def test_a_layer_as_argument_may_be_any_layer(argument: str, wanted: list[str]) -> None:
    assert (
        operators(f"{PICTURE}b(8, {argument})\nblock b(f: channels, act: layer = relu) {{ conv(3, f) | act }}")
        == wanted
    )


def test_a_layer_is_handed_on_through_blocks() -> None:
    text = PICTURE + "outer(swish)\nblock outer(act: layer) { inner(act=act) }\nblock inner(act: layer) { act | act }"
    assert operators(text) == ["swish", "swish"]


def test_a_layer_sees_the_names_of_where_it_was_written() -> None:
    text = PICTURE + "slope = 0.5\nb(leaky_relu(slope))\nblock b(act: layer, slope=0.1) { act }"
    assert ops(text) == [op.LeakyRelu(0.5)]


def test_the_user_of_a_layer_adds_arguments() -> None:
    text = PICTURE + "b(conv(bias=false))\nblock b(c: layer) { c(3, 4) | c(1, 8, stride=2) }"
    convs = ops(text)
    assert [(c.kernel, c.filters, c.stride, c.bias) for c in convs] == [  # type: ignore[attr-defined]  # both are Conv
        ((3, 3), 4, (1, 1), False),
        ((1, 1), 8, (2, 2), False),
    ]
    assert ops(PICTURE + "b(leaky_relu)\nblock b(act: layer) { act(0.2) | act(slope=0.3) }") == [
        op.LeakyRelu(0.2),
        op.LeakyRelu(0.3),
    ]


def test_an_added_argument_replaces_one_of_that_name() -> None:
    text = PICTURE + "b(norm=bn(momentum=0.5, epsilon=1e-3))\nblock b(norm: layer = bn) { norm(momentum=0.75) }"
    assert ops(text) == [op.BatchNorm(0.75, 1e-3)]


def test_a_layer_may_have_a_name() -> None:
    text = PICTURE + "unit = conv(3, bias=false)\nact = leaky_relu(0.2)\nunit(8) | act | unit(4, stride=2) | act"
    assert operators(text) == ["conv", "leaky_relu", "conv", "leaky_relu"]
    assert channels(text) == [8, 8, 4, 4]


def test_numbers_may_have_names() -> None:
    assert channels(PICTURE + "middle = 2 * 3\nlast = middle // 2\nconv(1, middle) | conv(1, last)") == [6, 3]


@pytest.mark.parametrize(("stride", "wanted"), [("1", ["relu"]), ("2", ["conv", "tanh"]), ("3", ["conv"])])
def test_if_takes_one_of_its_bodies(stride: str, wanted: list[str]) -> None:
    block = """block b(stride) {
      if stride == 1 {
        relu
      } else if stride == 2 {
        conv(3, 4)
        tanh
      }
      else { conv(1, 4) }
    }"""
    assert operators(f"{PICTURE}b({stride})\n{block}") == wanted


def test_if_without_else_may_leave_everything_as_it_is() -> None:
    text = PICTURE + "b(1) | relu\nblock b(stride) { if stride != 1 { maxpool(stride) } }"
    assert edges(text) == {"relu1": ("input",)}


def test_a_label_in_a_body_of_if_is_known_after_it() -> None:
    text = PICTURE + "b(true) | b(false)\nblock b(wide) {\n if wide { a: conv(1, 8) } else { a: conv(1, 2) }\n"
    assert channels(text + " tanh\n add(a, sigmoid)\n}") == [8, 8, 8, 8, 2, 2, 2, 2]


def test_dims_equal_a_number_when_every_axis_does() -> None:
    text = PICTURE + "b(1) | b(1x1) | b(2) | b(2x1)\nblock b(s: dims) { if s == 1 { relu } else { tanh } }"
    assert operators(text) == ["relu", "relu", "tanh", "tanh"]


def test_a_block_sees_nothing_of_its_caller() -> None:
    with pytest.raises(CnnError, match="nothing is named `secret`"):
        ops("model m(secret=4) {\n input 8x8x3\n b\n}\nblock b() { conv(3, secret) }")


def test_a_files_own_block_shadows_the_preludes() -> None:
    text = PICTURE + "conv(1, 8) | residual\nblock residual() { tanh }"
    assert operators(text) == ["conv", "tanh"]


def test_the_preludes_own_blocks_are_not_shadowed_within_it() -> None:
    """`mbconv` of the prelude goes on to use the prelude's `se`."""
    text = PICTURE + "mbconv(filters=4, expand=1)\nblock se(squeezed: channels, act: layer = relu) { tanh }"
    assert "tanh" not in operators(text)
    assert operators(text).count("globalpool") == 1


def test_blocks_call_blocks() -> None:
    text = (
        PICTURE
        + "outer(4)\nblock outer(f: channels) { inner(f) | inner(f * 2) }\nblock inner(f: channels) { conv(3, f) }"
    )
    assert names(text) == ["outer1.inner1.conv1", "outer1.inner2.conv1"]
    assert attributes(text, "filters") == [4, 8]


def test_a_block_may_take_no_parameters() -> None:
    assert operators(PICTURE + "b | b()\nblock b { relu }") == ["relu", "relu"]


CELL = """
block cell(before: tensor = in.before) {
  add {
    tanh
    before | relu
  }
}
"""


def test_a_result_of_elsewhere_comes_in_as_a_tensor() -> None:
    text = PICTURE + "a: relu\nb: tanh\n2 x joined(skip=[a, b])\nblock joined(skip: tensor) { add(in, skip) }"
    assert edges(text)["joined1.0.add1"] == ("b", "a")
    assert edges(text)["joined1.1.add1"] == ("joined1.0.add1", "b")


def test_a_block_may_see_the_two_results_before_it() -> None:
    found = edges(PICTURE + "stem: relu\nc: cell(before=stem) | 3 x cell" + CELL)
    own = {name: source for name, (source,) in ((n, e) for n, e in found.items() if n.endswith("tanh1"))}
    older = {name: source for name, (source,) in ((n, e) for n, e in found.items() if n.endswith("relu1"))}
    results = ["stem", "c.cell1.add1", "c.cell2.0.add1", "c.cell2.1.add1"]
    assert list(own.values()) == results
    assert [source for name, source in older.items() if name != "stem"] == ["stem", *results[:3]]


def test_a_line_may_start_from_what_came_in_before() -> None:
    text = PICTURE + "stem: relu\na: cell(before=stem)\nb: cell\nadd { b.before | elu\n a.before | tanh\n b }" + CELL
    assert edges(text)["elu1"] == ("a.add1",)
    assert edges(text)["tanh1"] == ("stem",)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("relu | cell", "`in.before` is what came into the block that made a result, but no block made this one"),
        ("cell(tanh)", "`before` is a tensor, but `tanh` is a layer"),
        ("cell(3)", "`before` is a tensor, but `3` is a whole number"),
    ],
)
def test_what_is_no_result_of_before_is_refused(call: str, message: str) -> None:
    with pytest.raises(CnnError) as error:
        ops(PICTURE + call + CELL)
    assert [(d.code, d.message) for d in error.value.diagnostics] == [("type", message)]


def test_an_error_in_a_result_is_not_told_again_where_it_comes_in() -> None:
    with pytest.raises(CnnError) as error:
        ops(PICTURE + "a: conv(9x9x9, 4)\nb: input | tanh\nb | cell(before=a)" + CELL)
    assert len(error.value.diagnostics) == 1


SPLIT = "block split {\n  part: relu\n  add(in, part | tanh)\n}\n"


def test_a_label_within_a_block_is_read_from_outside() -> None:
    found = edges(PICTURE + "a: split\nadd(a, a.part)\n" + SPLIT)
    assert found["add1"] == ("a.add1", "a.part")
    assert edges(PICTURE + "a: split\nb: a.part | elu\nadd(a, b)\n" + SPLIT)["b"] == ("a.part",)


def test_a_label_of_a_repeated_block_is_the_list_of_all_turns() -> None:
    found = edges(PICTURE + "a: 3 x split\nconcat(a, a.part)\n" + SPLIT)
    assert found["concat1"] == ("a.2.add1", "a.0.part", "a.1.part", "a.2.part")
    found = edges(PICTURE + "a: [1, 2] x split\nconcat {\n a.part\n identity\n}\n" + SPLIT)
    assert found["concat1"] == ("a.0.0.part", "a.1.0.part", "a.1.1.part", "a.1.1.add1")
    found = edges(
        PICTURE + "a: 2 x split\n2 x joined(skip=a.part)\nblock joined(skip: tensor) { add(in, skip) }\n" + SPLIT
    )
    assert [found[f"joined1.{turn}.add1"][1] for turn in (0, 1)] == ["a.0.part", "a.1.part"]


def test_a_block_may_be_read_by_its_labels_alone() -> None:
    """What only led to the result that nothing reads is left out."""
    assert names(PICTURE + "a: 2 x split\nadd(a.part)\n" + SPLIT) == [
        "a.0.part",
        "a.0.tanh1",
        "a.0.add1",
        "a.1.part",
        "add1",
    ]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("a.part | elu", "type", "`a.part` is 2 results, one a turn"),
        ("add(a, a.path)", "name", "a tensor has no `path`"),
        ("b: tanh\nadd(b, b.part)", "name", "a tensor has no `part`"),
    ],
)
def test_labels_that_cannot_be_read_are_refused(line: str, code: str, message: str) -> None:
    with pytest.raises(CnnError) as error:
        ops(PICTURE + "a: 2 x split\n" + line + "\n" + SPLIT)
    assert [(d.code, d.message) for d in error.value.diagnostics] == [(code, message)]
