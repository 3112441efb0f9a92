"""Matching by names, of layers that have equal forms, where a file has no graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Final, Literal

from cnnc.weights.importing.layers.file_layers import Source
from cnnc.weights.importing.layers.graph_layers import Target
from cnnc.weights.importing.matching import name_distance
from cnnc.weights.importing.matching.norms_by_name import NormsByName

Why = Literal["numbers", "names", "order", "file order"]
Pairs = dict[int, tuple[int, Why]]
"""The layer of every unit, and the evidence for it."""
Around = tuple[Sequence[int], Sequence[int]]
"""The nearest layers before and behind a unit."""

_MOST_TRIED: Final = 2000
"""Of groups that can be matched in so many ways all are compared."""
_MOST_STEPS: Final = 100_000
"""Looking for them ends after so many layers put in a place."""
_MARGIN: Final = 0.5
"""So much nearer the best way must be than the next: what siblings that differ in a number are nearer than others."""
_STRANGE: Final = 4.0
"""The cost of a shortcut in the place of another layer, in steps of a name's tree."""


@dataclass(frozen=True)
class Group:
    """Units and layers, as many of each, of which every one fits every other."""

    units: tuple[int, ...]
    layers: tuple[int, ...]


class Names:
    """Facts on pairs that are known before any of a group is matched.

    `fits` says whether a unit may be a layer, `is_candidate` whether a layer may be any unit.
    """

    def __init__(
        self,
        source: Source,
        target: Target,
        fits: Callable[[int, int], bool],
        is_candidate: Callable[[int], bool],
    ) -> None:
        self.source = source
        self.target = target
        self.fits = fits
        self.tokens = [name_distance.tokens(layer.name) for layer in source.layers]
        self.readers: list[list[int]] = [[] for _ in target.units]
        for place, unit in enumerate(target.units):
            for read in unit.reads:
                self.readers[read.layer].append(place)
        # Files may have thousands of layers that fit nothing, and few are ever asked about.
        fitting = [place for place in range(len(source.layers)) if is_candidate(place)]
        self.later = cache(
            lambda own: _bits(i for i in fitting if name_distance.is_before(self.tokens[own], self.tokens[i])),
        )
        self.earlier = cache(
            lambda own: _bits(i for i in fitting if name_distance.is_before(self.tokens[i], self.tokens[own])),
        )
        self.before = target.before
        self.after = [
            _bits(i for i, bits in enumerate(self.before) if bits >> own & 1) for own in range(len(self.before))
        ]
        self.distance = cache(lambda own, other: name_distance.distance(self.tokens[own], self.tokens[other]))
        self.ways: dict[Group, list[tuple[int, ...]]] = {}
        self.norms = NormsByName(source, target, self.tokens)
        self.knows_shortcuts = any(map(name_distance.is_shortcut, self.tokens))
        self.knows_pools = any(map(name_distance.is_pooled, self.tokens))

    def around(self, unit: int, taken: Mapping[int, int]) -> Around:
        """The nearest layers that are matched, before and behind a unit."""
        before = self._nearest(unit, lambda each: [read.layer for read in self.target.units[each].reads], taken)
        return before, self._nearest(unit, lambda each: self.readers[each], taken)

    def cost(self, unit: int, layer: int, around: Around) -> float:
        """How far a layer's name is from those around the unit, and whether the two play other parts."""
        own = self.tokens[layer]
        # Less its own depth, so that deep names are as good as others.
        total = sum(min(self.distance(layer, each) for each in near) - len(own) for near in around if near)
        if self.knows_shortcuts and name_distance.is_shortcut(own) != self.target.units[unit].is_shortcut:
            total += _STRANGE
        if self.knows_pools and name_distance.is_pooled(own) != self.target.units[unit].is_pooled:
            total += _STRANGE
        return total

    def _nearest(self, unit: int, neighbours: Callable[[int], Sequence[int]], taken: Mapping[int, int]) -> list[int]:
        seen, edge = {unit}, {unit}
        while edge:
            edge = {other for each in edge for other in neighbours(each)} - seen
            seen |= edge
            if edge & taken.keys():
                return sorted(taken[other] for other in edge & taken.keys())
        return []


def resolve(
    names: Names, groups: Sequence[Group], taken: Mapping[int, int], *, trust_order: bool
) -> tuple[Pairs, tuple[Group, ...]]:
    """The layers of the units of all groups as far as names tell, and what stays open."""
    pairs: Pairs = {}
    known = dict(taken)
    waiting = list(groups)
    ordered: list[Group] = []
    while waiting:
        waiting = [part for group in waiting for part in _split(names, group, known)]
        likeliest = _likeliest(names, waiting, known, trust_order=trust_order)
        if likeliest is None:
            break
        added, why = likeliest
        known.update(added)
        pairs.update({unit: (layer, why) for unit, layer in added.items()})
        waiting = [rest for group in waiting if (rest := _without(group, added)).units]
        if why == "order":
            ordered.append(Group(tuple(added), tuple(added.values())))
    for group in ordered:
        if _is_contradicted(names, group, known):
            waiting.append(group)
            for unit in group.units:
                del pairs[unit]
    return pairs, tuple(waiting)


def _likeliest(
    names: Names, groups: Sequence[Group], known: Mapping[int, int], *, trust_order: bool
) -> tuple[Mapping[int, int], Why] | None:
    """The layers of some units for which evidence is strongest now, and that evidence; None if nothing tells."""
    single = {group.units[0]: group.layers[0] for group in groups if len(group.units) == 1}
    if single:
        return single, "numbers"
    if pairs := names.norms.match([(group.units, group.layers) for group in groups], known):
        return pairs, "names"
    if nearest := _nearest(names, groups, known):
        return nearest, "names"
    if chain := _in_order(names, groups, trust_order=trust_order):
        return chain, "order"
    return (dict(zip(groups[0].units, groups[0].layers, strict=True)), "file order") if trust_order else None


def _is_contradicted(names: Names, group: Group, known: Mapping[int, int]) -> bool:
    """Whether names, now that those around are known, would have two layers of a group change places."""
    for place, unit in enumerate(group.units):
        for other in group.units[place + 1 :]:
            if not (names.fits(unit, known[other]) and names.fits(other, known[unit])):
                continue
            rest = {each: layer for each, layer in known.items() if each not in (unit, other)}
            around, around_other = names.around(unit, rest), names.around(other, rest)
            as_is = names.cost(unit, known[unit], around) + names.cost(other, known[other], around_other)
            changed = names.cost(unit, known[other], around) + names.cost(other, known[unit], around_other)
            if changed <= as_is - _MARGIN:
                return True
    return False


def _without(group: Group, pairs: Mapping[int, int]) -> Group:
    units = tuple(unit for unit in group.units if unit not in pairs)
    used = set(pairs.values())
    return Group(units, tuple(layer for layer in group.layers if layer not in used))


def _split(names: Names, group: Group, known: Mapping[int, int]) -> list[Group]:
    """The group in parts that order keeps apart, if it does: a part has as many units as layers."""
    parts: list[tuple[set[int], set[int]]] = []
    for unit, layers in _possible(names, group, known).items():
        own = ({unit}, layers)
        for part in [part for part in parts if part[1] & own[1]]:
            parts.remove(part)
            own[0].update(part[0])
            own[1].update(part[1])
        parts.append(own)
    if any(len(units) != len(layers) for units, layers in parts):
        return [group]  # the numbers in the names contradict the graph: they order nothing
    return [Group(tuple(sorted(units)), tuple(sorted(layers))) for units, layers in parts]


def _possible(names: Names, group: Group, known: Mapping[int, int]) -> dict[int, set[int]]:
    """For every unit the layers before and after which as many may come as before and after the unit."""
    units, layers = _bits(group.units), _bits(group.layers)
    possible = {}
    for unit in group.units:
        others = units & ~(1 << unit)
        maybe_earlier = (others & ~names.after[unit]).bit_count()
        maybe_later = (others & ~names.before[unit]).bit_count()
        earlier = _bits(layer for other, layer in known.items() if names.before[unit] >> other & 1)
        later = _bits(layer for other, layer in known.items() if names.after[unit] >> other & 1)
        possible[unit] = {
            layer
            for layer in group.layers
            if names.fits(unit, layer)
            and (names.earlier(layer) & layers).bit_count() <= maybe_earlier
            and (names.later(layer) & layers).bit_count() <= maybe_later
            and not names.later(layer) & earlier
            and not names.earlier(layer) & later
        }
    return possible


def _bits(places: Iterable[int]) -> int:
    bits = 0
    for place in places:
        bits |= 1 << place
    return bits


def _nearest(names: Names, groups: Sequence[Group], known: Mapping[int, int]) -> dict[int, int] | None:
    """The layers of the group whose best way to be matched is nearest by most, if by enough."""
    best: tuple[float, dict[int, int]] | None = None
    for group in groups:
        if group not in names.ways:
            names.ways[group] = _ways(names, group)
        ways = names.ways[group]
        if not ways:
            continue
        around = {unit: names.around(unit, known) for unit in group.units}
        costs = {(u, s): names.cost(u, s, around[u]) for u in group.units for s in group.layers}
        ranked = sorted((sum(costs[pair] for pair in zip(group.units, way, strict=True)), way) for way in ways)
        margin = ranked[1][0] - ranked[0][0] if len(ranked) > 1 else inf
        if margin >= _MARGIN and (best is None or margin > best[0]):
            best = margin, dict(zip(group.units, ranked[0][1], strict=True))
    return None if best is None else best[1]


def _ways(names: Names, group: Group) -> list[tuple[int, ...]]:
    """The layers in every order in which no number contradicts the graph, those of the units in theirs.

    None at all if they are too many, or too many to try.
    """
    units = group.units
    before = [[place for place, other in enumerate(units) if names.before[unit] >> other & 1] for unit in units]
    are_all_after = [
        all(names.before[other] >> unit & 1 for other in units[place + 1 :]) for place, unit in enumerate(units)
    ]
    fitting = [[layer for layer in group.layers if names.fits(unit, layer)] for unit in units]

    ways: list[tuple[int, ...]] = []
    steps = 0

    def extend(way: tuple[int, ...], left: int) -> None:
        nonlocal steps
        steps += 1
        place = len(way)
        if place == len(units):
            ways.append(way)
        if place == len(units) or len(ways) > _MOST_TRIED or steps > _MOST_STEPS:
            return
        needed = _bits(way[other] for other in before[place])
        for layer in fitting[place]:
            is_early = are_all_after[place] and names.earlier(layer) & left
            if left >> layer & 1 and not is_early and not names.later(layer) & needed:
                extend((*way, layer), left & ~(1 << layer))

    extend((), _bits(group.layers))
    return ways if len(ways) <= _MOST_TRIED and steps <= _MOST_STEPS else []


def _in_order(names: Names, groups: Sequence[Group], *, trust_order: bool) -> dict[int, int] | None:
    """The layers of a group that is a chain in the graph, of a file that keeps the order in which layers run.

    That in which an author's code made them is often the same, and need not be: it is taken where it is trusted.
    """
    if names.source.order == "names" or (names.source.order == "written" and not trust_order):
        return None
    for group in groups:
        pairs = zip(group.units, group.units[1:], strict=False)
        if all(names.target.is_before(first, second) for first, second in pairs):
            return dict(zip(group.units, group.layers, strict=True))
    return None
