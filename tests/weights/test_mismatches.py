"""What of a file does not fit a network: heads, classes, tensors, lines of a mapping, axes in unknown order."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.weights.importing.import_weights import Options, combine
from cnnc.weights.importing.layers.file_layers import Source
from cnnc.weights.importing.matching.by_user import read_mapping
from tests.support import weight_sources as made

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
        combine(cnnc.load("resnet").graph, source, Options())


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
