"""`cnnc eval`: how good a network is, a run's or a TFLite file's, as a whole and class by class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
    say_message,
    weights_option,
)
from cnnc.cli.options.training import DataOptions, data_options
from cnnc.diagnostics import CnnError
from cnnc.overrides import Overrides
from cnnc.printable import printable

if TYPE_CHECKING:
    from cnnc.evaluation.evaluate import Evaluation
    from cnnc.evaluation.predictor import Predictor

_LISTED = 50
"""A table lists so many classes."""


@click.command("eval")
@click.argument("run", metavar="RUN|SPEC|MODEL.tflite", type=click.Path(path_type=Path))
@data_options
@click.option("--batch", type=click.IntRange(min=1), default=128, metavar="N", help="Pictures a step.")
@click.option("--last", is_flag=True, help="The last epoch's weights of a run, not the best's.")
@weights_option
@labels_option
@click.option(
    "--classes",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A table of the classes of a folder's pictures: index, name, and what files or folders are called by.",
)
@crop_option
@override_options
@delegate_options
@format_option("text", "json")
def eval(
    run: Path,
    data: DataOptions,
    batch: int,
    last: bool,
    weights: Path | None,
    labels: Path | None,
    classes: Path | None,
    crop: float,
    overrides: Overrides,
    threads: int | None,
    delegate: Literal["edgetpu"] | None,
    format: str,
) -> None:
    """Measure the network in a RUN, SPEC or TFLite file on test data, a run by default on its own."""
    kind = kind_of(run, weights)
    require_fitting(kind, last=last, labels=labels, threads=threads, delegate=delegate, spec=(overrides, weights))
    if classes is not None and data.name is None:
        raise click.UsageError("`--classes` lists those of `--data FOLDER`")
    predictor = open_predictor(
        kind, run, overrides, weights=weights, labels=labels, last=last, threads=threads, delegate=delegate
    )
    if data.name is None and kind != "run" and (predictor.data is None or predictor.data.name is None):
        raise _no_data(run)
    from cnnc.evaluation.evaluate import evaluate_on

    if kind != "model":
        from cnnc.runs.processes import make_ready

        make_ready(say_message)
    test_set = data.test_loader(classes=classes)(predictor)
    found = evaluate_on(predictor, test_set, skip_corrupt=data.skip_corrupt, batch=batch, crop=crop)
    head, title = _heading(kind, run, weights, predictor)
    if format == "json":
        echo_json({**head, **_in_words(found)})
    else:
        _show(title, found)


def _heading(
    kind: Literal["run", "spec", "model"], what: Path, weights: Path | None, predictor: Predictor
) -> tuple[dict[str, Any], str]:
    """The subject of an evaluation, as JSON and in words."""
    if kind == "model":
        return {"model": str(what)}, what.name
    if kind == "spec":
        return {"spec": str(what), "weights": str(weights)}, f"{predictor.name} with {weights}"
    epoch = predictor.trained.epoch  # type: ignore[attr-defined]  # a run is a network
    return {"run": str(what), "epoch": epoch}, f"{predictor.name}, epoch {epoch},"


def _no_data(what: Path) -> CnnError:
    help = f"cnnc eval {what} --data digits, or another set or folder"
    return CnnError.of("data", "it is not said what to evaluate on", help=help)


def _in_words(found: Evaluation) -> dict[str, Any]:
    scores = found.scores
    words: dict[str, Any] = {
        "data": found.what,
        "count": scores.count,
        "skipped": [str(path) for path in found.broken],
        "loss": scores.loss,
        "top1": scores.top1,
        "top5": scores.top5,
    }
    if scores.confusion is not None:
        support = scores.confusion.sum(axis=1)
        words["classes"] = [
            {"name": name, "count": int(count), "recall": _number(recall), "precision": _number(precision)}
            for name, count, recall, precision in zip(
                _names(found), support, scores.recall, scores.precision, strict=True
            )
        ]
        words["confusion"] = scores.confusion.tolist()
    return words


def _show(title: str, found: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    scores = found.scores
    echo(f"{title} on {found.what}")
    if found.broken:
        echo(f"left out, as it cannot be decoded: {len(found.broken)} of them, {found.broken[0]} first")
    figures = [f"loss {scores.loss:.4f}"]
    figures += [f"top-1 {100 * scores.top1:.2f} %"] if scores.top1 is not None else []
    figures += [f"top-5 {100 * scores.top5:.2f} %"] if scores.top5 is not None else []
    echo("  ".join(figures))
    if scores.confusion is None:
        return
    table = Table("class", *(("count", "found", "right when said", "most often taken for")), box=None, pad_edge=False)
    for column in table.columns[1:4]:
        column.justify = "right"
    names = _names(found)
    rows = list(zip(names, scores.confusion, scores.recall, scores.precision, strict=True))
    for i, (name, row, recall, precision) in enumerate(rows[:_LISTED]):
        others = row.copy()
        others[i] = 0
        wrong = f"{names[int(others.argmax())]} ({others.max()})" if others.any() else ""
        table.add_row(printable(name), str(row.sum()), _percent(recall), _percent(precision), printable(wrong))
    Console(highlight=False, markup=False, soft_wrap=True).print(table)
    if len(rows) > _LISTED:
        echo(f"and {len(rows) - _LISTED} classes more; `--format json` has them all")


def _names(found: Evaluation) -> list[str]:
    assert found.scores.confusion is not None
    return list(found.classes) or [str(i) for i in range(len(found.scores.confusion))]


def _percent(share: float) -> str:
    return "-" if share != share else f"{100 * share:.2f} %"


def _number(share: float) -> float | None:
    return None if share != share else float(share)
