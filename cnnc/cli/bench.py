"""`cnnc bench`: how long TFLite files take for a picture, beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from cnnc.cli.console.extras import extra
from cnnc.cli.console.terminal import echo, echo_json
from cnnc.cli.options.common import format_option
from cnnc.cli.options.model import delegate_options, threads_of

if TYPE_CHECKING:
    from cnnc.evaluation.latency import Latency


@click.command("bench")
@click.argument("models", metavar="MODEL.tflite...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--runs", type=click.IntRange(1, 10**6), default=100, show_default=True, metavar="N", help="Of each file."
)
@delegate_options
@format_option("table", "json")
def bench(
    models: tuple[Path, ...], runs: int, threads: int | None, delegate: Literal["edgetpu"] | None, format: str
) -> None:
    """Time each MODEL on random inputs of one example. The files take turns, so that a busy machine slows all alike."""
    with extra("tflite", "timing"):
        from cnnc.evaluation.latency import bench as measure

    used = threads_of(threads)
    found = measure(models, runs, threads=used, delegate=delegate)
    if format == "json":
        rows = [
            {
                "model": str(each.model),
                "median_ms": each.median,
                "p10_ms": each.low,
                "p90_ms": each.high,
                "ratio": each.ratio,
            }
            for each in found
        ]
        echo_json({"runs": runs, "threads": used, "delegate": delegate, "models": rows})
        return
    _show(found, runs, used, delegate)


def _show(found: list[Latency], runs: int, threads: int, delegate: str | None) -> None:
    on = "an Edge TPU" if delegate else f"{threads} thread{'s' if threads > 1 else ''}"
    echo(f"{runs} runs of each, in turns, on {on}; milliseconds")
    widest = max(len("model"), *(len(str(each.model)) for each in found))
    echo(f"{'model':<{widest}}    median      10 %      90 %  to the first")
    for each in found:
        numbers = "  ".join(f"{value:8.3f}" for value in (each.median, each.low, each.high))
        echo(f"{each.model!s:<{widest}}  {numbers}  {each.ratio:12.2f}")
