"""A graph with its weights, which is what passes change and backends lower."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from cnnc.ir.graph import Graph

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Model:
    """`weights` holds float32 arrays by node and short name: `weights["stem.conv"]["kernel"]`."""

    graph: Graph
    weights: Mapping[str, Arrays]


Pass = Callable[[Model], Model]
"""A pass keeps the names of the nodes that it keeps, and every output's label, shape and, to rounding, value."""
