"""`cnnc check`: every diagnostic of specs, and their budgets."""

from __future__ import annotations

import click

from cnnc.cli.options import format_option, override_options
from cnnc.cli.report import to_json
from cnnc.diagnostics import CnnError, Diagnostic
from cnnc.loading import examine, find
from cnnc.overrides import Overrides


@click.command()
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@override_options
@format_option("text", "json")
def check(specs: tuple[str, ...], overrides: Overrides, format: str) -> None:
    """Find every fault of each SPEC, with line, column and a fix, and hold it to its `expect` lines.

    Without flags that change the model, every variant is checked, too.
    """
    found: list[Diagnostic] = []
    for name in specs:
        try:
            spec = find(name)
            net, diagnostics = examine(spec, overrides, budgets=True)
        except CnnError as error:
            found.extend(error.diagnostics)
            continue
        found.extend(diagnostics)
        if net is not None and format == "text":
            graph = net.graph
            click.echo(
                f"{name}: good, {len(graph)} layers, {graph.trainable_count:,} parameters, {graph.mac_count:,} MACs"
            )
    if found:
        raise CnnError(found)
    if format == "json":
        click.echo(to_json([]))
