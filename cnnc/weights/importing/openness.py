"""What names tell of layers that have equal forms, where a file knows no graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Final, Literal

from cnnc.weights.importing import names as told
from cnnc.weights.importing.beside import Beside
from cnnc.weights.importing.source import Source
from cnnc.weights.importing.target import Target

Why = Literal["numbers", "names", "order", "file order"]
Found = dict[int, tuple[int, Why]]
Around = tuple[Sequence[tuple[told.Token, ...]], Sequence[tuple[told.Token, ...]]]

_MOST_TRIED: Final = 2000
"""Of groups that can be matched in so many ways all are compared."""
_MARGIN: Final = 0.5
"""So much nearer the best way must be than the next: what siblings that differ in a number are nearer than others."""
_STRANGE: Final = 4.0
"""What a shortcut costs in the place of another layer, in steps of a name's tree."""


@dataclass(frozen=True)
class Group:
    """Units and layers, as many of each, of which every one fits every other."""

    units: tuple[int, ...]
    layers: tuple[int, ...]


class Names:
    """What is known of pairs before any of a group is matched."""

    def __init__(self, source: Source, target: Target, fits: Callable[[int, int], bool]) -> None:
        self.source = source
        self.target = target
        self.fits = fits
        self.tokens = [told.tokens(layer.name) for layer in source.layers]
        self.readers: list[list[int]] = [[] for _ in target.units]
        for place, unit in enumerate(target.units):
            for read in unit.reads:
                self.readers[read.layer].append(place)
        self.later = [[told.is_before(own, other) for other in self.tokens] for own in self.tokens]
        self.ways: dict[Group, list[tuple[int, ...]]] = {}
        self.beside = Beside(source, target, self.tokens)
        self.knows_shortcuts = any(map(told.is_shortcut, self.tokens))
        self.knows_pools = any(map(told.is_pooled, self.tokens))

    def precedes(self, first: int, second: int) -> bool:
        """Whether the file says that a layer runs before another: by its graph, or by numbers in names."""
        return self.later[first][second]

    def around(self, unit: int, taken: Mapping[int, int]) -> Around:
        """The names of the nearest layers that are matched, before and behind a unit."""
        before = self._nearest(unit, lambda each: [read.layer for read in self.target.units[each].reads], taken)
        return before, self._nearest(unit, lambda each: self.readers[each], taken)

    def cost(self, unit: int, layer: int, around: Around) -> float:
        """How far a layer's name is from those around the unit, and whether the two play other parts."""
        own = self.tokens[layer]
        # Less its own depth, so that deep names are as good as others.
        total = sum(min(told.distance(own, each) for each in near) - len(own) for near in around if near)
        if self.knows_shortcuts and told.is_shortcut(own) != self.target.units[unit].is_shortcut:
            total += _STRANGE
        if self.knows_pools and told.is_pooled(own) != self.target.units[unit].is_pooled:
            total += _STRANGE
        return total

    def _nearest(
        self, unit: int, beside: Callable[[int], Sequence[int]], taken: Mapping[int, int]
    ) -> list[tuple[told.Token, ...]]:
        seen, edge = {unit}, [unit]
        while edge:
            edge = [other for each in edge for other in beside(each) if other not in seen]
            seen.update(edge)
            if any(other in taken for other in edge):
                return [self.tokens[taken[other]] for other in edge if other in taken]
        return []


def resolve(
    names: Names, groups: Sequence[Group], taken: Mapping[int, int], *, trust_order: bool
) -> tuple[Found, tuple[Group, ...]]:
    """The layers of the units of all groups as far as names tell, and what stays open."""
    found: Found = {}
    known = dict(taken)
    waiting = list(groups)

    def take(pairs: Mapping[int, int], why: Why) -> None:
        known.update(pairs)
        found.update({unit: (layer, why) for unit, layer in pairs.items()})

    while waiting:
        waiting = [part for group in waiting for part in _split(names, group, known)]
        single = [group for group in waiting if len(group.units) == 1]
        if single:
            for group in single:
                take({group.units[0]: group.layers[0]}, "numbers")
            waiting = [group for group in waiting if len(group.units) > 1]
            continue
        pairs = names.beside.found([(group.units, group.layers) for group in waiting], known)
        if pairs:
            take(pairs, "names")
            waiting = [left for group in waiting if (left := _without(group, pairs)).units]
            continue
        chosen = _nearest(names, waiting, known)
        why: Why = "names"
        if chosen is None:
            chosen, why = _in_order(names, waiting), "order"
        if chosen is None and trust_order:
            chosen, why = (waiting[0], dict(zip(waiting[0].units, waiting[0].layers, strict=True))), "file order"
        if chosen is None:
            break
        take(chosen[1], why)
        waiting.remove(chosen[0])
    return found, tuple(waiting)


def _without(group: Group, pairs: Mapping[int, int]) -> Group:
    units = tuple(unit for unit in group.units if unit not in pairs)
    used = set(pairs.values())
    return Group(units, tuple(layer for layer in group.layers if layer not in used))


def _split(names: Names, group: Group, known: Mapping[int, int]) -> list[Group]:
    """The group in parts that order keeps apart, if it does: a part has as many units as layers."""
    possible = {
        unit: [layer for layer in group.layers if _is_possible(names, group, unit, layer, known)]
        for unit in group.units
    }
    parts: list[tuple[set[int], set[int]]] = []
    for unit, layers in possible.items():
        own = ({unit}, set(layers))
        for part in [part for part in parts if part[1] & own[1]]:
            parts.remove(part)
            own[0].update(part[0])
            own[1].update(part[1])
        parts.append(own)
    if any(len(units) != len(layers) for units, layers in parts):
        return [group]  # the numbers in the names contradict the graph: they order nothing
    return [Group(tuple(sorted(units)), tuple(sorted(layers))) for units, layers in parts]


def _is_possible(names: Names, group: Group, unit: int, layer: int, known: Mapping[int, int]) -> bool:
    """Whether as many may come before and after a layer as before and after a unit."""
    is_before, precedes = names.target.is_before, names.precedes
    if not names.fits(unit, layer):
        return False
    earlier = sum(precedes(other, layer) for other in group.layers)
    later = sum(precedes(layer, other) for other in group.layers)
    maybe_earlier = sum(not is_before(unit, other) for other in group.units if other != unit)
    maybe_later = sum(not is_before(other, unit) for other in group.units if other != unit)
    if earlier > maybe_earlier or later > maybe_later:
        return False
    return not any(
        (is_before(other, unit) and precedes(layer, its)) or (is_before(unit, other) and precedes(its, layer))
        for other, its in known.items()
    )


def _nearest(names: Names, groups: Sequence[Group], known: Mapping[int, int]) -> tuple[Group, dict[int, int]] | None:
    """The group whose best way to be matched is nearest by most, if by enough."""
    best: tuple[float, Group, dict[int, int]] | None = None
    for group in groups:
        if group not in names.ways:
            names.ways[group] = list(islice(_ways(names, group), _MOST_TRIED + 1))
        ways = names.ways[group]
        if not 0 < len(ways) <= _MOST_TRIED:
            continue
        around = {unit: names.around(unit, known) for unit in group.units}
        costs = {(u, s): names.cost(u, s, around[u]) for u in group.units for s in group.layers}
        ranked = sorted((sum(costs[pair] for pair in zip(group.units, way, strict=True)), way) for way in ways)
        margin = ranked[1][0] - ranked[0][0] if len(ranked) > 1 else inf
        if margin >= _MARGIN and (best is None or margin > best[0]):
            best = margin, group, dict(zip(group.units, ranked[0][1], strict=True))
    return None if best is None else best[1:]


def _ways(names: Names, group: Group) -> Iterator[tuple[int, ...]]:
    """The layers in every order in which no number contradicts the graph, those of the units in theirs."""
    units, is_before = group.units, names.target.is_before
    earlier = {
        layer: {other for other in group.layers if other != layer and names.precedes(other, layer)}
        for layer in group.layers
    }

    def extended(way: tuple[int, ...], left: frozenset[int]) -> Iterator[tuple[int, ...]]:
        if not left:
            yield way
            return
        unit = units[len(way)]
        are_all_after = all(is_before(unit, other) for other in units[len(way) + 1 :])
        for layer in sorted(left):
            if not names.fits(unit, layer) or (are_all_after and earlier[layer] & left):
                continue
            if any(layer in earlier[its] and is_before(other, unit) for other, its in zip(units, way, strict=False)):
                continue
            yield from extended((*way, layer), left - {layer})

    return extended((), frozenset(group.layers))


def _in_order(names: Names, groups: Sequence[Group]) -> tuple[Group, dict[int, int]] | None:
    """A group that is a chain in the graph, of a file that keeps the order in which layers were made or run."""
    if names.source.order == "names":
        return None
    for group in groups:
        pairs = zip(group.units, group.units[1:], strict=False)
        if all(names.target.is_before(first, second) for first, second in pairs):
            return group, dict(zip(group.units, group.layers, strict=True))
    return None
