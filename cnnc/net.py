"""A network that a spec describes: its graph, its recipe, and the few verbs that a Python user needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnc.ir import Graph
from cnnc.recipe import Recipe

Weights = Mapping[str, Mapping[str, Any]]
"""Arrays by node and by short name: `weights["resnet.2.0.conv1"]["kernel"]`."""


@dataclass(frozen=True)
class Net:
    """A checked network.

    `text` is the spec's source text, `overrides` what was asked for beside it (variant, width, `--set` values, ...), so
    that the two together make the same network again.
    """

    graph: Graph
    recipe: Recipe = field(default_factory=Recipe)
    text: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.graph.name
