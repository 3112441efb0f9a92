"""Pictures: which boxes and connections they show, where these stand, and that files are sound and repeatable."""

from __future__ import annotations

import sys
from io import BytesIO
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import cnnc
from cnnc import specs
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.rendering.drawing import FORMATS, draw
from cnnc.rendering.drawing.compose import compose
from cnnc.rendering.drawing.diagram import Diagram, Part, diagram
from cnnc.rendering.drawing.layout import arrange
from cnnc.rendering.drawing.mermaid import to_mermaid
from cnnc.rendering.drawing.part import size
from cnnc.rendering.drawing.scene import Box, Curve, Scene, Text

UNET = """model unet {
  input 32x32x3
  down1:  conv(3x3, 8) | relu
  down2:  down1 | maxpool(2x2) | conv(3x3, 16) | relu
  up:     down2 | resize(scale=2)
  joined: concat(up, down1) | conv(3x3, 8) | relu
  conv(1x1, 2)
}"""


@pytest.fixture(scope="module")
def resnet() -> Graph:
    return cnnc.load("resnet50").graph


def _boxes(found: Diagram) -> dict[str, Part]:
    return {part.title: part for part in found.parts}


def test_repeats_are_one_box_with_a_count(resnet: Graph) -> None:
    repeats = [(part.title, part.count) for part in diagram(resnet).parts if part.kind == "repeat"]
    assert [count for _, count in repeats] == [3, 4, 6, 3]
    assert len(diagram(resnet).parts) <= 25


def test_a_residual_shows_its_skip_and_what_its_first_turn_has(resnet: Graph) -> None:
    stage = next(part for part in diagram(resnet).parts if part.count == 4)
    assert [line.shown for line in stage.lines] == [
        "conv(1x1, 128) | bn | relu",
        "conv(3x3, 128) | bn | relu",
        "conv(1x1, 512) | bn",
        "add | relu",
    ]
    assert [line.sources for line in stage.lines] == [(-1,), (0,), (1,), (2, -1)]
    assert stage.notes == (
        "turn 0 has",
        "conv(3x3, 128, stride=2, padding=1) | bn | relu",
        "branch conv(1x1, 512, stride=2) | bn",
    )
    assert stage.shape == "28x28x512"


def test_turns_that_differ_in_numbers_share_their_lines() -> None:
    graph = cnnc.load_text("input 64x1\nbody: 3 x (conv(5, [8, 16, 32]) | relu | maxpool(2))").graph
    body = _boxes(diagram(graph))["body"]
    assert [line.shown for line in body.lines] == ["conv(5, 8..32) | relu", "maxpool(2)"]
    assert body.notes == ()


def test_lines_that_say_the_same_are_one_with_a_count() -> None:
    graph = cnnc.load_text("input 8x8x3\nbody: conv(3x3, 8) | relu | conv(3x3, 8) | relu | conv(3x3, 8) | bn").graph
    lines = _boxes(diagram(graph))["body"].lines
    assert [line.shown for line in lines] == ["2 x (conv(3x3, 8) | relu)", "conv(3x3, 8) | bn"]
    assert lines[1].sources == (0,)


def test_inner_repeats_are_counted_and_keep_their_connections() -> None:
    graph = cnnc.load_text("input 8x8x4\nbody: 2 x (3 x (conv(3x3, 4) | relu) | maxpool(1x1, stride=1))").graph
    body = _boxes(diagram(graph))["body"]
    assert [(line.shown, line.sources) for line in body.lines] == [
        ("3 x (conv(3x3, 4) | relu)", (-1,)),
        ("maxpool(1x1)", (0,)),
    ]


def test_a_skip_between_boxes_is_an_edge() -> None:
    found = diagram(cnnc.load_text(UNET).graph)
    titles = [part.title for part in found.parts]
    first = [part.lines[0].text if part.lines else "" for part in found.parts]
    down1, down2 = titles.index("down1"), titles.index("down2")
    resize, concat = first.index("resize(scale=2)"), first.index("concat")
    assert {(down1, down2), (down2, resize), (resize, concat), (down1, concat)} <= {*found.edges}


def test_every_head_and_input_is_a_box_of_its_own() -> None:
    found = diagram(cnnc.load("alphazero").graph)
    assert [part.title for part in found.parts if part.kind == "output"] == ["policy", "value"]
    found = diagram(cnnc.load("astronet").graph)
    assert [(part.title, part.shape) for part in found.parts if part.kind == "input"] == [
        ("global", "2001x1"),
        ("local", "201x1"),
    ]


def test_a_very_long_chain_is_shortened() -> None:
    layers = " | ".join(f"dense({8 + i % 2})" for i in range(200))
    (part,) = (p for p in diagram(cnnc.load_text(f"input 8\n{layers}").graph).parts if p.kind == "layers")
    assert len(part.lines) == 25
    assert part.lines[12].shown == "... 176 more"
    assert all(line.sources == (place - 1,) for place, line in enumerate(part.lines))


@pytest.mark.parametrize("name", specs.names())
def test_boxes_of_bundled_specs_do_not_overlap_and_text_stays_inside(name: str) -> None:
    found = diagram(cnnc.load(name).graph)
    scene = compose(found)
    outer = [
        shape for shape in scene.shapes if isinstance(shape, Box) and shape.width in {size(p)[0] for p in found.parts}
    ]
    for one, two in combinations(outer, 2):
        inside = abs(one.left - two.left) <= 5 and abs(one.top - two.top) <= 5
        assert inside or _apart(one, two), (one, two)
    for text in (shape for shape in scene.shapes if isinstance(shape, Text)):
        start = text.x - text.width * {"start": 0, "middle": 0.5, "end": 1}[text.anchor]
        assert start >= 0
        assert start + text.width <= scene.width
        assert 0 <= text.middle <= scene.height


def _apart(one: Box, two: Box) -> bool:
    return (
        one.left + one.width <= two.left
        or two.left + two.width <= one.left
        or one.top + one.height <= two.top
        or two.top + two.height <= one.top
    )


def test_connections_within_a_column_never_cross_a_box() -> None:
    found = diagram(cnnc.load_text(UNET).graph)
    scene = compose(found)
    widths = {size(part)[0] for part in found.parts}
    boxes = [shape for shape in scene.shapes if isinstance(shape, Box) and shape.width in widths]
    edges = [shape for shape in scene.shapes[: len(found.edges)] if isinstance(shape, Curve)]
    assert len(edges) == len(found.edges)
    for edge in edges:
        for (x0, y0), (x1, y1) in pairwise(edge.points):
            for box in boxes:
                across = min(x0, x1) < box.left + box.width - 1 and max(x0, x1) > box.left + 1
                down = min(y0, y1) < box.top + box.height - 1 and max(y0, y1) > box.top + 1
                assert not (across and down), (edge, box)


@given(
    st.integers(2, 12).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))))
    )
)
def test_layout_goes_down_and_keeps_neighbours_apart(case: tuple[int, set[tuple[int, int]]]) -> None:
    count, pairs = case
    edges = sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
    found = arrange(count, edges, lambda vertex: 10 + vertex[0], gap=7)
    depths = {vertex: depth for depth, layer in enumerate(found.layers) for vertex in layer}
    assert sum(vertex[1] == 0 for vertex in depths) == count
    for way in found.ways:
        assert all(depths[upper] + 1 == depths[lower] for upper, lower in pairwise(way))
    for layer in found.layers:
        for left, right in pairwise(layer):
            least = (20 + left[0] + right[0]) / 2 + 7
            assert found.centres[right] - found.centres[left] >= least - 1e-6


@pytest.mark.parametrize("format", FORMATS)
def test_files_are_the_same_each_time(format: str, resnet: Graph) -> None:
    assert draw(resnet, format) == draw(cnnc.load("resnet50").graph, format)


def test_svg_is_xml_that_names_the_network_and_every_repeat(resnet: Graph) -> None:
    root = ElementTree.fromstring(draw(resnet, "svg"))
    texts = ["".join(element.itertext()) for element in root.iter()]
    assert "resnet50" in texts
    assert [text for text in texts if text in ("x 3", "x 4", "x 6")] == ["x 3", "x 4", "x 6", "x 3"]


def test_png_has_two_pixels_for_one_of_the_scene(resnet: Graph) -> None:
    scene: Scene = compose(diagram(resnet))
    with Image.open(BytesIO(draw(resnet, "png"))) as picture:
        assert picture.format == "PNG"
        assert picture.size == pytest.approx((2 * scene.width, 2 * scene.height), abs=2)
        colours = picture.convert("RGB").getcolors(maxcolors=1 << 24)
    assert colours is not None
    assert len(colours) > 20


def test_mermaid_has_a_node_a_box_and_an_arrow_an_edge(resnet: Graph) -> None:
    found = diagram(resnet)
    lines = draw(resnet, "mmd").decode().splitlines()
    assert lines[:4] == ["---", "title: resnet50", "---", "flowchart TD"]
    assert sum("-->" in line for line in lines) == len(found.edges)
    assert len(lines) == 4 + len(found.parts) + len(found.edges)


def test_mermaid_escapes_what_it_would_read_as_its_own() -> None:
    part = Part("input", 'a"<b>&', "3")
    assert 'n0(["a#quot;#lt;b#gt;#amp; 3"])' in to_mermaid(Diagram("d", (part,), ())).decode()


def test_another_format_is_an_error() -> None:
    with pytest.raises(CnnError, match="no picture has the format `pngs`") as raised:
        draw(cnnc.load("mlp").graph, "pngs")
    assert raised.value.diagnostics[0].help == "did you mean `png`?"


def test_png_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cnnc.rendering.drawing.png", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(CnnError) as raised:
        draw(cnnc.load("mlp").graph, "png")
    assert raised.value.diagnostics[0].code == "install"
