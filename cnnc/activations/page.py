"""The page that gathers all that there is to see: one HTML file that asks for nothing else and runs no script."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from cnnc.activations.comparison import LayerComparison
from cnnc.activations.input_picture import as_rgb
from cnnc.activations.inspection import Inspection, LayerView
from cnnc.activations.model_view import NetworkView
from cnnc.activations.palettes import css_gradient
from cnnc.activations.panels import Panel, number, palette_png, panels, rgb_png
from cnnc.activations.prediction import Prediction
from cnnc.ops import format_shape
from cnnc.rendering.html_page import Section, breakable, document, escape, png_address, table

GENERATOR: Final = "cnnc activations"
"""The generator that a page names."""
_OPEN: Final = 12
"""With more layers than this, only the first of them are unfolded."""
_UNFOLDED: Final = 3
_BESIDE: Final = 480
"""Pixels that each of three panels takes at most across."""
_LEAST: Final = 224
"""Pixels that Grad-CAM's picture is wide at least."""


def page(inspection: Inspection) -> str:
    """The text of `index.html`."""
    title = f"{inspection.view.name} on {inspection.image.name}"
    sections = [part(inspection) for part in (_input, _answer, _filters, _worst, _table, _maps)]
    written = [section for section in sections if section]
    return document(title, _name(inspection), _subtitle(inspection), GENERATOR, written)


def is_ours(text: str) -> bool:
    """Whether a page was made here."""
    return f'<meta name="generator" content="{GENERATOR}">' in text[:4096]


def _name(inspection: Inspection) -> str:
    view = inspection.view
    return view.trained.net.name if isinstance(view, NetworkView) else view.name.rsplit("/", 1)[-1]


def _subtitle(inspection: Inspection) -> str:
    view, other = inspection.view, inspection.other
    words = [f"{escape(view.name)}, {view.dtype}", f"on {escape(str(inspection.image))}"]
    if isinstance(view, NetworkView) and view.trained.is_random:
        words.append("random weights")
    if other is not None:
        words.append(f"beside {escape(other.name)}, {other.dtype}; layers paired {inspection.criterion}")
    return "; ".join(words)


def _input(inspection: Inspection) -> Section | None:
    if not inspection.channels:
        return None
    shape = format_shape(inspection.view.input_shape)
    text = f"input, {shape}"
    if len(inspection.channels) == 1:
        text += f", {number(inspection.channels[0].low)} to {number(inspection.channels[0].high)}"
    figures = [_figure(as_rgb(inspection.value), "the picture as it goes in", text)]
    if len(inspection.channels) > 1:
        for each in inspection.channels:
            text = f"{each.name}, {number(each.low)} to {number(each.high)}"
            figures.append(_figure(each.picture, f"the {each.name} channel", text))
    note = "Values are as the first layer that computes gets them."
    if len(inspection.channels) > 1:
        note = "The channels are in the order, and of the range, in which the first layer that computes gets them."
    return "input", "Input", f'<div class="row">{"".join(figures)}</div><p class="pale">{note}</p>'


def _answer(inspection: Inspection) -> Section | None:
    if inspection.prediction is None and inspection.cam is None:
        return "answer", "Answer", f'<p class="pale">No classes: {escape(inspection.no_cam)}.</p>'
    left = _top(inspection.prediction, inspection.view.name if inspection.other is not None else "")
    if inspection.other is not None:
        left += _top(inspection.other_prediction, inspection.other.name)
    if inspection.cam is None or inspection.prediction is None:
        right = f'<p class="pale">{escape(_sentence(inspection.no_cam))}.</p>'
    else:
        picture = as_rgb(inspection.value)
        scale = max(1, -(-_LEAST // max(picture.shape[:2])))
        overlaid = inspection.cam.over(picture.repeat(scale, axis=0).repeat(scale, axis=1))
        label = inspection.prediction.label(inspection.cam.index)
        where = f"{inspection.cam.method} of {label}, over {inspection.cam.layer}"
        height, width = inspection.cam.heat.shape
        what = f"{where}, {height}x{width}: red is where the network sees the class most"
        if not inspection.cam.heat.any():
            what = f"{where}: nothing in the picture speaks for the class"
        right = _figure(overlaid, where, what, smooth=True)
    return "answer", "Answer", f'<div class="two"><div>{left}</div><div>{right}</div></div>'


def _top(prediction: Prediction | None, caption: str) -> str:
    head = f'<p class="pale">{escape(caption)}</p>' if caption else ""
    if prediction is None:
        return f'{head}<p class="pale">No single output of classes.</p>'
    rows = (
        f"<li><span>{escape(guess.label)}</span><span>{100 * guess.probability:.1f} %</span>"
        f'<i style="width:{100 * min(1.0, max(0.0, guess.probability)):.1f}%"></i></li>'
        for guess in prediction.top
    )
    return f'{head}<ol class="top">{"".join(rows)}</ol>'


def _filters(inspection: Inspection) -> Section | None:
    filters = inspection.filters
    if filters is None:
        return None
    kernel = format_shape(filters.kernel.shape[:-2])
    if filters.in_colour:
        text = "in red, green and blue, each scaled by its largest weight; grey is zero"
    elif filters.shown_inputs > 1:
        text = f"a square for each of {filters.shown_inputs} inputs, {_signed(filters.largest)}"
    else:
        text = _signed(filters.largest)
    caption = f"{filters.title}: {filters.count} filters of {kernel}, {text}"
    return "filters", "First filters", _figure(filters.picture(720), "the first convolution's filters", caption)


def _signed(largest: float) -> str:
    return f"from blue, {number(-largest)}, over white, 0, to red, {number(largest)}"


def _worst(inspection: Inspection) -> Section | None:
    comparisons = inspection.comparisons
    if not comparisons:
        return None
    anchors = {view.layer.name: f"layer{i}" for i, view in enumerate(inspection.layers, 1)}
    heads = ("layer", "*operator", "SQNR, dB", "cosine", "largest difference")
    rows = [_compared_row(each, anchors[each.layer.name]) for each in comparisons]
    note = "Worst first. SQNR is the power of the one over that of the difference; 6 dB are one bit."
    if any(each.equalized for each in comparisons):
        note += " * equalised: the compiler gave channels factors, which the next layer takes back; divided out."
    return "worst", "Differences", f'<p class="pale">{note}</p>{table(heads, rows, "Differences")}'


def _compared_row(each: LayerComparison, anchor: str) -> list[str]:
    name = f'<a href="#{anchor}">{breakable(each.layer.title)}</a>{" *" if each.equalized else ""}'
    sqnr = f"{each.sqnr:.1f}" if each.sqnr is not None else "exact" if each.largest == 0 else "-"
    cosine = "-" if each.cosine is None else f"{each.cosine:.4f}"
    return [name, escape(each.layer.kind), sqnr, cosine, number(each.largest)]


def _table(inspection: Inspection) -> Section:
    heads = ("layer", "*operator", "*shape", "min", "max", "mean", "zeros", "dead filters")
    rows = []
    for i, view in enumerate(inspection.layers, 1):
        figures = view.figures
        rows.append(
            [
                f'<a href="#layer{i}">{breakable(view.layer.title)}</a>',
                escape(view.layer.kind),
                format_shape(view.layer.shape),
                *(number(value) for value in (figures.low, figures.high, figures.mean)),
                f"{100 * figures.zeros:.0f} %",
                f"{figures.dead} of {figures.filters}",
            ]
        )
    note = "Dead filters are zero everywhere on this picture."
    broken = [view.layer.title for view in inspection.layers if view.figures.broken]
    if broken:
        note += f" Values that are not finite, drawn as gaps: {', '.join(map(escape, broken))}."
    return "layers", "Layers", f'<p class="pale">{note}</p>{table(heads, rows, "Layers")}'


def _maps(inspection: Inspection) -> Section:
    unfolded = len(inspection.layers) if len(inspection.layers) <= _OPEN else _UNFOLDED
    blocks = [_layer(inspection, view, i, i <= unfolded) for i, view in enumerate(inspection.layers, 1)]
    return "maps", "Maps", "".join(blocks)


def _layer(inspection: Inspection, view: LayerView, place: int, is_open: bool) -> str:
    drawn = panels(inspection, view, *([_BESIDE] if view.comparison else []))
    facts = f"{escape(view.layer.kind)}, {format_shape(view.layer.shape)}, "
    facts += f"{number(view.figures.low)} to {number(view.figures.high)}"
    if view.comparison is not None and view.comparison.sqnr is not None:
        facts += f", {view.comparison.sqnr:.1f} dB"
    content = "".join(_panel(panel, view.layer.title) for panel in drawn)
    kind = "maps beside" if len(drawn) > 1 else "maps"
    return (
        f"<details{' open' if is_open else ''}><summary><b>{breakable(view.layer.title)}</b>"
        f'<span class="facts">{facts}</span></summary><div class="{kind}" id="layer{place}">{content}</div></details>'
    )


def _panel(panel: Panel, title: str) -> str:
    height, width = panel.places.shape
    zero = ""
    if panel.low < 0 < panel.high:
        zero = f'<u style="left:{100 * -panel.low / (panel.high - panel.low):.1f}%" title="zero"></u>'
    caption = f"<figcaption>{escape(panel.caption)}</figcaption>" if panel.caption else ""
    scale = (
        f'<div class="scale"><span>{number(panel.low)}</span>'
        f'<i style="background:linear-gradient(to right, {css_gradient(panel.palette)})">{zero}</i>'
        f"<span>{number(panel.high)}</span></div>"
    )
    alt = escape(f"the maps of {title}{': ' + panel.caption if panel.caption else ''}")
    image = (
        f'<img src="{png_address(palette_png(panel))}" width="{width}" height="{height}" alt="{alt}" loading="lazy">'
    )
    return f"<figure>{caption}{scale}{image}</figure>"


def _figure(picture: NDArray[np.uint8], alt: str, caption: str, *, smooth: bool = False) -> str:
    height, width = picture.shape[:2]
    kind = "" if smooth or max(height, width) >= _LEAST else ' class="pixels"'
    image = f'<img{kind} src="{png_address(rgb_png(picture))}" width="{width}" height="{height}" alt="{escape(alt)}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
