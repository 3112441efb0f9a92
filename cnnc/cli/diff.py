"""`cnnc diff`: where a compiled network's accuracy goes, as a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnc.cli.console.extras import extra
from cnnc.cli.console.terminal import echo, echo_json
from cnnc.cli.options.common import OUTPUT_FILE, format_option
from cnnc.cli.options.model import threads_of
from cnnc.cli.options.training import DataOptions, data_options
from cnnc.files import require_apart

if TYPE_CHECKING:
    from cnnc.evaluation.difference import Difference
    from cnnc.evaluation.distortion import Layer

_LISTED = 20
"""A table lists so many layers."""


@click.command("diff")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("model", metavar="MODEL.tflite", type=click.Path(path_type=Path))
@data_options
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Pictures to look at.  [default: all]")
@click.option("--last", is_flag=True, help="The last epoch's weights of the run, not the best's.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Of the CPU.  [default: one a core]")
@click.option("-o", "--out", type=OUTPUT_FILE, metavar="PICTURE.png", help="Draw the layers, too.")
@format_option("table", "json")
def diff(
    run: Path,
    model: Path,
    data: DataOptions,
    samples: int | None,
    last: bool,
    threads: int | None,
    out: Path | None,
    format: str,
) -> None:
    """Hold the int8 MODEL that was compiled of RUN to the run itself: right answers, and layer by layer, worst first.

    Layers are looked at on 64 pictures at most, right answers are counted on the whole test part.
    """
    if out is not None:
        require_apart(out, [model, data.name])
    with extra("train", "a comparison"):
        from cnnc.evaluation.difference import diff as compare
        from cnnc.runs.trained import open_run

    load, network, threads = data.test_loader(), open_run(run, last=last), threads_of(threads)
    found = compare(network, model, load, samples=samples, skip_corrupt=data.skip_corrupt, threads=threads)
    if out is not None:
        from cnnc.training.plots import draw_difference

        draw_difference(out, model.name, (*found.inputs, *found.layers))
    if format == "json":
        echo_json({"run": str(run), "model": str(model), **_in_words(found)})
    else:
        _show(found, out)


def _in_words(found: Difference) -> dict[str, Any]:
    return {
        "data": found.what,
        "count": found.count,
        "float": {"top1": found.agreement and found.agreement.first},
        "int8": {"top1": found.agreement and found.agreement.second},
        "agreeing": found.agreement and found.agreement.agreeing,
        "samples": found.samples,
        "inputs": [_layer_in_words(layer) for layer in found.inputs],
        "layers": [_layer_in_words(layer) for layer in found.worst_first],
    }


def _layer_in_words(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "op": layer.kind,
        "shape": list(layer.shape),
        "sqnr_db": layer.sqnr,
        "cosine": layer.cosine,
        "range_used": layer.used,
        "clipped": layer.clipped,
        "equalized": layer.equalized,
    }


def _show(found: Difference, out: Path | None) -> None:
    if found.agreement is not None:
        first, second = found.agreement.first, found.agreement.second
        lost = 100 * (first - second)
        change = "nothing lost" if abs(lost) < 0.005 else f"{abs(lost):.2f} points {'lost' if lost > 0 else 'won'}"
        echo(f"on {found.what}")
        echo(
            f"top-1: float {100 * first:.2f} %, int8 {100 * second:.2f} %, {change};"
            f" the same answer to {100 * found.agreement.agreeing:.2f} %"
        )
    echo(f"the input, then layers, worst first, on {found.samples} pictures")
    layers = found.worst_first
    shown = [*found.inputs, *layers[:_LISTED]]
    rows = [("layer", "operator", "SQNR, dB", "cosine", "range used", "clipped"), *map(_row, shown)]
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    for row in rows:
        cells = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        echo("  ".join(cells).rstrip())
    if len(layers) > _LISTED:
        echo(f"and {len(layers) - _LISTED} better ones; `--format json` has them all")
    if any(layer.equalized for layer in layers):
        echo("* equalised: measured up to a factor for each channel, which the next layer takes back")
    if out is not None:
        echo(f"drawn in {out}")


def _row(layer: Layer) -> tuple[str, str, str, str, str, str]:
    return (
        f"{layer.name} *" if layer.equalized else layer.name,
        layer.kind,
        f"{layer.sqnr:z.1f}" if layer.sqnr is not None else "-" if layer.cosine is None else "exact",
        "-" if layer.cosine is None else f"{layer.cosine:.4f}",
        "-" if layer.used is None else f"{100 * layer.used:.0f} %",
        "-" if layer.clipped is None else f"{100 * layer.clipped:.2f} %",
    )
