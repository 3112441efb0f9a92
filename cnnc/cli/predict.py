"""`cnnc predict`: what a run's network sees in pictures."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cnnc.cli.extras import extra
from cnnc.cli.options import format_option


@click.command("predict")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, metavar="K", help="Labels a picture.")
@click.option("--last", is_flag=True, help="The last epoch's weights, not the best's.")
@format_option("text", "json")
def predict(run: Path, images: tuple[Path, ...], top: int, last: bool, format: str) -> None:
    """Say what the network in RUN sees in each IMAGE: its likeliest labels, with their probabilities."""
    with extra("train", "prediction"):
        from cnnc.training.measure import predict as ask
        from cnnc.training.record import open_run

    answers = ask(open_run(run, "last" if last else "best"), images, top)
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
