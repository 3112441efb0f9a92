"""Which layer of a file is which operator of a graph.

Evidence, strongest first: what the user says; equal names; a form that one layer and one operator alone have; how
layers are connected, where the file knows; and of names that numbers order, that lie near each other, or that say
shortcut. Order counts only between operators of which one needs the other: branches that run side by side have none.
What stays open is an error that shows both sides, never a guess.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cnnc.weights.importing.layers.file_layers import Source
from cnnc.weights.importing.layers.graph_layers import Target
from cnnc.weights.importing.layers.layer_forms import Reading, readings
from cnnc.weights.importing.matching.by_graph import matched_by_graph
from cnnc.weights.importing.matching.by_name import Group, Names, resolve

Evidence = Literal["map", "name", "form", "graph", "numbers", "names", "order", "file order"]
"""Why a layer and an operator belong together: `form` when no other has theirs, `order` when they form a chain."""


@dataclass(frozen=True)
class Pair:
    """An operator and its layer, by their places in the target and the source."""

    unit: int
    layer: int
    evidence: Evidence


@dataclass(frozen=True)
class Alignment:
    """The result of matching.

    Attributes:
        pairs: in the order of the graph.
        open: groups of equal numbers of operators and layers that evidence does not tell apart.
        lacking: operators without a layer.
        unused: layers without an operator.
        readings: for every layer what it may be.
        shortened: the layers that fit without the classes that are to go.
    """

    pairs: tuple[Pair, ...]
    open: tuple[Group, ...]
    lacking: tuple[int, ...]
    unused: tuple[int, ...]
    readings: tuple[tuple[Reading, ...], ...]
    shortened: frozenset[int]


def align(
    source: Source,
    target: Target,
    *,
    given: Mapping[int, int],
    dropped: int = 0,
    trust_order: bool = False,
) -> Alignment:
    """Find the layer of every operator.

    Args:
        source: the file.
        target: the graph's operators.
        given: layers that the user named, by operators.
        dropped: so many classes go from the last layers, where they fit then.
        trust_order: whether layers that nothing else tells apart are taken in the file's order.
    """
    own, shortened = _forms(source, target, dropped)
    found: dict[int, Pair] = {unit: Pair(unit, layer, "map") for unit, layer in given.items()}
    _by_name(source, target, own, found)
    for units, layers in _components(own, target, found):
        if len(units) == len(layers) == 1:
            found[units[0]] = Pair(units[0], layers[0], "form")
    known = {form for unit in target.units for form in unit.forms}
    named = {pair.layer for pair in found.values()}
    names = Names(
        source,
        target,
        lambda unit, layer: bool(fitting(own[layer], target, unit)),
        lambda layer: layer in named or any(reading.form in known for reading in own[layer]),
    )
    still: tuple[Group, ...] = ()
    while groups := _by_graph(source, target, own, found):
        taken = {unit: pair.layer for unit, pair in found.items()}
        added, still = resolve(names, groups, taken, trust_order=trust_order)
        found.update({unit: Pair(unit, layer, evidence) for unit, (layer, evidence) in added.items()})
        if not added or not still:
            break
    used = {pair.layer for pair in found.values()}
    waiting = {unit for group in still for unit in group.units}
    held = {layer for group in still for layer in group.layers}
    return Alignment(
        tuple(found[unit] for unit in sorted(found)),
        still,
        tuple(unit for unit in range(len(target.units)) if unit not in found and unit not in waiting),
        tuple(layer for layer in range(len(source.layers)) if layer not in used and layer not in held),
        tuple(own),
        shortened,
    )


def fitting(own: Sequence[Reading], target: Target, unit: int) -> list[Reading]:
    """The ways to see a layer in which it fits a unit."""
    return [reading for reading in own if reading.form in target.units[unit].forms]


def _forms(source: Source, target: Target, dropped: int) -> tuple[list[tuple[Reading, ...]], frozenset[int]]:
    """The readings of every layer, and the layers that fit somewhere only without the classes that are to go."""
    known = {form for unit in target.units for form in unit.forms}
    found, shortened = [], set()
    for place, layer in enumerate(source.layers):
        own = readings(layer)
        if dropped and not any(reading.form in known for reading in own):
            shorter = readings(layer, dropped)
            if any(reading.form in known for reading in shorter):
                own = shorter
                shortened.add(place)
        found.append(own)
    return found, frozenset(shortened)


def _by_name(source: Source, target: Target, own: list[tuple[Reading, ...]], found: dict[int, Pair]) -> None:
    """Equal names, if most layers have one: those of cnnc itself, and labels such as Caffe's `conv1`.

    A few equal names are chance: another's `conv1` need not be ours.
    """
    places = {unit.name: place for place, unit in enumerate(target.units)}
    labels: defaultdict[str, list[int]] = defaultdict(list)
    for place, unit in enumerate(target.units):
        parts = unit.name.split(".")
        for count in range(1, len(parts)):
            labels[".".join(parts[:count])].append(place)
    named: dict[int, int] = {}
    for layer, each in enumerate(source.layers):
        under = [unit for unit in labels.get(each.name, ()) if not own[layer] or fitting(own[layer], target, unit)]
        at = places.get(each.name, under[0] if len(under) == 1 else None)
        if at is not None and (not own[layer] or fitting(own[layer], target, at)):
            named[at] = layer
    if 2 * len(named) <= len(source.layers):
        return
    used = {pair.layer for pair in found.values()}
    for at, layer in named.items():
        if at not in found and layer not in used:
            found[at] = Pair(at, layer, "name")


def _by_graph(source: Source, target: Target, own: list[tuple[Reading, ...]], found: dict[int, Pair]) -> list[Group]:
    """Match what connections tell, if the file knows them; what is then still open."""
    edges = [layer.reads for layer in source.layers]
    known = [reads for reads in edges if reads is not None]
    if len(known) < len(edges):
        return _open(own, target, found)
    layer_colours: list[int | None] = [None] * len(source.layers)
    unit_colours: list[int | None] = [None] * len(target.units)
    colour = 0
    for pair in found.values():
        layer_colours[pair.layer] = unit_colours[pair.unit] = colour
        colour += 1
    for units, layers in _components(own, target, found):
        if len(units) == len(layers):
            for unit in units:
                unit_colours[unit] = colour
            for layer in layers:
                layer_colours[layer] = colour
            colour += 1
    matched = matched_by_graph(known, target, layer_colours, unit_colours)
    if matched is None:
        return _open(own, target, found)
    for unit, layer in matched.pairs.items():
        if unit not in found and fitting(own[layer], target, unit):
            found[unit] = Pair(unit, layer, "graph")
    return [Group(units, layers) for units, layers in matched.alike]


def _open(own: Sequence[tuple[Reading, ...]], target: Target, found: Mapping[int, Pair]) -> list[Group]:
    """Groups of as many units as layers of one form."""
    groups = _components(own, target, found)
    return [Group(tuple(units), tuple(layers)) for units, layers in groups if len(units) == len(layers)]


def _components(
    own: Sequence[tuple[Reading, ...]], target: Target, found: Mapping[int, Pair]
) -> list[tuple[list[int], list[int]]]:
    """The units and layers that are not yet matched, in groups that may belong together."""
    used = {pair.layer for pair in found.values()}
    group_of: dict[object, int] = {}
    groups: dict[int, tuple[list[int], list[int]]] = {}

    def group(forms: Sequence[object]) -> int:
        """The group of all these forms, which were of several perhaps until now."""
        numbers = sorted({group_of[form] for form in forms if form in group_of})
        number = numbers[0] if numbers else len(group_of)
        groups.setdefault(number, ([], []))
        for other in numbers[1:]:
            units, layers = groups.pop(other)
            groups[number][0].extend(units)
            groups[number][1].extend(layers)
            group_of.update({form: number for form, its in group_of.items() if its == other})
        group_of.update(dict.fromkeys(forms, number))
        return number

    known = {form for unit in target.units for form in unit.forms}
    flat = {reading.form for each in own for reading in each}
    for place, unit in enumerate(target.units):
        if place not in found:
            groups[group([form for form in unit.forms if form in flat] or [unit.forms[0]])][0].append(place)
    for place, each in enumerate(own):
        if place not in used and (forms := [reading.form for reading in each if reading.form in known]):
            groups[group(forms)][1].append(place)
    return [(sorted(units), sorted(layers)) for units, layers in groups.values()]
