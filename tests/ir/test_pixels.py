"""Which inputs take pictures."""

from __future__ import annotations

import pytest

from cnnc.ir.pixels import is_picture_shape, takes_pixels
from tests.support.networks_of_texts import network


@pytest.mark.parametrize(
    ("layers", "is_normalised"),
    [
        ("input 8x8x3\nnormalize(mean=1, std=2)", True),
        ("input 8x8x3\nbgr | normalize(mean=1, std=2)", True),
        ("input 2x8x8x3\nnormalize(mean=1, std=2)", True),
        ("input 8x8x3\nconv(1, 3)", False),
        ("input 8x8x3\nadd { normalize(mean=1, std=2)\n identity }", False),
    ],
)
def test_an_input_takes_pixels_where_all_that_reads_it_normalises(layers: str, is_normalised: bool) -> None:
    graph = network(layers).graph
    assert takes_pixels(graph, graph.inputs[0].name) == is_normalised


def test_a_picture_has_height_width_and_channels_of_a_kind_of_picture() -> None:
    assert [is_picture_shape((8, 8, channels)) for channels in (1, 2, 3, 4)] == [True, False, True, True]
    assert not is_picture_shape((8, 8))
    assert not is_picture_shape((2, 8, 8, 3))
