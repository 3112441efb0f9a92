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
class MappingLine:
    """A line: names of a layer of the file and of an operator, and the file and line for messages."""

    layer: str
    node: str
    location: str


def read_mapping(path: Path) -> tuple[MappingLine, ...]:
    """The lines of a file; `#` begins a comment.

    Raises:
        CnnError: it cannot be read, or a line is no pair.
    """
    try:
        text = read_bytes(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = (getattr(error, "strerror", None) or "it is no text").lower()
        raise CnnError.of("weights", f"cannot read `{path}`: {reason}") from error
    lines = []
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
        lines.append(MappingLine(layer, node, f"`{path}`, line {number}"))
    return tuple(lines)


def mapped_layers(lines: Sequence[MappingLine], source: Source, target: Target) -> Mapping[int, int]:
    """The layers by operators, as indices in the source and the target."""
    layers = {layer.name: index for index, layer in enumerate(source.layers)}
    units = {unit.name: index for index, unit in enumerate(target.units)}
    pairs: dict[int, int] = {}
    for line in lines:
        for name, known, owner in ((line.layer, layers, f"`{source.path}`"), (line.node, units, "the network")):
            if name not in known:
                raise CnnError.of(
                    "weights", f"{line.location}: {owner} has no layer `{name}`", help=did_you_mean(name, known)
                )
        if units[line.node] in pairs or layers[line.layer] in pairs.values():
            raise CnnError.of("weights", f"{line.location}: `{line.layer}` or `{line.node}` has a line already")
        pairs[units[line.node]] = layers[line.layer]
    return pairs
