"""`report.html`: all that there is to say of a run in one page, which asks for nothing else and runs no script."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cnnc.files import write_atomically
from cnnc.ops import format_shape
from cnnc.recipe.yaml_form import recipe_in_words
from cnnc.rendering.captions import caption, magnitude
from cnnc.rendering.html_page import Section, breakable, document, escape, png_address, table
from cnnc.rendering.layer_table import rows as layer_rows
from cnnc.rendering.layer_table import totals
from cnnc.runs.events import Row
from cnnc.runs.metrics import Scores
from cnnc.runs.run_record import Record
from cnnc.training.profiling import TABLE as PROFILE
from cnnc.training.report_curves import CSS as CURVES_CSS
from cnnc.training.report_curves import curves
from cnnc.training.time_left import format_duration

_SHOWN: Final = 25
"""A matrix of more classes is a picture."""
_PAIRS: Final = 15
_CSS: Final = """\
:root { --warm: #c8553d; --heat: 35 80 196; --train: #8aa4c8; }
@media (prefers-color-scheme: dark) { :root { --warm: #f0836b; --heat: 110 150 255; --train: #7d9ad6; } }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(126px, 1fr)); gap: 12px; margin: 18px 0 4px; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.tiles b { display: block; font-size: 22px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--pale); font-size: 13px; }
td.best { font-weight: 700; }
.matrix td, .matrix th { text-align: right; padding: 4px 8px; min-width: 2.6em; }
.matrix tbody tr:nth-child(even) { background: none; }
.matrix th[scope=row] { text-align: left; font-weight: 600; color: var(--pale); max-width: 14em; min-width: 6em;
  overflow-wrap: break-word; white-space: normal; }
.matrix thead th { max-width: 9em; overflow: hidden; text-overflow: ellipsis; text-align: right; min-width: 0; }
.matrix td { background: rgb(var(--heat) / calc(var(--s) * 0.62)); }
h3 { font-size: 15px; margin: 22px 0 8px; }
.bar { display: inline-block; vertical-align: middle; height: 7px; width: calc(60px * var(--s)); border-radius: 4px;
  background: var(--bar); margin-left: 8px; }
.track { display: inline-block; width: 68px; text-align: left; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 10px 14px; overflow: auto;
  font-size: 13px; }
.picture { background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: 8px; display: inline-block;
  max-width: 100%; }
.settings td { white-space: normal; text-align: left; }
.wide { margin-top: 18px; }
.wide td:first-child, .wide th:first-child { min-width: 6em; max-width: 14em; overflow-wrap: break-word; }
"""


def write_page(record: Record, rows: Sequence[Row], best: Row, scores: Scores | None) -> Path:
    """Write `report.html` into the run's folder.

    Args:
        record: what the folder says of the run.
        rows: an epoch each.
        best: the best of them.
        scores: of the best epoch on the validation set, at the output whose classes are reported; None without any.
    """
    path = record.folder.report
    write_atomically(path, page(record, rows, best, scores))
    return path


def page(record: Record, rows: Sequence[Row], best: Row, scores: Scores | None) -> str:
    """The text of `report.html`."""
    net, data = record.net, record.data
    classes = data.classes
    if scores is not None and scores.confusion is not None and not classes:
        classes = tuple(map(str, range(len(scores.confusion))))
    name = Path(data.data).name or data.data
    subtitle = escape(
        f"trained on {data.train_count:,} examples of {name}, watched with {data.val_count:,}; in {record.folder.path}"
    )
    sections = [
        _outcome(record, rows, best),
        ("curves", "Curves", curves(rows, best)),
        _classes(record, scores, classes),
        _first_batch(record),
        _epochs(rows, best),
        _network(record),
        _profile(record),
        _settings(record),
        _commands(record),
    ]
    written = [section for section in sections if section]
    return document(f"{net.name} on {name}", net.name, subtitle, "cnnc train", written, _CSS + CURVES_CSS)


def most_confused(confusion: NDArray[np.int64]) -> list[tuple[int, int, int, float]]:
    """The pairs of a class and another that its examples are taken for: both, how many, the share of the class's."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    totals = confusion.sum(axis=1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    places = [(int(place) // len(wrong), int(place) % len(wrong)) for place in order]
    return [(i, j, int(wrong[i, j]), float(wrong[i, j] / totals[i])) for i, j in places if wrong[i, j]]


def _outcome(record: Record, rows: Sequence[Row], best: Row) -> Section:
    tiles = []
    if best.val_top1 is not None:
        tiles.append((f"{100 * best.val_top1:.2f} %", "top-1, validation"))
    if best.val_top5 is not None:
        tiles.append((f"{100 * best.val_top5:.2f} %", "top-5"))
    tiles += [
        (f"{best.val_loss:.4f}", "validation loss"),
        (f"{best.epoch}", f"the best epoch of {len(rows)}"),
        (f"{magnitude(record.net.graph.parameter_count)}", "parameters"),
        (f"{magnitude(record.net.graph.mac_count)}", "MACs a picture"),
        (
            format_duration(sum(row.time for row in rows)),
            f"of training, {np.median([row.time for row in rows]):.1f} s an epoch",
        ),
    ]
    cells = "".join(f"<div><b>{escape(figure)}</b><span>{escape(what)}</span></div>" for figure, what in tiles)
    return "outcome", "Outcome", f'<div class="tiles">{cells}</div>'


def _classes(record: Record, scores: Scores | None, classes: Sequence[str]) -> Section | None:
    if scores is None or scores.confusion is None:
        return None
    confusion, recall, precision = scores.confusion, scores.recall, scores.precision
    heads = ("class", "examples", "recall", "precision")
    order = np.argsort(np.nan_to_num(recall, nan=2.0), kind="stable")
    cells = [
        [escape(classes[i]), f"{confusion[i].sum():,}", _share(float(recall[i])), _share(float(precision[i]))]
        for i in order
    ]
    note = (
        "Recall is the share of a class's examples that are found, precision that of what is taken for it that is it."
        " Worst first."
    )
    each = f'<p class="pale">{note}</p>{table(heads, cells, "Classes")}'
    pairs = [
        [escape(classes[i]), escape(classes[j]), f"{count:,}", _share(share)]
        for i, j, count, share in most_confused(confusion)
    ]
    confused = '<p class="pale">Nothing is taken for anything else.</p>'
    if pairs:
        confused = '<p class="pale">How many of a class are taken for another, and their share of it.</p>' + table(
            ("class", "*taken for", "times", "share"), pairs, "Most confused"
        )
    content = (
        f'{_matrix(record, confusion, classes)}<div class="two wide"><div><h3>Most confused</h3>{confused}</div>'
        f"<div><h3>Each class</h3>{each}</div></div>"
    )
    return "classes", "Classes", content


def _matrix(record: Record, confusion: NDArray[np.int64], classes: Sequence[str]) -> str:
    if len(confusion) > _SHOWN:
        return _picture(record.folder.confusion, "What the network takes for what: rows are true, columns predicted.")
    totals = np.maximum(confusion.sum(axis=1), 1)
    head = "".join(f'<th scope="col" title="{escape(name)}">{escape(name)}</th>' for name in classes)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f'<td style="--s:{count / totals[i]:.3f}">{count or ""}</td>' for count in confusion[i])
        + "</tr>"
        for i, name in enumerate(classes)
    )
    note = "Rows are what an example is, columns what the best epoch's network takes it for."
    return (
        f'<p class="pale">{note}</p><div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix">'
        f'<table class="matrix"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _first_batch(record: Record) -> Section | None:
    picture = _picture(record.folder.first_batch, "Of the first epoch, augmented, as the network sees it.")
    return ("batch", "First batch", picture) if picture else None


def _epochs(rows: Sequence[Row], best: Row) -> Section:
    outputs = [name for name, _, _ in rows[0].outputs]
    heads = ["epoch", "train loss", "train top-1", "val loss", "val top-1", "val top-5", "learning rate", "seconds"]
    heads += [escape(f"{name}: {figure}") for name in outputs for figure in ("val loss", "val top-1")]
    cells = []
    for row in rows:
        mark = " (best)" if row.epoch == best.epoch else ""
        figures = [f"{row.epoch}{mark}", f"{row.train_loss:.4f}", _percent(row.train_top1), f"{row.val_loss:.4f}"]
        figures += [_percent(row.val_top1), _percent(row.val_top5), f"{row.lr:.4g}", f"{row.time:.1f}"]
        figures += [cell for _, loss, top1 in row.outputs for cell in (f"{loss:.4f}", _percent(top1))]
        cells.append(figures)
    return "epochs", "Epochs", table(heads, cells, "Epochs")


def _network(record: Record) -> Section:
    graph = record.net.graph
    found = layer_rows(graph)
    repeated = any(row.count > 1 for row in found)
    heads = ("layer", "*operator", "*output", *(["times"] if repeated else []), "parameters", "MACs")
    cells = [
        [
            breakable(row.name),
            escape(caption(row.op)),
            format_shape(row.output_shape),
            *([str(row.count) if row.count > 1 else ""] if repeated else []),
            f"{row.params:,}" if row.params else "",
            magnitude(row.macs) if row.macs else "",
        ]
        for row in found
    ]
    return "network", "Network", f'<p class="pale">{escape(totals(graph))}</p>{table(heads, cells, "Layers")}'


def _profile(record: Record) -> Section | None:
    path = record.folder.path / PROFILE
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        cells = [
            [breakable(row["layer"]), escape(row["operator"]), f"{float(row['ms']):.2f}", _share(float(row["share"]))]
            for row in csv.DictReader(file)
        ]
    note = '<p class="pale">What every layer takes of a step, forward and backward.</p>'
    return "time", "Time of a step", note + table(("layer", "*operator", "ms", "share"), cells, "Time of a step")


def _settings(record: Record) -> Section:
    data = record.data
    pairs: list[tuple[str, str]] = [("data", data.data), *_pairs(recipe_in_words(record.net.recipe))]
    if data.folder:
        pairs.insert(1, ("data folder", data.folder))
    pairs += [("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items()))]
    cells = [[escape(name), escape(value)] for name, value in pairs]
    return "settings", "Settings", f'<div class="settings">{table(("setting", "*value"), cells, "Settings")}</div>'


def _commands(record: Record) -> Section:
    run = shlex.quote(str(record.folder.path))
    lines = [
        f"cnnc eval {run}",
        f"cnnc predict {run} PICTURE...",
        f"cnnc activations {run} PICTURE",
        f"cnnc compile {run} --target tflite",
        f"cnnc compile {run} --target edgetpu",
        f"cnnc train --resume {run} --epochs +10",
    ]
    return "next", "What to do with it", f"<pre>{chr(10).join(map(escape, lines))}</pre>"


def _pairs(words: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    for name, value in words.items():
        yield name, _render_setting(value)


def _render_setting(value: object) -> str:
    """A setting as a spec would say it, about: `sgd(momentum=0.9)`."""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{name}({_arguments(inner)})"
            if isinstance(inner, Mapping) and not _is_named(inner)
            else f"{name}: {_render_setting(inner)}"
            for name, inner in value.items()
        )
    if isinstance(value, list | tuple):
        return " | ".join(map(_render_setting, value)) or "none"
    return "none" if value is None else str(value)


def _is_named(value: Mapping[str, object]) -> bool:
    return any(isinstance(inner, Mapping) for inner in value.values())


def _arguments(fields: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in fields.items())


def _picture(path: Path, caption: str) -> str:
    if not path.is_file():
        return ""
    return (
        f'<figure><span class="picture"><img src="{png_address(path.read_bytes())}" alt="{escape(caption)}"></span>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _share(share: float) -> str:
    if not np.isfinite(share):
        return "-"
    return f'{100 * share:.1f} %<span class="track"><span class="bar" style="--s:{share:.3f}"></span></span>'


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"
