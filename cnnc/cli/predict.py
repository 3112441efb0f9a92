"""`cnnc predict`: what a network sees in pictures, a run's or a TFLite file's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from cnnc.cli.console.terminal import echo, echo_json
from cnnc.cli.options.common import format_option, override_options
from cnnc.cli.options.model import (
    crop_option,
    delegate_options,
    kind_of,
    labels_option,
    open_predictor,
    require_fitting,
    say,
    weights_option,
)
from cnnc.overrides import Overrides
from cnnc.printable import printable

if TYPE_CHECKING:
    from cnnc.evaluation.answers import Answer

_LISTED: Final = 32
"""So many values are written out."""


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
    """Say what the network in a RUN, SPEC or TFLite file sees in each IMAGE.

    That is its likeliest classes and how likely they are; or, where several may hold, all labels that are likelier than
    not; of a map the share of its places that each class has; or the values that it was trained to give.
    """
    kind = kind_of(run, weights)
    require_fitting(kind, last=last, labels=labels, threads=threads, delegate=delegate, spec=(overrides, weights))
    predictor = open_predictor(
        kind, run, overrides, weights=weights, labels=labels, last=last, threads=threads, delegate=delegate
    )
    from cnnc.evaluation import predictor as prediction

    answers = prediction.predict(predictor, images, top, crop=crop)
    if predictor.outputs[0].reading is None:
        say([f"`{run}` does not say what its numbers stand for: `--labels` makes them classes"])
    _show(images, answers, format)


def _show(images: tuple[Path, ...], answers: list[Answer], format: str) -> None:
    if format == "json":
        words = [{"image": str(image), **_in_words(found)} for image, found in zip(images, answers, strict=True)]
        echo_json(words)
        return
    widest = max((len(printable(guess.label)) for found in answers for guess in found.guesses), default=0)
    for image, found in zip(images, answers, strict=True):
        echo(image)
        of = f" of {_size(found)} places" if found.is_map else ""
        for guess in found.guesses:
            echo(f"  {printable(guess.label):<{widest}}  {100 * guess.probability:6.2f} %{of}")
        if found.reading == "values":
            for line in _values(found):
                echo(f"  {line}")
        elif not found.guesses:
            echo("  no label is likelier than not")


def _in_words(found: Answer) -> dict[str, Any]:
    """A picture's answer, by its kind."""
    if found.reading == "values":
        return {"values": found.values.tolist()}
    guesses = [{"label": guess.label, "probability": guess.probability} for guess in found.guesses]
    if found.is_map:
        shares = [{"label": guess.label, "share": guess.probability} for guess in found.guesses]
        return {"places": list(found.values.shape[:-1]), "shares": shares}
    if found.reading == "labels":
        return {"labels": guesses, "probabilities": found.values.tolist()}
    return {"top": guesses}


def _values(found: Answer) -> list[str]:
    """A line a value, or of more of them than anybody reads their range."""
    values = found.values
    if found.is_map or len(values) > _LISTED:
        low, high, mean = (f"{value:.6g}" for value in (values.min(), values.max(), values.mean()))
        return [f"{_size(found, values.ndim)} values from {low} to {high}, mean {mean}"]
    if len(values) == 1 and not found.names:
        return [f"{values[0]:.6g}"]
    names = [*map(printable, found.names or map(str, range(len(values))))]
    widest = max(map(len, names))
    return [f"{name:<{widest}}  {value:.6g}" for name, value in zip(names, values, strict=True)]


def _size(found: Answer, axes: int = -1) -> str:
    """`388x388`: the places of a map."""
    return "x".join(map(str, found.values.shape[:axes]))
