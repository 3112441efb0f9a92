"""Layers of a file and operators of a graph: found where something tells, an error where nothing does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnnc
from cnnc import specs
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.ops import BatchNorm
from cnnc.weights.importing.combine import Options, combine
from cnnc.weights.importing.mapping import read_mapping
from cnnc.weights.importing.source import Source
from tests import weight_sources as made

SLOW: Final = ("alphafold", "vgg")
OPEN: Final = "it is open which of"
SMALL: Final = (
    "alphazero",
    "astronet",
    "inception_v1",
    "mobilenet_v2",
    "resnet",
    "resnet3d",
    "squeezenet",
    "unet",
    "xception",
)
"""Specs with few layers, or with branches that have equal ones."""


def graph_of(spec: str) -> Graph:
    return cnnc.load(spec).graph


def is_same(graph: Graph, source: Source, options: Options | None = None) -> bool:
    """Whether the network computes with what is imported what it did with the weights that the file is made of."""
    imported = combine(graph, source, options or Options())
    return made.functions(graph, imported.weights) == made.functions(graph, made.marked(graph))


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(each, marks=[pytest.mark.slow] if each in SLOW else [])
        for each in specs.names()
        if each not in ("wavenet", "qanet")
    ],
)
def test_connections_alone_tell_all_layers(spec: str) -> None:
    graph = graph_of(spec)
    target = made.plain(graph)
    scrambled = np.random.default_rng(0).permutation(len(target.units))
    names = {unit.name: f"x{number}" for unit, number in zip(target.units, scrambled, strict=True)}
    order = made.any_order(target, 1)
    source = made.made_of(
        target, made.marked(graph), lambda unit: names[unit.name], sequence=order, with_graph=True, order="running"
    )
    assert is_same(graph, source)


def test_a_gate_is_not_taken_for_what_it_gates() -> None:
    """`tanh` behind one convolution and `sigmoid` behind the other are in no file."""
    graph = graph_of("wavenet")
    target = made.plain(graph)
    names = {unit.name: f"x{place * 7919 % 1000:03}" for place, unit in enumerate(target.units)}
    source = made.made_of(target, made.marked(graph), lambda unit: names[unit.name], with_graph=True, order="running")
    with pytest.raises(CnnError, match=OPEN) as raised:
        combine(graph, source, Options())
    assert "`stack.0.z.conv1`, `stack.0.z.conv2`" in str(raised.value)
    named = made.made_of(
        target,
        made.marked(graph),
        lambda unit: re.sub(r"z\.conv(\d)", lambda found: ("filter", "gate")[int(found[1]) - 1], unit.name),
        with_graph=True,
    )
    with pytest.raises(CnnError, match=OPEN):
        combine(graph, named, Options())
    assert is_same(graph, named, Options(trust_order=True))


@pytest.mark.slow  # of a hundred networks
@given(st.sampled_from(SMALL), st.integers(0, 2**16), st.sampled_from(["all", "kinds"]), st.booleans())
def test_names_that_count_are_right_or_refused(spec: str, seed: int, style: str, keeps_order: bool) -> None:
    """Which of two branches an author wrote first is nobody's to guess."""
    graph = graph_of(spec)
    target = made.plain(graph)
    order = made.any_order(target, seed)
    name = made.by_creation(target, order, style)
    source = made.made_of(target, made.marked(graph), name, sequence=order, order="written" if keeps_order else "names")
    try:
        assert is_same(graph, source)
    except CnnError as error:
        assert OPEN in str(error)  # noqa: PT017  # being right is no error


@pytest.mark.slow  # of a hundred networks
@given(st.integers(0, 2**16), st.sampled_from(SMALL))
def test_names_that_say_nothing_are_right_or_refused(seed: int, spec: str) -> None:
    graph = graph_of(spec)
    target = made.plain(graph)
    numbers = np.random.default_rng(seed).permutation(len(target.units))
    words = {unit.name: _word(int(number)) for unit, number in zip(target.units, numbers, strict=True)}
    source = made.made_of(target, made.marked(graph), lambda unit: words[unit.name], order="names")
    try:
        assert is_same(graph, source)
    except CnnError as error:
        assert OPEN in str(error)  # noqa: PT017


def _word(number: int) -> str:
    return "".join(chr(97 + number // 26**place % 26) for place in range(3))


@pytest.mark.parametrize("arrange", [made.own_order, made.outputs_first, made.outputs_around])
@pytest.mark.parametrize(
    "text",
    [
        "input 9x8x3\nconv(3x2, 5) | conv(1, 4) | relu | conv(2, 6, groups=2) | flatten | dense(7)",
        "input 9x8x3\ndepthwise(3x2) | bn | depthwise(2, multiplier=2) | globalpool | dense(5)",
        "input 8x7x3\nconv_transpose(3x2, 5, stride=2) | prelu | conv_transpose(1x2, 4, bias=false) | bn",
        "input 20x3\nconv(3, 5) | layer_norm | depthwise(5) | attention(1) | flatten | dense(2)",
        "input 7x6x5x2\nconv(3x2x1, 4) | group_norm(2) | conv_transpose(2x1x3, 3) | depthwise(2x2x1)",
        "input 12 int\nembedding(11, 6) | conv(3, 5) | layer_scale | globalpool | dense(3)",
    ],
    ids=["2-D", "depthwise", "transposed", "1-D", "3-D", "embedding"],
)
def test_axes_come_back_exactly(text: str, arrange: made.Arrange) -> None:
    graph = cnnc.load_text(text).graph
    weights = made.noise(graph, 0)
    source = made.made_of(made.plain(graph), weights, lambda unit: unit.name, arrange=arrange)
    found = combine(graph, source, Options())
    for node, short, _ in made.arrays(graph):
        np.testing.assert_array_equal(found.weights[node][short], weights[node][short], f"{node}.{short}")
    assert not found.initial
    assert not found.unused


# Names of others


def keras_resnet(name: str) -> str:
    if found := re.fullmatch(r"resnet\.(\d)\.(\d+)\.(.*)", name):
        inner = found[3].replace("shortcut1.conv1", "0_conv").replace("shortcut1.bn1", "0_bn")
        inner = re.sub(r"^(conv|bn)(\d)$", r"\2_\1", inner)
        return f"conv{int(found[1]) + 2}_block{int(found[2]) + 1}_{inner}"
    return {"entry.conv1": "conv1_conv", "entry.bn1": "conv1_bn"}.get(name, "predictions")


def torchvision_resnet(name: str) -> str:
    if found := re.fullmatch(r"resnet\.(\d)\.(\d+)\.(.*)", name):
        inner = found[3].replace("shortcut1.conv1", "downsample.0").replace("shortcut1.bn1", "downsample.1")
        return f"layer{int(found[1]) + 1}.{found[2]}.{inner}"
    return {"entry.conv1": "conv1", "entry.bn1": "bn1"}.get(name, "fc")


def torchvision_densenet(name: str) -> str:
    name = name.replace("bn", "norm")
    if found := re.fullmatch(r"body\.(\d)\.dense_layer1\.(\d+)\.(.*)", name):
        return f"features.denseblock{int(found[1]) + 1}.denselayer{int(found[2]) + 1}.{found[3]}"
    if found := re.fullmatch(r"body\.(\d)\..*?(norm|conv)1", name):
        return f"features.transition{int(found[1]) + 1}.{found[2]}"
    if "dense" in name:
        return "classifier"
    return {"stem.conv1": "features.conv0", "stem.norm1": "features.norm0"}.get(name, "features.norm5")


def torchvision_googlenet(name: str) -> str:
    *scope, last = name.split(".")
    if scope[0] == "stem":
        return f"{last}.conv"
    branches = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
    if found := re.fullmatch(r"conv(\d)", last):
        return f"inception{scope[0][1]}{scope[0][0]}.{branches[int(found[1]) - 1]}.conv"
    return "fc"


def torchvision_inception(name: str) -> str:
    """The first blocks of Inception v3, three of 35x35; others by their own names."""
    branches = {
        "unit1": "branch1x1",
        "unit2": "branch5x5_1",
        "unit3": "branch5x5_2",
        "unit4": "branch3x3dbl_1",
        "unit5.0": "branch3x3dbl_2",
        "unit5.1": "branch3x3dbl_3",
        "unit6": "branch_pool",
    }
    if found := re.fullmatch(r"grid35\.(\d)\.(.*)\.(conv|bn)1", name):
        return f"Mixed_5{'bcd'[int(found[1])]}.{branches[found[2]]}.{found[3]}"
    return re.sub(r"(conv|bn)1$", r"\1", name)


def renamed(graph: Graph, name: Callable[[str], str], order: made.Order) -> Source:
    """A file that holds marked weights under others' names; in natural order of these, or in ours."""
    from cnnc.weights.importing.state_dict import natural

    target = made.plain(graph)
    sequence = list(range(len(target.units)))
    if order == "names":
        sequence.sort(key=lambda place: natural(name(target.units[place].name)))
    return made.made_of(target, made.marked(graph), lambda unit: name(unit.name), sequence=sequence, order=order)


@pytest.mark.parametrize("order", ["names", "written"])
@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("resnet", torchvision_resnet),
        ("densenet", torchvision_densenet),
        ("inception_v1", torchvision_googlenet),
    ],
)
def test_names_of_torchvision_tell_all_layers(spec: str, name: Callable[[str], str], order: made.Order) -> None:
    graph = graph_of(spec)
    assert is_same(graph, renamed(graph, name, order))


def test_norms_are_found_beside_their_convolutions() -> None:
    """Inception's equal norms on parallel branches, and its convolutions behind pools."""
    text = """
    input 16x16x8
    stem: unit(3x3, 24)
    grid35: 3 x mixed
    head: globalpool | dense(5)
    block unit(kernel: dims, filters: channels) { conv(kernel, filters) | bn | relu }
    block mixed {
      concat {
        unit(1x1, 6)
        unit(1x1, 5) | unit(5x5, 6)
        unit(1x1, 6) | 2 x unit(3x3, 6)
        avgpool(3x3, stride=1) | unit(1x1, 6)
      }
    }
    """
    graph = cnnc.load_text(text).graph
    for order in ("names", "written"):
        assert is_same(graph, renamed(graph, torchvision_inception, order))


def test_keras_names_do_not_tell_a_projection() -> None:
    """`conv2_block1_0_conv` and `conv2_block1_3_conv` are of one shape in the first stage; only a graph knows more."""
    graph = graph_of("resnet")
    source = renamed(graph, keras_resnet, "names")
    with pytest.raises(CnnError, match=OPEN) as raised:
        combine(graph, source, Options())
    said = str(raised.value)
    assert "it is open which of 4 layers of" in said
    assert (
        "`conv2_block1_0_conv`, `conv2_block1_3_conv` of the file could each be any of `resnet.0.0.conv3`, "
        "`resnet.0.0.shortcut1.conv1`" in said
    )


def test_the_lines_that_an_error_proposes_are_a_mapping(tmp_path: Path) -> None:
    graph = graph_of("resnet")
    source = renamed(graph, keras_resnet, "names")
    with pytest.raises(CnnError) as raised:
        combine(graph, source, Options())
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.help is not None
    lines = diagnostic.help.split("\n")[1:]
    assert len(lines) == 4
    path = tmp_path / "map.txt"
    path.write_text("\n".join(lines))
    assert not is_same(graph, source, Options(given=read_mapping(path)))
    # The other way round, as these names have it.
    rights = [line.partition(" = ")[2] for line in lines]
    turned = [rights[1], rights[0], rights[3], rights[2]]
    lefts = [line.partition(" = ")[0] for line in lines]
    path.write_text("".join(f"{left} = {right}  # said\n" for left, right in zip(lefts, turned, strict=True)))
    assert is_same(graph, source, Options(given=read_mapping(path)))
    by = {line.source: line.evidence for line in combine(graph, source, Options(given=read_mapping(path))).lines}
    assert by["conv2_block1_0_conv"] == "map"


def test_our_own_names_need_nothing_else() -> None:
    for spec in ("wavenet", "qanet", "resnet", "shufflenet_v2"):
        graph = graph_of(spec)
        source = renamed(graph, lambda name: name, "names")
        assert is_same(graph, source)
        assert {line.evidence for line in combine(graph, source, Options()).lines} == {"name"}


# Norms in and out of convolutions

NORMED = "input 6x5x3\nconv(3x3, 4) | bn(epsilon=1e-3) | relu | depthwise(3x3, bias=false) | bn | flatten | dense(2)"


def close(graph: Graph, ours: Any, theirs: Any) -> None:
    """Two sets of weights, of two graphs perhaps, compute the same."""
    pixels = np.random.default_rng(5).normal(size=(3, *graph.inputs[0].shape)).astype(np.float32)
    net, other = ours[0], theirs[0]
    one, two = np.asarray(net.apply(ours[1], pixels)), np.asarray(other.apply(theirs[1], pixels))
    assert np.abs(one - two).max() < 1e-5 * np.ptp(two)


def test_norms_that_a_file_has_folded_are_neutral_but_for_their_offsets() -> None:
    plain = cnnc.load_text(re.sub(r" \| bn(\(.*?\))?", "", NORMED).replace("bias=false", "bias=true"))
    weights = made.noise(plain.graph, 1)
    source = made.made_of(made.plain(plain.graph), weights, lambda unit: f"of.{unit.name}")
    for spec in (NORMED, NORMED.replace("bn(epsilon=1e-3)", "bn(epsilon=0.1, scale=false)")):
        net = cnnc.load_text(spec)
        found = combine(net.graph, source, Options())
        close(net.graph, (net, found.weights), (plain, weights))
        assert not found.initial


def test_norms_of_a_file_go_into_convolutions_where_the_network_has_none() -> None:
    net = cnnc.load_text(NORMED)
    weights = made.noise(net.graph, 2)
    source = made.made_of(made.plain(net.graph), weights, lambda unit: f"of.{unit.name}")
    source = with_epsilons(net.graph, source)
    plain = cnnc.load_text(re.sub(r" \| bn(\(.*?\))?", "", NORMED).replace("bias=false", "bias=true"))
    found = combine(plain.graph, source, Options())
    close(plain.graph, (plain, found.weights), (net, weights))


@pytest.mark.parametrize("scale", ["true", "false"])
def test_a_norm_of_another_epsilon_does_the_same(scale: str) -> None:
    text = f"input 6x5x3\nconv(3x3, 4) | bn(epsilon=%s, scale={scale})"
    theirs, ours = cnnc.load_text(text % "0.1"), cnnc.load_text(text % "1e-5")
    weights = made.noise(theirs.graph, 3)
    source = made.made_of(made.plain(theirs.graph), weights, lambda unit: unit.name)
    found = combine(ours.graph, with_epsilons(theirs.graph, source), Options())
    close(ours.graph, (ours, found.weights), (theirs, weights))


def test_a_bias_before_a_norm_goes_into_its_mean() -> None:
    theirs = cnnc.load_text("input 6x5x3\nconv(3x3, 4, bias=true) | bn")
    ours = cnnc.load_text("input 6x5x3\nconv(3x3, 4, bias=false) | bn")
    weights = made.noise(theirs.graph, 3)
    source = made.made_of(made.plain(theirs.graph), weights, lambda unit: unit.name)
    found = combine(ours.graph, source, Options())
    close(ours.graph, (ours, found.weights), (theirs, weights))


def with_epsilons(graph: Graph, source: Source) -> Source:
    """The file, knowing the epsilons of its norms."""
    from dataclasses import replace

    norms = [unit.node.op for unit in made.plain(graph).units]
    layers = [
        replace(layer, epsilon=op.epsilon) if isinstance(op, BatchNorm) else layer
        for layer, op in zip(source.layers, norms, strict=True)
    ]
    return replace(source, layers=tuple(layers))


def test_dense_after_a_flatten_of_channels_first(tmp_path: Path) -> None:
    from dataclasses import replace

    net = cnnc.load_text("input 3x2x4\nflatten | dense(5)")
    weights = made.noise(net.graph, 4)
    ours = weights["dense1"]["kernel"]
    theirs = ours.reshape(3, 2, 4, 5).transpose(2, 0, 1, 3).reshape(24, 5)
    source = made.made_of(made.plain(net.graph), {"dense1": {**weights["dense1"], "kernel": theirs}}, lambda _: "fc")
    found = combine(net.graph, replace(source, channels_first=True), Options())
    np.testing.assert_array_equal(found.weights["dense1"]["kernel"], ours)
    assert found.lines[0].change == "CHW to HWC"


def test_colours_change_places_where_one_side_alone_turns_them() -> None:
    from dataclasses import replace

    spec = "input 4x4x3\n%sconv(2, 5)"
    rgb, bgr = cnnc.load_text(spec % ""), cnnc.load_text(spec % "bgr | ")
    weights = made.noise(rgb.graph, 4)
    source = made.made_of(made.plain(rgb.graph), weights, lambda _: "conv")
    turned = weights["conv1"]["kernel"][:, :, ::-1]
    for net, says, wanted in (
        (rgb, True, turned),
        (bgr, True, weights["conv1"]["kernel"]),
        (rgb, None, weights["conv1"]["kernel"]),
        (bgr, False, turned),
    ):
        found = combine(net.graph, replace(source, bgr=says), Options())
        np.testing.assert_array_equal(found.weights["conv1"]["kernel"], wanted)


# What does not fit

HEADED = "input 8x8x3\nbody: conv(3x3, 4) | bn | relu\nhead: globalpool | dense(%d)"


def headed(classes: int) -> tuple[Graph, Source]:
    graph = cnnc.load_text(HEADED % classes).graph
    return graph, made.made_of(made.plain(graph), made.noise(graph, 6), lambda unit: f"of.{unit.name}")


def test_a_class_is_dropped() -> None:
    graph, _ = headed(10)
    bigger, source = headed(11)
    with pytest.raises(CnnError, match="--drop-class 0"):
        combine(graph, source, Options())
    found = combine(graph, source, Options(drop_class=3))
    kernel = made.noise(bigger, 6)["head.dense1"]["kernel"]
    np.testing.assert_array_equal(found.weights["head.dense1"]["kernel"], np.delete(kernel, 3, axis=1))
    assert "class 3 dropped" in found.lines[-1].change
    with pytest.raises(CnnError, match="there is no class 11 to drop"):
        combine(graph, source, Options(drop_class=11))
    with pytest.raises(CnnError, match="there is no class to drop"):
        combine(bigger, source, Options(drop_class=0))


def test_a_head_of_others_is_an_error_or_stays_as_it_was() -> None:
    graph, _ = headed(10)
    _, source = headed(20)
    with pytest.raises(CnnError, match=r"--partial leaves `head\.dense1` at its first values") as raised:
        combine(graph, source, Options())
    assert "`of.head.dense1 (kernel 4x20, bias 20)`" in str(raised.value)
    found = combine(graph, source, Options(partial=True, seed=7))
    assert found.initial == ("head.dense1.kernel", "head.dense1.bias")
    assert found.unused == ("of.head.dense1/kernel", "of.head.dense1/bias")
    again = combine(graph, source, Options(partial=True, seed=7))
    np.testing.assert_array_equal(found.weights["head.dense1"]["kernel"], again.weights["head.dense1"]["kernel"])


def test_tensors_too_many_and_too_few_are_named() -> None:
    from dataclasses import replace

    graph, source = headed(10)
    first, *rest = source.layers
    with pytest.raises(CnnError, match=r"the file has nothing for `body\.conv1 \(kernel 3x3x3x4\)`"):
        combine(graph, replace(source, layers=tuple(rest)), Options())
    more = replace(first, name="strange", tensors={"kernel": first.tensors["kernel"]})
    more = replace(more, tensors={"kernel": replace(more.tensors["kernel"], array=np.zeros((5, 5, 3, 4), np.float32))})
    with pytest.raises(CnnError, match=r"the network has no place for `strange \(kernel 5x5x3x4\)`"):
        combine(graph, replace(source, layers=(*source.layers, more)), Options())
    norm = source.layers[1]
    without = replace(source.layers[2], tensors={"kernel": source.layers[2].tensors["kernel"]})
    assert norm.kind == "batch_norm"
    with pytest.raises(CnnError, match=r"lacks `head\.dense1\.bias`"):
        combine(graph, replace(source, layers=(first, norm, without)), Options())


def test_weights_of_another_network_are_said_to_be() -> None:
    _, source = headed(10)
    with pytest.raises(CnnError, match="is of another network"):
        combine(graph_of("resnet"), source, Options())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv", "`conv` is no pair"),
        ("of.body.conv1 =", "is no pair"),
        ("nothing = body.conv1", "has no layer `nothing`"),
        ("of.body.conv1 = body.conv9", "the network has no layer `body.conv9`"),
        ("of.body.conv1 = body.conv1\nof.body.conv1 = body.bn1", "has a line already"),
    ],
)
def test_lines_of_a_mapping_that_cannot_be(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_text(text)
    graph, source = headed(10)
    with pytest.raises(CnnError, match=re.escape(message)):
        combine(graph, source, Options(given=read_mapping(path)))


def test_a_line_of_a_mapping_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_text("of.head.dense1 = body.conv1\n")
    graph, source = headed(10)
    with pytest.raises(CnnError, match=r"--map pairs `of\.head\.dense1 .*` with `body\.conv1"):
        combine(graph, source, Options(given=read_mapping(path), partial=True))


def test_square_kernels_of_unknown_order_ask() -> None:
    from dataclasses import replace

    graph = cnnc.load_text("input 9x9x3\nconv(3x3, 3, bias=false)").graph
    weights = made.noise(graph, 8)
    source = made.made_of(made.plain(graph), weights, lambda _: "W")
    (layer,) = source.layers
    both = replace(layer.tensors["kernel"], layouts=("HWIO", "OIHW"))
    source = replace(source, layers=(replace(layer, tensors={"kernel": both}),))
    with pytest.raises(CnnError, match=r"the axes of `W/kernel` in .* could be in either order"):
        combine(graph, source, Options())
    ours = weights["conv1"]["kernel"]
    by = {axes: combine(graph, source, Options(axes=axes)).weights["conv1"]["kernel"] for axes in ("HWIO", "OIHW")}
    np.testing.assert_array_equal(by["HWIO"], ours)
    np.testing.assert_array_equal(by["OIHW"], ours.transpose(2, 3, 1, 0))


def test_order_that_names_contradict_is_no_evidence() -> None:
    """Eight blocks that an author made in another order than they run in; each has layers that are sure."""
    count = 8
    lines = [f"conv(1x1, {10 + block}) | conv(1x1, 6) | conv(3x3, 6)" for block in range(count)]
    graph = cnnc.load_text("\n".join(["input 9x9x6", *lines])).graph
    target = made.plain(graph)
    words = ("oak", "ash", "elm", "fir", "yew", "bay", "box", "fig")
    names = {
        unit.name: f"{words[place // 3]}.{('widen', 'narrow', 'mix')[place % 3]}"
        for place, unit in enumerate(target.units)
    }
    made_in = [3 * block + layer for block in reversed(range(count)) for layer in range(3)]
    for sequence in (made_in, list(range(3 * count))):
        source = made.made_of(target, made.marked(graph), lambda unit: names[unit.name], sequence=sequence)
        if sequence == made_in:
            with pytest.raises(CnnError, match=OPEN):
                combine(graph, source, Options())
        else:
            assert is_same(graph, source)
