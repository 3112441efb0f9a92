"""Mappings by the user: a file of lines `layer of the file = layer of the network`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.files import read_bytes
from cnnc.weights.importing.layers.file_layers import Source
from cnnc.weights.importing.layers.graph_layers import Target


@dataclass(frozen=True)
class Mapped:
    """A line: names of a layer of the file and of an operator, and where it stands."""

    layer: str
    node: str
    place: str


def read_mapping(path: Path) -> tuple[Mapped, ...]:
    """The lines of a file; `#` begins a comment.

    Raises:
        CnnError: it cannot be read, or a line is no pair.
    """
    try:
        text = read_bytes(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = (getattr(error, "strerror", None) or "it is no text").lower()
        raise CnnError.of("weights", f"cannot read `{path}`: {reason}") from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition("#")[0].strip()
        if not said:
            continue
        layer, equals, node = (part.strip() for part in said.partition("="))
        if not (layer and equals and node):
            raise CnnError.of(
                "weights",
                f"`{path}`, line {number}: `{said}` is no pair",
                help="a line is `layer of the file = layer of the network`",
            )
        found.append(Mapped(layer, node, f"`{path}`, line {number}"))
    return tuple(found)


def places(given: Sequence[Mapped], source: Source, target: Target) -> Mapping[int, int]:
    """The layers by operators, as places in both."""
    layers = {layer.name: place for place, layer in enumerate(source.layers)}
    units = {unit.name: place for place, unit in enumerate(target.units)}
    found: dict[int, int] = {}
    for each in given:
        for name, known, owner in ((each.layer, layers, f"`{source.path}`"), (each.node, units, "the network")):
            if name not in known:
                raise CnnError.of(
                    "weights", f"{each.place}: {owner} has no layer `{name}`", help=did_you_mean(name, known)
                )
        if units[each.node] in found or layers[each.layer] in found.values():
            raise CnnError.of("weights", f"{each.place}: `{each.layer}` or `{each.node}` has a line already")
        found[units[each.node]] = layers[each.layer]
    return found
