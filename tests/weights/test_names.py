"""The names that others give their layers: they tell all, or it is open which is which and a mapping says it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import cnnc
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.weights.importing.import_weights import Options, combine
from cnnc.weights.importing.layers.file_layers import Source
from cnnc.weights.importing.matching.by_user import read_mapping
from tests.support import weight_sources as made


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
    from cnnc.weights.importing.readers.state_dict import natural

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
    graph = cnnc.load(spec).graph
    assert made.is_same(graph, renamed(graph, name, order))


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
        assert made.is_same(graph, renamed(graph, torchvision_inception, order))


def test_keras_names_do_not_tell_a_projection() -> None:
    """`conv2_block1_0_conv` and `conv2_block1_3_conv` are of one shape in the first stage; only a graph knows more."""
    graph = cnnc.load("resnet").graph
    source = renamed(graph, keras_resnet, "names")
    with pytest.raises(CnnError, match=made.OPEN) as raised:
        combine(graph, source, Options())
    said = str(raised.value)
    assert "it is open which of 4 layers of" in said
    assert (
        "`conv2_block1_0_conv`, `conv2_block1_3_conv` of the file could each be any of `resnet.0.0.conv3`, "
        "`resnet.0.0.shortcut1.conv1`" in said
    )


def test_the_lines_that_an_error_proposes_are_a_mapping(tmp_path: Path) -> None:
    graph = cnnc.load("resnet").graph
    source = renamed(graph, keras_resnet, "names")
    with pytest.raises(CnnError) as raised:
        combine(graph, source, Options())
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.help is not None
    lines = diagnostic.help.split("\n")[1:]
    assert len(lines) == 4
    path = tmp_path / "map.txt"
    path.write_text("\n".join(lines))
    assert not made.is_same(graph, source, Options(given=read_mapping(path)))
    # The other way round, as these names have it.
    rights = [line.partition(" = ")[2] for line in lines]
    turned = [rights[1], rights[0], rights[3], rights[2]]
    lefts = [line.partition(" = ")[0] for line in lines]
    path.write_text("".join(f"{left} = {right}  # said\n" for left, right in zip(lefts, turned, strict=True)))
    assert made.is_same(graph, source, Options(given=read_mapping(path)))
    by = {line.source: line.evidence for line in combine(graph, source, Options(given=read_mapping(path))).lines}
    assert by["conv2_block1_0_conv"] == "map"


def test_our_own_names_need_nothing_else() -> None:
    for spec in ("wavenet", "qanet", "resnet", "shufflenet_v2"):
        graph = cnnc.load(spec).graph
        source = renamed(graph, lambda name: name, "names")
        assert made.is_same(graph, source)
        assert {line.evidence for line in combine(graph, source, Options()).lines} == {"name"}
