"""`cnnc check`: every diagnostic of specs, their budgets, and what the Edge TPU makes of specs and TFLite files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from cnnc.cli.console.errors import to_json
from cnnc.cli.console.terminal import echo, echo_block, echo_json
from cnnc.cli.options.common import format_option, override_options
from cnnc.diagnostics import CnnError, Diagnostic
from cnnc.ir import Graph
from cnnc.loading import examine, find
from cnnc.overrides import Overrides


@click.command()
@click.argument("specs", metavar="SPEC|MODEL.tflite...", nargs=-1, required=True)
@override_options
@click.option("--target", type=click.Choice(["edgetpu"]), help="Predict what the Edge TPU's compiler will say, too.")
@format_option("text", "json")
@click.pass_context
def check(
    ctx: click.Context,
    specs: tuple[str, ...],
    overrides: Overrides,
    target: Literal["edgetpu"] | None,
    format: Literal["text", "json"],
) -> None:
    """Find every fault of each SPEC, with line, column and a fix, and hold it to its `expect` lines.

    Without flags that change the model, every variant is checked, too. With `--target edgetpu` it says which operators
    the Edge TPU will take, of a spec or of any TFLite file, why not the others, and what it costs in memory and time.
    """
    found: list[Diagnostic] = []
    predictions: dict[str, dict[str, Any]] = {}
    for name in specs:
        try:
            if _is_tflite(name):
                _require_target(name, target)
                found.extend(_predict(Path(name), name, format, predictions))
                continue
            net, diagnostics = examine(find(name), overrides, budgets=True)
        except CnnError as error:
            found.extend(error.diagnostics)
            continue
        found.extend(diagnostics)
        if net is not None and format == "text":
            graph = net.graph
            echo(f"{name}: good, {len(graph)} layers, {graph.trainable_count:,} parameters, {graph.mac_count:,} MACs")
        if net is not None and target is not None:
            found.extend(_predict(net.graph, name, format, predictions))
    if format == "json":
        echo_json(to_json(found, _merged(predictions)))
        ctx.exit(1 if found else 0)
    if found:
        raise CnnError(found)


def _is_tflite(name: str) -> bool:
    return name.lower().endswith(".tflite")


def _require_target(name: str, target: str | None) -> None:
    if target is None:
        raise CnnError.of(
            "target", f"`{name}` is a TFLite file, and it is not said what to check it for", help="--target edgetpu"
        )


def _predict(subject: Graph | Path, name: str, format: str, predictions: dict[str, dict[str, Any]]) -> list[Diagnostic]:
    """Show, or keep for JSON, what is predicted of a spec's graph or of a file; what is wrong with it."""
    from cnnc.cli.console.edgetpu import check_file, check_graph

    shown = check_file(subject, None) if isinstance(subject, Path) else check_graph(subject, name, None)
    predicted, faults = shown
    if format == "text":
        echo_block(predicted.text)
    predictions[name] = predicted.words
    return faults


def _merged(predictions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The prediction of one subject as it is, of several by their names."""
    if len(predictions) == 1:
        return next(iter(predictions.values()))
    return {"predictions": predictions} if predictions else {}
