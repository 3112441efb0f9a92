"""`cnnc predict`: what a network sees in pictures, a run's or a TFLite file's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from cnnc.cli.extras import extra
from cnnc.cli.model_options import delegate_options, is_model, labels_option, refuse, say, threads_of
from cnnc.cli.options import format_option

if TYPE_CHECKING:
    from cnnc.training.tested import Guess


@click.command("predict")
@click.argument("run", metavar="RUN|MODEL.tflite", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, metavar="K", help="Labels a picture.")
@click.option("--last", is_flag=True, help="The last epoch's weights of a run, not the best's.")
@labels_option
@delegate_options
@format_option("text", "json")
def predict(
    run: Path,
    images: tuple[Path, ...],
    top: int,
    last: bool,
    labels: Path | None,
    threads: int | None,
    delegate: Literal["edgetpu"] | None,
    format: str,
) -> None:
    """Say what the network in a RUN or a TFLite file sees in each IMAGE: its likeliest labels, and how likely."""
    if is_model(run):
        refuse("a run", [("--last", last)])
        with extra("tflite", "prediction"):
            from cnnc import running
        model = running.open_tflite(run, labels=labels, threads=threads_of(threads), delegate=delegate)
        say(model.notes)
        answers = running.predict(model, images, top)
    else:
        refuse("a .tflite file", [("--labels", labels), ("--threads", threads), ("--delegate", delegate)])
        with extra("train", "prediction"):
            from cnnc.training.measure import predict as ask
            from cnnc.training.record import open_run
        answers = ask(open_run(run, "last" if last else "best"), images, top)
    _show(images, answers, format)


def _show(images: tuple[Path, ...], answers: list[list[Guess]], format: str) -> None:
    if format == "json":
        words = [
            {"image": str(image), "top": [{"label": g.label, "probability": g.probability} for g in guesses]}
            for image, guesses in zip(images, answers, strict=True)
        ]
        click.echo(json.dumps(words, indent=2))
        return
    widest = max(len(guess.label) for guesses in answers for guess in guesses)
    for image, guesses in zip(images, answers, strict=True):
        click.echo(image)
        for guess in guesses:
            click.echo(f"  {guess.label:<{widest}}  {100 * guess.probability:6.2f} %")
