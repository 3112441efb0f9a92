"""`cnnc show`: a network as a table, as a picture, or as a spec written out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from cnnc.cli.console.terminal import echo, echo_block, echo_document, echo_json, is_terminal
from cnnc.cli.options.common import OUTPUT_FILE, format_option, spec_options
from cnnc.ir import Graph
from cnnc.loading import find, load_spec
from cnnc.overrides import Overrides
from cnnc.rendering import layer_table


@click.command("show")
@spec_options
@click.option("--all", "unfold", is_flag=True, help="Show every repeat by itself.")
@click.option("--expand", is_flag=True, help="Print the spec with blocks, stages and scaling written out.")
@click.option("--graph", "picture", type=OUTPUT_FILE, metavar="FILE", help="Draw it: FILE.svg, .png or .mmd.")
@format_option("table", "json")
def show(
    spec: str,
    overrides: Overrides,
    unfold: bool,
    expand: bool,
    picture: Path | None,
    format: Literal["table", "json"],
) -> None:
    """Show the layers of SPEC with their shapes, parameters and multiply-accumulates (MACs).

    Turns of a repeat that are alike are one line; the numbers are those of one turn, the totals those of all.
    """
    if expand and (picture or format == "json"):
        raise click.UsageError("--expand prints a spec: leave --graph and --format out")
    if picture is not None:
        _check_format(picture)
    net = load_spec(find(spec), overrides)
    if expand:
        from cnnc.rendering.spec_text import print_spec

        echo_document(print_spec(net.graph, net.recipe))
    elif picture is not None:
        _draw(net.graph, picture)
    elif format == "json":
        echo_json(layer_table.to_json(net.graph))
    else:
        echo_block(layer_table.render(net.graph, unfold, _columns()))


def _check_format(picture: Path) -> None:
    from cnnc.rendering.drawing import FORMATS

    if picture.suffix.removeprefix(".").lower() not in FORMATS:
        endings = ", ".join(f".{each}" for each in FORMATS)
        raise click.BadParameter(f"`{picture}` does not end in {endings}", param_hint="'--graph'")


def _draw(graph: Graph, picture: Path) -> None:
    from cnnc.files import write_atomically
    from cnnc.rendering.drawing import draw

    write_atomically(picture, draw(graph, picture.suffix.removeprefix(".").lower()))
    echo(f"drew {picture}")


def _columns() -> int | None:
    """The terminal's width; None where the table goes elsewhere."""
    if not is_terminal():
        return None
    from shutil import get_terminal_size

    return get_terminal_size().columns
