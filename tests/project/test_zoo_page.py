"""docs/zoo.md: its tables are made by `python -m bench.zoo`, and fit the specs as they are."""

from __future__ import annotations

import re
from math import prod

import pytest

import cnnc
from bench.tables import replaced, rows, table
from bench.zoo import amount, family, networks_table
from bench.zoo_comparison import TOLERANCE, fingerprint
from bench.zoo_darknet import cfg
from bench.zoo_lines import spec_lines
from bench.zoo_measured import Entry, fits, made_of, read
from bench.zoo_peers import PEERS
from cnnc import specs
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "zoo.md"
BIASED = ("vgg16", "resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "efficientnet_lite", "mnasnet", "mlp")
"""Whose convolutions have a norm or a bias, as darknet's all do."""
OTHERS = ("densenet121", "xception", "alphazero", "resnext")

Shape = tuple[int, ...]


@pytest.mark.parametrize("name", BIASED + OTHERS)
def test_a_cfg_says_the_same_network(name: str) -> None:
    graph = cnnc.load(name).graph
    written = cfg(graph)
    shape, parameters = shape_and_parameters(written.text)
    if name != "alphazero":  # its last section is the value of the position
        assert written.missing == ()
        assert shape[-1] == graph[graph.outputs[0][1]].shape[-1]
    if name in BIASED:
        assert parameters == graph.trainable_count


def test_a_cfg_is_a_section_a_layer() -> None:
    text = cfg(cnnc.load("resnet18").graph).text
    assert text.startswith("[net]\nbatch=1\nheight=224\nwidth=224\nchannels=3\n\n[convolutional]\nbatch_normalize=1\n")
    assert text.count("[convolutional]") == 20
    assert text.count("[shortcut]") == 8


def test_what_a_cfg_cannot_say_is_named() -> None:
    assert cfg(cnnc.load("convnext").graph).missing == ("`layer_norm`", "`layer_scale`")
    assert "windows of 3 axes" in cfg(cnnc.load("voxnet").graph).missing


def test_lines_of_a_spec_are_those_that_say_something() -> None:
    """voxnet.cnn: 18 lines, of which one a comment and three empty."""
    text = specs.read("voxnet").splitlines()
    empty = sum(not line.strip() or line.startswith("#") for line in text)
    assert spec_lines("voxnet") == len(text) - empty


def test_keras_lines_are_those_of_the_functions_used() -> None:
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    from bench.zoo_lines import keras_lines

    plain, deeper = keras_lines(keras.applications.VGG16), keras_lines(keras.applications.VGG19)
    assert deeper - plain == 3 * 3, "three convolutions more, of three lines each"
    assert keras_lines(keras.applications.ResNet50V2) > 100, "functions of the module for ResNet v1 count"


def test_comparisons_that_are_kept_fit_the_specs() -> None:
    """`python -m bench.zoo` makes those anew that do not."""
    kept = read()
    assert set(kept) == {str(peer) for peer in PEERS}
    for peer in PEERS:
        entry = kept[str(peer)]
        assert entry.graph == fingerprint(peer.net()), f"{peer} is another network now"
        assert entry.difference < TOLERANCE
        assert entry.moved > 0.01


def test_a_comparison_of_another_network_does_not_fit() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("transformers", reason="Hugging Face's transformers is not installed")
    peer = next(peer for peer in PEERS if peer.library == "transformers")
    entry = Entry(fingerprint(peer.net()), made_of(peer), 1, 0.0, 1.0)
    assert fits(peer, entry)
    assert not fits(peer, Entry("0" * 64, made_of(peer), 1, 0.0, 1.0))
    assert not fits(peer, Entry(entry.graph, f"{entry.theirs}, older", 1, 0.0, 1.0))


def test_the_page_has_the_row_that_the_command_makes() -> None:
    """Of one network; all of them take a minute."""
    kept = read()
    found = [(peer, kept[str(peer)]) for peer in PEERS if family(peer) == "mobilenet_v2"]
    row = networks_table(["mobilenet_v2"], found).splitlines()[2]
    assert row in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_page_has_every_network_and_every_comparison() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in specs.names():
        assert text.count(f"\n| `{name}` |") >= 2, f"{name} is not in the tables: python -m bench.zoo --update {PAGE}"
    for entry in read().values():
        assert entry.theirs in text


def test_a_table_takes_the_place_of_the_one_before() -> None:
    text = replaced("a\n<!-- x -->\nold\n<!-- /x -->\nb\n", "x", table(["h"], [["1"]]))
    assert text == "a\n<!-- x -->\n\n| h |\n| --- |\n| 1 |\n\n<!-- /x -->\nb\n"
    assert replaced(text, "x", table(["h"], [["1"]])) == text
    assert rows(replaced(text, "x", table(["h", "g"], [["1", "2 3"], ["4", "-"]])), "x") == [["1", "2 3"], ["4", "-"]]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (8_490_000, "8.49 M"), (15_470_264_320, "15.5 G")]
)
def test_amounts_have_three_digits(number: int, text: str) -> None:
    assert amount(number) == text


def shape_and_parameters(text: str) -> tuple[Shape, int]:
    """Read a cfg as darknet does: the shape after the last section, and the trainable parameters of all."""
    sections = [block.splitlines() for block in text.strip().split("\n\n")]
    named = [(lines[0].strip("[]"), dict(line.split("=") for line in lines[1:])) for lines in sections]
    net = named[0][1]
    shapes: list[Shape] = []
    count = 0
    for at, (kind, keys) in enumerate(named[1:]):
        picture = tuple(int(net[key]) for key in ("height", "width", "channels"))
        height, width, channels = shape = shapes[-1] if shapes else picture
        own = [shapes[at + int(place)] for place in re.findall(r"-\d+", keys.get("layers", keys.get("from", "")))]
        if kind == "convolutional":
            size, stride, filters = (int(keys[key]) for key in ("size", "stride", "filters"))
            zeros = 2 * (size // 2 if "pad" in keys else int(keys.get("padding", 0)))
            count += size * size * channels * filters // int(keys.get("groups", 1))
            count += filters * (2 if "batch_normalize" in keys else 1)
            shape = ((height + zeros - size) // stride + 1, (width + zeros - size) // stride + 1, filters)
        elif kind in ("maxpool", "local_avgpool"):
            size, stride = int(keys["size"]), int(keys["stride"])
            zeros = int(keys.get("padding", size - 1))
            shape = ((height + zeros - size) // stride + 1, (width + zeros - size) // stride + 1, channels)
        elif kind == "connected":
            count += (prod(shape) + 1) * int(keys["output"])
            shape = (1, 1, int(keys["output"]))
        elif kind == "avgpool":
            shape = (1, 1, channels)
        elif kind == "batchnorm":
            count += 2 * channels
        elif kind == "route":
            shape = (*own[0][:2], sum(each[2] for each in own) // int(keys.get("groups", 1)))
        elif kind == "shortcut":
            assert own == [shape], (at, own, shape)
        elif kind == "scale_channels":
            assert shape == (1, 1, own[0][2]), (at, own, shape)
            shape = own[0]
        else:
            assert kind in ("softmax", "dropout", "activation", "normalization"), kind
        shapes.append(shape)
    return shapes[-1], count
