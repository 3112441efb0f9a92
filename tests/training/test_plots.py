"""The pictures of a run before they are drawn: what stands in them, and from how much on it is left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnc.runs.events import Row
from cnnc.training import plots
from cnnc.training.rate_finder import Trial

NOWHERE = Path("nowhere.png")


@pytest.fixture
def figures(drawn_pictures: None, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Figures that would be saved."""
    found: list[Any] = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: found.append(figure))
    return found


@dataclass
class Layer:
    name: str
    sqnr: float | None = 20.0
    cosine: float | None = 0.99
    used: float | None = 0.5
    clipped: float | None = 0.01


def rows(count: int) -> list[Row]:
    return [Row(epoch, 1.0, 0.1, 1 / epoch, 0.5, 2 / epoch, 0.5 + epoch / 100, None) for epoch in range(1, count + 1)]


def tried() -> list[Trial]:
    rates = np.logspace(-7, 1, 9).tolist()
    losses = [2.0, 2.0, 1.9, 1.5, 1.2, 1.0, 1.4, 5.0, 900.0]
    return [Trial(rate, loss, loss) for rate, loss in zip(rates, losses, strict=True)]


def draw_rates() -> None:
    plots.draw_rates(NOWHERE, "net", tried(), [("steepest", 1e-4), ("lowest", 1e-3)])


def legend_of(axes: Any) -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_every_line_of_a_panel_of_several_is_in_its_legend(figures: list[Any]) -> None:
    plots.draw_curves(NOWHERE, "net", rows(3))
    draw_rates()
    curves, rates = figures
    assert [legend_of(axes) for axes in curves.axes] == [["train", "validation"], ["train", "validation"], []]
    assert [axes.get_title(loc="left") for axes in curves.axes] == ["loss", "top-1, %", "learning rate"]
    assert curves.axes[1].get_title(loc="right") == "best 53.00 % at epoch 3"
    assert legend_of(rates.axes[0]) == ["loss of a step", "their mean", "steepest: 0.0001", "lowest: 0.001"]


def test_rates_are_on_a_logarithmic_axis_and_the_loss_past_the_fall_is_cut_off(figures: list[Any]) -> None:
    draw_rates()
    (axes,) = figures[0].axes
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "learning rate")
    # From a tenth of the fall from 2 to 1 below it to half of it above.
    assert axes.get_ylim() == pytest.approx((0.9, 2.5))
    marks = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines[3::2]}
    assert marks["steepest: 0.0001"] == pytest.approx((1e-4, 1.5))
    assert marks["lowest: 0.001"] == pytest.approx((1e-3, 1.2))


@pytest.mark.parametrize(("count", "marker"), [(11, "o"), (12, "")])
def test_epochs_have_points_while_they_are_few(figures: list[Any], count: int, marker: str) -> None:
    plots.draw_curves(NOWHERE, "net", rows(count))
    assert figures[0].axes[0].lines[0].get_marker() == marker


@pytest.mark.parametrize(("count", "counts", "names"), [(20, 20, 20), (21, 0, 21), (30, 0, 30), (31, 0, 0)])
def test_a_confusion_matrix_has_counts_up_to_20_classes_and_names_up_to_30(
    figures: list[Any], count: int, counts: int, names: int
) -> None:
    classes = [f"class {i}" for i in range(count)]
    plots.draw_confusion(NOWHERE, "net", np.eye(count, dtype=np.int64) * 3, classes)
    axes = figures[0].axes[0]
    assert [text.get_text() for text in axes.texts] == ["3"] * counts
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert (labels if names else [name for name in labels if name in classes]) == classes[:names]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert axes.get_title(loc="left") == f"net: 100.00 % of {3 * count} right"


@pytest.mark.parametrize(("count", "names"), [(120, 120), (121, 0)])
def test_layers_are_named_up_to_120(figures: list[Any], count: int, names: int) -> None:
    layers = [Layer(f"l{i}") for i in range(count)]
    plots.draw_difference(NOWHERE, "net", layers)
    assert len([text for text in figures[0].axes[0].get_yticklabels() if text.get_text().startswith("l")]) == names


def test_the_worst_three_layers_stand_out_and_an_exact_one_says_so(figures: list[Any]) -> None:
    noise = [30.0, 5.0, None, 12.0, 8.0, 40.0]
    plots.draw_difference(NOWHERE, "net", [Layer(f"l{i}", each) for i, each in enumerate(noise)])
    first, second, third = figures[0].axes
    colours = [bar.get_facecolor() for bar in first.patches]
    assert [i for i, colour in enumerate(colours) if colour == colours[1]] == [1, 3, 4]
    assert [bar.get_width() for bar in first.patches] == [30, 5, 40, 12, 8, 40]
    assert [(text.get_text().strip(), text.get_position()[1]) for text in first.texts] == [("exact", 2)]
    assert [second.get_xlim(), third.get_xlim()] == [(0, 100), pytest.approx((0, 1.05), abs=0.06)]


def test_32_pictures_of_a_batch_are_shown_with_labels_of_18_characters(figures: list[Any]) -> None:
    labels = ["x" * 18, "x" * 19, *map(str, range(2, 40))]
    plots.draw_batch(NOWHERE, np.zeros((40, 4, 4, 3), np.uint8), labels)
    (axes,) = figures[0].axes
    assert len(axes.images) == 32
    assert [text.get_text() for text in axes.texts] == ["x" * 18, "x" * 17 + "…", *map(str, range(2, 32))]


@pytest.mark.parametrize(("channels", "shape"), [(1, ()), (2, ()), (3, (3,)), (4, (3,)), (5, ())])
def test_pictures_are_colour_where_they_have_three_or_four_channels(channels: int, shape: tuple[int, ...]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 4, 5, channels)).astype(np.uint8)
    found = plots._displayable(pictures)
    assert found.shape == (2, 4, 5, *shape)
    assert np.array_equal(found, pictures[..., :3] if shape else pictures[..., 0])


def test_numbers_are_shown_from_the_least_to_the_greatest() -> None:
    found = plots._displayable(np.array([-1.0, 1.0, 3.0, np.nan, np.inf, -np.inf]).reshape(1, 1, 6, 1))
    assert found.reshape(-1).tolist() == [0, 127, 255, 0, 255, 0]
    assert not plots._displayable(np.full((1, 2, 2, 1), 7.0)).any()


def test_a_confusion_is_as_large_as_its_classes(figures: list[Any]) -> None:
    for count in (8, 10):
        plots.draw_confusion(NOWHERE, "net", np.eye(count, dtype=np.int64), [*map(str, range(count))])
    (eight, ten) = (figure.get_size_inches() for figure in figures)
    assert ten[1] - eight[1] == pytest.approx(2 * 0.5)
