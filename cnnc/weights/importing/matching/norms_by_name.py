"""Batch norms found beside their convolutions: `Mixed_5b.branch1x1.bn` by `Mixed_5b.branch1x1.conv`.

Only of files whose layers are so named wherever it is known already. Where names put the norm of the next convolution
as near (`conv1, bn1, conv2, bn2`), they say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from cnnc.weights.importing.layers.file_layers import Source
from cnnc.weights.importing.layers.graph_layers import Target, foldable
from cnnc.weights.importing.matching import name_distance


class NormsByName:
    """The norms of a graph that read a convolution and nothing else does, and where a file's norms are."""

    def __init__(self, source: Source, target: Target, tokens: Sequence[tuple[name_distance.Token, ...]]) -> None:
        units = {unit.name: index for index, unit in enumerate(target.units)}
        pairs = ((units.get(conv), units.get(norm.name)) for conv, norm in foldable(target.graph).items())
        self.convolutions = {norm: conv for conv, norm in pairs if conv is not None and norm is not None}
        self.norms = [index for index, layer in enumerate(source.layers) if layer.kind == "batch_norm"]
        self.tokens = tokens
        self._nearest = cache(self._nearest_of)

    def match(self, waiting: Sequence[tuple[Sequence[int], Sequence[int]]], known: Mapping[int, int]) -> dict[int, int]:
        """The layers of norms, by units, among groups of units and layers that may belong together."""
        if not self._names_pair_known_norms(known):
            return {}
        pairs: dict[int, int] = {}
        for units, layers in waiting:
            for unit in units:
                conv = known.get(self.convolutions.get(unit, -1))
                norm = None if conv is None else self._nearest(conv)
                if norm in layers and norm is not None:
                    pairs[unit] = norm
        twice = {norm for norm in pairs.values() if [*pairs.values()].count(norm) > 1}
        return {unit: norm for unit, norm in pairs.items() if norm not in twice}

    def _names_pair_known_norms(self, known: Mapping[int, int]) -> bool:
        """Whether all norms that are known with their convolution are nearest to it, and one at least is."""
        seen = [
            nearest == known[norm]
            for norm, conv in self.convolutions.items()
            if norm in known and conv in known and (nearest := self._nearest(known[conv])) is not None
        ]
        return bool(seen) and all(seen)

    def _nearest_of(self, layer: int) -> int | None:
        """The norm whose name is nearest to that of a layer, unless several are."""
        away = sorted((name_distance.distance(self.tokens[layer], self.tokens[norm]), norm) for norm in self.norms)
        return away[0][1] if len(away) > 1 and away[0][0] < away[1][0] else None
