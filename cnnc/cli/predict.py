"""`cnnc predict`: what a network sees in pictures, a run's or a TFLite file's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from cnnc.cli.extras import extra
from cnnc.cli.model_options import (
    crop_option,
    delegate_options,
    kind_of,
    labels_option,
    open_spec,
    require_fitting,
    say,
    threads_of,
    weights_option,
)
from cnnc.cli.options import format_option, override_options
from cnnc.overrides import Overrides

if TYPE_CHECKING:
    from cnnc.training.tested import Guess


@click.command("predict")
@click.argument("run", metavar="RUN|SPEC|MODEL.tflite", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, metavar="K", help="Labels a picture.")
@click.option("--last", is_flag=True, help="The last epoch's weights of a run, not the best's.")
@weights_option
@labels_option
@crop_option
@override_options
@delegate_options
@format_option("text", "json")
def predict(
    run: Path,
    images: tuple[Path, ...],
    top: int,
    last: bool,
    weights: Path | None,
    labels: Path | None,
    crop: float,
    overrides: Overrides,
    threads: int | None,
    delegate: Literal["edgetpu"] | None,
    format: str,
) -> None:
    """Say what the network in a RUN, SPEC or TFLite file sees in each IMAGE: its likeliest labels, and how likely."""
    kind = kind_of(run, weights)
    require_fitting(kind, last=last, labels=labels, threads=threads, delegate=delegate, spec=(overrides, weights))
    if kind == "model":
        with extra("tflite", "prediction"):
            from cnnc import running
        model = running.open_tflite(run, labels=labels, threads=threads_of(threads), delegate=delegate)
        say(model.notes)
        answers = running.predict(model, images, top, crop=crop)
    else:
        with extra("train", "prediction"):
            from cnnc.training.measure import predict as ask
            from cnnc.training.record import Asked, open_run
        opened: Asked
        if kind == "spec":
            opened = open_spec(run, overrides, weights, labels)
        else:
            opened = open_run(run, "last" if last else "best")
        answers = ask(opened, images, top, crop=crop)
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
