"""The pictures of a run: its curves, its confusion matrix, the first batch as the network saw it, what int8 costs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cnnc.files import write_atomically
from cnnc.printable import printable
from cnnc.runs.events import Row
from cnnc.runs.position import merit

Pictures = NDArray[Any]
_TRAIN, _VAL, _RATE, _INK, _GRID = "#8aa4c8", "#c8553d", "#5b8e7d", "#30343f", "#e3e6ec"
_NAMED = 30
"""A confusion matrix names its classes up to so many."""
_COUNTED = 20
"""And writes its counts up to so many."""
_PICTURES = 32
"""So many of a batch are drawn."""
_LAYERS_NAMED = 120
"""Layers have their names beside their bars up to so many."""


class Layer(Protocol):
    """The figures of a layer of a compiled network that are drawn: dB, and shares; None where there are none."""

    @property
    def name(self) -> str: ...

    @property
    def sqnr(self) -> float | None: ...

    @property
    def cosine(self) -> float | None: ...

    @property
    def used(self) -> float | None: ...

    @property
    def clipped(self) -> float | None: ...


class Step(Protocol):
    """The figures of a step of a test of learning rates that are drawn."""

    @property
    def rate(self) -> float: ...

    @property
    def loss(self) -> float: ...

    @property
    def smooth(self) -> float: ...


def draw_curves(path: Path, model: str, rows: Sequence[Row]) -> None:
    """Loss, accuracy and learning rate over the epochs."""
    has_top1 = any(row.val_top1 is not None for row in rows)
    figure = Figure(figsize=(12 if has_top1 else 8.5, 3.8), layout="constrained", facecolor="white")
    axes = figure.subplots(1, 3 if has_top1 else 2, width_ratios=[4, 4, 2.6] if has_top1 else [4, 2.6])
    epochs = [row.epoch for row in rows]
    best = max(rows, key=merit)
    loss, rate = axes[0], axes[-1]
    loss.plot(epochs, [row.train_loss for row in rows], color=_TRAIN, label="train", **_line(rows))
    loss.plot(epochs, [row.val_loss for row in rows], color=_VAL, label="validation", **_line(rows))
    _finish(loss, "loss")
    loss.legend(frameon=False)
    if has_top1:
        accuracy = axes[1]
        accuracy.plot(epochs, _percent(rows, "train_top1"), color=_TRAIN, label="train", **_line(rows))
        accuracy.plot(epochs, _percent(rows, "val_top1"), color=_VAL, label="validation", **_line(rows))
        top = 100 * (best.val_top1 or 0)
        accuracy.plot([best.epoch], [top], "o", color=_VAL, markersize=8, markerfacecolor="white", markeredgewidth=2)
        accuracy.set_title(f"best {top:.2f} % at epoch {best.epoch}", loc="right", fontsize=10, color=_VAL)
        accuracy.legend(frameon=False, loc="lower right")
        _finish(accuracy, "top-1, %")
    rate.plot(epochs, [row.lr for row in rows], color=_RATE, **_line(rows))
    rate.set_ylim(bottom=0)
    _finish(rate, "learning rate")
    figure.suptitle(printable(model), x=0.01, ha="left", fontsize=13, fontweight="bold", color=_INK)
    _save(figure, path)


def draw_confusion(path: Path, model: str, confusion: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Every row the examples of a class, every column what they were taken for, shaded by the row's share."""
    count, classes = len(confusion), [*map(printable, classes)]
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    longest = max(map(len, classes), default=0) if count <= _NAMED else 0
    side = min(14.0, max(4.5, 0.5 * count + 1.5))
    figure = Figure(
        figsize=(side + 0.09 * longest + 0.8, side + 0.05 * longest), layout="constrained", facecolor="white"
    )
    axes = figure.subplots()
    # A power scale: few mistakes show as well as many.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03, format=lambda share, _: f"{100 * share:.0f} %")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, colors=_INK)
    bar.set_ticks([0.01, 0.05, 0.1, 0.25, 0.5, 1.0])
    bar.set_label("share of the true class", color=_INK)
    if count <= _NAMED:
        axes.set_xticks(
            range(count), classes, rotation=45 if longest > 2 else 0, ha="right" if longest > 2 else "center"
        )
        axes.set_yticks(range(count), classes)
        for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            text.set_parse_math(False)
    if count <= _COUNTED:
        for row, column in np.ndindex(confusion.shape):
            if confusion[row, column]:
                colour = "white" if shares[row, column] > 0.3 else _INK
                axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=colour, fontsize=9)
    axes.set_xlabel("predicted", color=_INK)
    axes.set_ylabel("true", color=_INK)
    axes.tick_params(length=0, colors=_INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    hits = np.trace(confusion) / max(1, confusion.sum())
    title = f"{model}: {100 * hits:.2f} % of {confusion.sum():,} right"
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=_INK, pad=10)
    _save(figure, path)


def draw_batch(path: Path, pictures: Pictures, labels: Sequence[str]) -> None:
    """The first pictures of a batch `(batch, height, width, channels)` with their labels, as they enter the network."""
    shown = _displayable(pictures[:_PICTURES])
    columns = min(8, len(shown))
    rows = ceil(len(shown) / columns)
    tall = shown.shape[1] / shown.shape[2]
    # One pair of axes for all: a tile is 1 wide and `tall` high, with a gap beside it and a label above it.
    across, down = 1.06, tall + 0.22
    scale = 1.4
    figure = Figure(figsize=(scale * columns * across + 0.1, scale * rows * down + 0.1), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for place, (picture, label) in enumerate(zip(shown, labels, strict=False)):
        left, top = place % columns * across, -(place // columns) * down
        extent = (left, left + 1, top - tall, top)
        axes.imshow(picture, extent=extent, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        label = printable(label)
        text = label if len(label) <= 18 else f"{label[:17]}…"
        axes.text(left + 0.5, top + 0.05, text, ha="center", fontsize=9, color=_INK, parse_math=False)
    axes.set_xlim(-0.04, columns * across)
    axes.set_ylim(-(rows - 1) * down - tall - 0.04, 0.2)
    _save(figure, path)


def draw_rates(path: Path, model: str, trials: Sequence[Step], marked: Sequence[tuple[str, float]]) -> None:
    """The loss over the learning rates of a test, with the rates that it comes to."""
    rates = [step.rate for step in trials]
    figure = Figure(figsize=(8.5, 4.6), layout="constrained", facecolor="white")
    axes = figure.subplots()
    smooth = [step.smooth for step in trials]
    axes.plot(rates, [step.loss for step in trials], color=_TRAIN, linewidth=1, label="loss of a step")
    axes.plot(rates, smooth, color=_INK, linewidth=2, label="their mean")
    for (label, rate), colour in zip(marked, (_VAL, _RATE, _TRAIN), strict=False):
        height = float(np.interp(np.log(rate), np.log(rates), smooth))
        axes.axvline(rate, color=colour, linewidth=1, linestyle=":")
        axes.plot([rate], [height], "o", color=colour, markersize=8, label=f"{label}: {rate:.2g}")
    _finish(axes, "loss")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate", color=_INK)
    # The last losses are of a network that has come apart: what leads there is what is to be seen.
    low, high = min(step.loss for step in trials), max(smooth[: max(2, len(smooth) // 2)])
    axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
    axes.legend(frameon=False, loc="lower left")
    figure.suptitle(printable(model), x=0.01, ha="left", fontsize=13, fontweight="bold", color=_INK, parse_math=False)
    _save(figure, path)


def draw_difference(path: Path, model: str, layers: Sequence[Layer]) -> None:
    """Every layer's SQNR, codes in use and values clipped, in the network's order from the top; the worst three red."""
    count = len(layers)
    longest = max((len(layer.name) for layer in layers), default=0)
    named = count <= _LAYERS_NAMED
    height = 1.4 + 0.19 * min(count, _LAYERS_NAMED)
    figure = Figure(figsize=(9 + 0.07 * longest, height), layout="constrained", facecolor="white")
    most = max((layer.sqnr for layer in layers if layer.sqnr is not None), default=0.0)
    exact = [i for i, layer in enumerate(layers) if layer.sqnr is None and layer.cosine is not None]
    figures = {
        "signal to quantisation noise, dB": [most if i in exact else layer.sqnr for i, layer in enumerate(layers)],
        "codes in use, %": [layer.used and 100 * layer.used for layer in layers],
        "values clipped, %": [layer.clipped and 100 * layer.clipped for layer in layers],
    }
    levels = [float("inf") if layer.sqnr is None else layer.sqnr for layer in layers]
    worst = sorted(range(count), key=levels.__getitem__)[:3]
    colours = [_VAL if i in worst else _TRAIN for i in range(count)]
    panels = figure.subplots(1, 3, sharey=True, width_ratios=[3, 1.6, 1.6])
    for panel, (title, values) in zip(panels, figures.items(), strict=True):
        panel.barh(range(count), [value or 0.0 for value in values], color=colours, height=0.72)
        _finish(panel, title)
        panel.set_xlabel("")
        panel.set_xlim(left=0 if min((value or 0.0 for value in values), default=0.0) >= 0 else None)
    for i in exact if named and most > 0 else []:
        panels[0].text(most, i, "exact ", color="white", fontsize=8, ha="right", va="center")
    panels[1].set_xlim(0, 100)
    panels[2].set_xlim(right=max(1.0, panels[2].get_xlim()[1]))
    names = [printable(layer.name) for layer in layers] if named else []
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    panels[0].set_ylim(count - 0.4, -0.6)
    for text in panels[0].get_yticklabels():
        text.set_parse_math(False)
    figure.suptitle(printable(model), x=0.01, ha="left", fontsize=13, fontweight="bold", color=_INK, parse_math=False)
    _save(figure, path)


def _displayable(pictures: Pictures) -> NDArray[np.uint8]:
    """Pictures as 8-bit grey or RGB: the first channel where there are others, the whole range where it is another."""
    if pictures.dtype != np.uint8:
        finite = pictures[np.isfinite(pictures)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        # What is no number is black, and infinities are at the ends of the range.
        pictures = np.nan_to_num(pictures, nan=low, posinf=high, neginf=low)
        pictures = (pictures - low) * (255 / (high - low if high > low else 1))
    channels = pictures.shape[-1]
    kept = pictures[..., :3] if channels in (3, 4) else pictures[..., 0]
    return np.asarray(kept, np.uint8)


def _percent(rows: Sequence[Row], name: str) -> list[float]:
    return [100 * (getattr(row, name) or 0.0) for row in rows]


def _line(rows: Sequence[Row]) -> dict[str, float | str]:
    return {"linewidth": 2, "marker": "o" if len(rows) < 12 else "", "markersize": 4}


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.set_xlabel("epoch", color=_INK)
    axes.locator_params(axis="x", integer=True)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=_INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    with warnings.catch_warnings():
        # A class may be named in a script that the font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        # No date and no version within: the same run gives the same bytes.
        figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    write_atomically(path, content.getvalue())
