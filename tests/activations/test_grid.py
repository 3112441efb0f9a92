"""Grids of filters: every value has its square, its colour and its place, whatever the shape."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from cnnc.activations.first_filters import Filters
from cnnc.activations.grid import WIDTH, grid
from cnnc.activations.palettes import GAP, HEAT, PAPER, SIGNED, placed
from cnnc.activations.panels import Panel, number, palette_png
from cnnc.activations.picture_sheet import font, shortened
from cnnc.activations.statistics import figures


def test_the_palettes_go_from_blue_to_red() -> None:
    for palette in (HEAT, SIGNED):
        low, high = palette[0].astype(int), palette[253].astype(int)
        assert low[2] > low[0] + 50
        assert high[0] > high[2] + 50
    assert SIGNED[126].min() > 240  # zero is near white
    assert SIGNED[127].min() > 240


def test_values_are_placed_between_the_ends_and_no_numbers_are_gaps() -> None:
    found = placed(np.array([-1.0, 0.0, 5.0, 10.0, 99.0, np.nan, np.inf]), 0, 10)
    assert found.tolist() == [0, 0, 126, 253, 253, GAP, GAP]
    assert placed(np.full(3, 7.0), 7, 7).tolist() == [0, 0, 0]


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    count=st.integers(1, 700),
    room=st.sampled_from([480, WIDTH]),
)
def test_every_filter_has_a_square_in_a_grid_that_fits(height: int, width: int, count: int, room: int) -> None:
    found = grid(np.ones((height, width, count)), 0, 1, room)
    assert found.shape[1] <= max(room, 2 * count)
    assert found[0].tolist() == [GAP] * found.shape[1]
    rows = (found[:, 1] != GAP).astype(int)
    columns = (found[1] != GAP).astype(int)
    starts = [int((np.diff(line, prepend=0) == 1).sum()) for line in (rows, columns)]
    assert starts[0] * starts[1] >= count
    squares = int((found != GAP).sum()) / ((rows.sum() // starts[0]) * (columns.sum() // starts[1]))
    assert squares == count


def test_a_small_map_is_enlarged_without_blur_and_in_order() -> None:
    values = np.arange(2 * 3 * 2, dtype=float).reshape(2, 3, 2)
    found = grid(values, 0, 11, 200)
    inner = found[:, found[1] != GAP][found[:, 1] != GAP]
    scale = inner.shape[0] // 2
    assert scale > 1
    shrunk = inner[::scale, ::scale]
    expected = placed(np.concatenate([values[..., 0], values[..., 1]], axis=1), 0, 11)
    np.testing.assert_array_equal(shrunk, expected)


def test_a_large_map_is_averaged_over_areas() -> None:
    values = np.zeros((400, 400, 16))
    values[:, ::2] = 1.0
    found = grid(values, 0, 1, 401)
    inner = found[found != GAP]
    assert abs(inner.astype(float).mean() - 126.5) < 3
    assert inner.min() > 60  # no stripe is left out


@pytest.mark.parametrize("length", [1, 2, 30, 5000])
def test_a_signal_is_a_line_without_holes_at_its_height(length: int) -> None:
    signal = np.linspace(-1, 1, length) if length > 1 else np.zeros(1)
    found = grid(np.stack([signal, -signal], axis=-1), -1, 1, 400)
    height, width = (int(np.flatnonzero(line[1:] == GAP)[0]) for line in (found[:, 1], found[1]))
    tile = found[1 : height + 1, 1 : width + 1]
    inked = tile != PAPER
    assert inked.any(axis=0).all()
    if length > 2:  # it rises: its ink comes higher to the right
        middle = [float(np.flatnonzero(column).mean()) for column in inked.T]
        assert middle[-1] < height / 8
        assert middle[0] > height * 7 / 8
        assert (np.diff(middle) <= 0).all()


def test_a_volume_shows_slices_from_the_first_to_the_last() -> None:
    values = np.broadcast_to(np.arange(10.0)[:, None, None, None], (10, 4, 4, 1))
    found = grid(values, 0, 9, 400)
    seen = sorted({int(place) for place in found[found != GAP]})
    assert seen == sorted({int(place) for place in placed(np.array([0.0, 2, 4, 5, 7, 9]), 0, 9)})


@pytest.mark.parametrize(("shape", "count"), [((8, 8, 8), 12), ((4, 40, 40), 300), ((9, 3, 3), 5000)])
def test_every_filter_of_a_volume_has_its_row_of_slices(shape: tuple[int, ...], count: int) -> None:
    found = grid(np.ones((*shape, count), np.float32), 0, 1)
    down, along = (int((np.diff(line != GAP, prepend=False) & (line != GAP)).sum()) for line in (found[:, 8], found[8]))
    assert down * along >= count * min(6, shape[0])


def test_features_are_squares() -> None:
    found = grid(np.linspace(0, 1, 4096), 0, 1)
    assert found.shape[1] <= WIDTH
    assert len(np.unique(found)) > 250


def test_a_panel_s_png_is_a_palette_whose_gaps_are_transparent() -> None:
    values = np.random.default_rng(0).normal(size=(7, 7, 512))
    places = grid(values, -3, 3)
    png = palette_png(Panel("", places, HEAT, -3, 3))
    image = Image.open(io.BytesIO(png))
    assert image.mode == "P"
    assert image.info["transparency"] == GAP
    np.testing.assert_array_equal(np.asarray(image), places)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB"))[places != GAP], HEAT[places[places != GAP]])


@pytest.mark.parametrize("in_colour", [False, True])
def test_weights_that_are_no_numbers_are_gaps_among_filters(in_colour: bool) -> None:
    kernel = np.full((3, 3, 3, 2), 0.5, np.float32)
    whole = Filters("stem", kernel, in_colour).picture()
    kernel[0, 0, :, 0] = np.inf, -np.inf, np.nan
    found = Filters("stem", kernel, in_colour)
    assert found.largest == 0.5
    assert (found.picture()[..., 3] == 0).sum() > (whole[..., 3] == 0).sum()
    assert Filters("stem", np.full((3, 3, 3, 2), np.nan, np.float32), in_colour).largest == 0


def test_figures_count_zeros_dead_filters_and_what_is_no_number() -> None:
    values = np.zeros((2, 2, 4), np.float32)
    values[..., 1] = [[1, 2], [3, -4]]
    values[0, 0, 2] = np.nan
    values[..., 3] = 5
    found = figures(values)
    assert (found.low, found.high, found.filters, found.dead, found.broken) == (-4, 5, 4, 1, 1)
    assert found.zeros == pytest.approx(7 / 16)
    assert found.mean == pytest.approx((2 + 20) / 15)


def test_numbers_are_short() -> None:
    assert [number(x) for x in (0.0, 0.123456, -2.5, 1234.0)] == ["0", "0.123", "−2.5", "1.23e+03"]  # noqa: RUF001


@given(st.text("abc", max_size=40), st.integers(1, 300))
def test_a_name_is_cut_until_it_fits(name: str, width: int) -> None:
    pen = ImageDraw.Draw(Image.new("RGB", (8, 8)))
    cut = shortened(pen, name, 12, width)
    whole = pen.textlength(name, font(12))
    assert cut == name if whole <= width else pen.textlength(cut, font(12)) <= width or len(cut) == 1
