"""A run's curves as SVG within a page: in the page's own colours, light or dark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import Final

from cnnc.rendering.html_page import escape
from cnnc.runs.events import Row

_WIDTH, _HEIGHT = 340, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 26

CSS: Final = """\
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 22px; }
.curves svg { width: 100%; height: auto; display: block; overflow: visible; font-size: 11px; }
.curves text { fill: var(--pale); }
.curves .grid { stroke: var(--line); }
.curves polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.curves .train { stroke: var(--train); }
.curves .val { stroke: var(--warm); }
.curves .rate { stroke: var(--mark); }
.curves circle { stroke-width: 2; fill: var(--back); stroke: var(--warm); }
.curves circle.dot { stroke: none; } .dot.train { fill: var(--train); } .dot.val { fill: var(--warm); }
.dot.rate { fill: var(--mark); }
.key::before { content: ""; display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin: 0 5px 3px 12px;
  background: var(--train); }
.key.val::before { background: var(--warm); }
"""


@dataclass(frozen=True)
class Line:
    """A curve: its class in the style sheet, and a value an epoch, None where there is none."""

    kind: str
    values: tuple[float | None, ...]


def curves(rows: Sequence[Row], best: Row) -> str:
    """Loss, accuracy where there are classes, and learning rate over the epochs."""

    def line(kind: str, figure: Callable[[Row], float | None]) -> Line:
        return Line(kind, tuple(figure(row) for row in rows))

    epochs = [row.epoch for row in rows]
    charts = [
        _chart("Loss", epochs, [line("train", lambda row: row.train_loss), line("val", lambda row: row.val_loss)], None)
    ]
    if best.val_top1 is not None:
        top1 = [
            line("train", lambda row: _percent(row.train_top1)),
            line("val", lambda row: _percent(row.val_top1)),
        ]
        charts.append(_chart("Top-1, %", epochs, top1, (best.epoch, 100 * best.val_top1)))
    charts.append(_chart("Learning rate", epochs, [line("rate", lambda row: row.lr)], None))
    return f'<div class="curves">{"".join(charts)}</div>'


def _chart(title: str, epochs: Sequence[int], lines: Sequence[Line], marked: tuple[int, float] | None) -> str:
    values = [value for line in lines for value in line.values if value is not None and isfinite(value)]
    if not values:
        return ""
    ticks = ticks_of(0.0 if title == "Learning rate" else min(values), max(values))
    low, high = ticks[0], ticks[-1]
    first, last = epochs[0], epochs[-1]

    def x(epoch: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((epoch - first) / (last - first) if last > first else 0.5)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    drawn = []
    for tick in ticks:
        drawn.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        drawn.append(f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    for epoch in sorted({first, last, *(round(tick) for tick in ticks_of(first, last) if first < tick < last)}):
        drawn.append(f'<text x="{x(epoch):.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{epoch}</text>')
    for line in lines:
        points = [
            (x(epoch), y(value))
            for epoch, value in zip(epochs, line.values, strict=True)
            if value is not None and isfinite(value)
        ]
        drawn.append(f'<polyline class="{line.kind}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>')
        if len(points) < 12:
            drawn += [f'<circle class="dot {line.kind}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in points]
    if marked is not None:
        drawn.append(f'<circle cx="{x(marked[0]):.1f}" cy="{y(marked[1]):.1f}" r="5"/>')
    keys = ""
    if len(lines) > 1:
        keys = '<span class="key">train</span><span class="key val">validation</span>'
    label = f"{title} over the epochs"
    return (
        f"<figure><figcaption><b>{escape(title)}</b>{keys}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(drawn)}</svg></figure>'
    )


def ticks_of(low: float, high: float) -> list[float]:
    """Three to seven round numbers, the first not above `low` and the last not below `high`."""
    span = high - low or abs(high) or 1.0
    raw = span / 4
    power = 10.0 ** floor(log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if raw <= power * factor * (1 + 1e-9))
    first = floor(low / step + 1e-9)
    last = max(ceil(high / step - 1e-9), first + 1)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
