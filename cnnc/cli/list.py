"""`cnnc list`: what is bundled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import click

from cnnc import specs
from cnnc.cli.console.terminal import echo_block, echo_json
from cnnc.cli.options.common import format_option
from cnnc.ir import Graph
from cnnc.language import parse
from cnnc.loading import find, load_spec
from cnnc.ops import format_shape
from cnnc.overrides import Overrides
from cnnc.rendering.captions import magnitude
from cnnc.rendering.text_table import box


@click.command("list")
@format_option("table", "json")
def list(format: Literal["table", "json"]) -> None:
    """List the bundled specs, each with its variants, trainable parameters and multiply-accumulates (MACs)."""
    found = {name: [*_variants(name)] for name in specs.names()}
    if format == "json":
        echo_json([_to_json(name, *each) for name, rows in found.items() for each in rows])
    else:
        sections = [[_cells(name, *each) for each in rows] for name, rows in found.items()]
        echo_block(box(("spec", "variant", "input", "parameters", "MACs"), sections, right=(3, 4)))


def _variants(name: str) -> Iterator[tuple[str | None, Graph]]:
    """Each variant of a bundled spec and its graph; None for a spec that has none."""
    spec = find(name)
    names: tuple[str | None, ...] = tuple(each.name.text for each in parse(spec.source).variants)
    for variant in names or (None,):
        yield variant, load_spec(spec, Overrides(variant=variant)).graph


def _cells(name: str, variant: str | None, graph: Graph) -> tuple[str, ...]:
    inputs = ", ".join(format_shape(node.shape) for node in graph.inputs)
    return name, variant or "", inputs, f"{graph.trainable_count:,}", magnitude(graph.mac_count)


def _to_json(name: str, variant: str | None, graph: Graph) -> dict[str, Any]:
    return {
        "name": name,
        "variant": variant,
        "inputs": {node.name: [*node.shape] for node in graph.inputs},
        "params": graph.parameter_count,
        "trainable_params": graph.trainable_count,
        "macs": graph.mac_count,
    }
