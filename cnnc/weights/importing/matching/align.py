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
from cnnc.weights.importing.matching.by_graph import match_by_graph
from cnnc.weights.importing.matching.by_name import Group, Names, resolve

Evidence = Literal["map", "name", "form", "graph", "numbers", "names", "order", "file order"]
"""Why a layer and an operator belong together: `form` when no other has theirs, `order` when they form a chain."""


@dataclass(frozen=True)
class Pair:
    """An operator and its layer, by their indices in the target and the source."""

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
    layer_readings, shortened = _layer_readings(source, target, dropped)
    pairs = {unit: Pair(unit, layer, "map") for unit, layer in given.items()}
    _by_name(source, target, layer_readings, pairs)
    for units, layers in _components(layer_readings, target, pairs):
        if len(units) == len(layers) == 1:
            pairs[units[0]] = Pair(units[0], layers[0], "form")
    ambiguous = _by_graph_and_names(source, target, layer_readings, pairs, trust_order=trust_order)
    open_units = {unit for group in ambiguous for unit in group.units}
    used = {pair.layer for pair in pairs.values()} | {layer for group in ambiguous for layer in group.layers}
    return Alignment(
        tuple(pairs[unit] for unit in sorted(pairs)),
        ambiguous,
        tuple(unit for unit in range(len(target.units)) if unit not in pairs and unit not in open_units),
        tuple(layer for layer in range(len(source.layers)) if layer not in used),
        tuple(layer_readings),
        shortened,
    )


def _by_graph_and_names(
    source: Source,
    target: Target,
    layer_readings: list[tuple[Reading, ...]],
    pairs: dict[int, Pair],
    *,
    trust_order: bool,
) -> tuple[Group, ...]:
    """Match by connections and by names in turn, as each makes the other surer; what stays open."""
    known = {form for unit in target.units for form in unit.forms}
    matched = {pair.layer for pair in pairs.values()}
    names = Names(
        source,
        target,
        lambda unit, layer: bool(fitting(layer_readings[layer], target, unit)),
        lambda layer: layer in matched or any(reading.form in known for reading in layer_readings[layer]),
    )
    ambiguous: tuple[Group, ...] = ()
    while groups := _by_graph(source, target, layer_readings, pairs):
        layer_of = {unit: pair.layer for unit, pair in pairs.items()}
        added, ambiguous = resolve(names, groups, layer_of, trust_order=trust_order)
        pairs.update({unit: Pair(unit, layer, evidence) for unit, (layer, evidence) in added.items()})
        if not added or not ambiguous:
            break
    return ambiguous


def fitting(options: Sequence[Reading], target: Target, unit: int) -> list[Reading]:
    """The ways to see a layer in which it fits a unit."""
    return [reading for reading in options if reading.form in target.units[unit].forms]


def _layer_readings(source: Source, target: Target, dropped: int) -> tuple[list[tuple[Reading, ...]], frozenset[int]]:
    """The readings of every layer, and the layers that fit somewhere only without the classes that are to go."""
    known = {form for unit in target.units for form in unit.forms}
    layer_readings, shortened = [], set()
    for index, layer in enumerate(source.layers):
        options = readings(layer)
        if dropped and not any(reading.form in known for reading in options):
            shorter = readings(layer, dropped)
            if any(reading.form in known for reading in shorter):
                options = shorter
                shortened.add(index)
        layer_readings.append(options)
    return layer_readings, frozenset(shortened)


def _by_name(source: Source, target: Target, layer_readings: list[tuple[Reading, ...]], pairs: dict[int, Pair]) -> None:
    """Equal names, if most layers have one: those of cnnc itself, and labels such as Caffe's `conv1`.

    A few equal names are chance: another's `conv1` need not be ours.
    """
    units = {unit.name: index for index, unit in enumerate(target.units)}
    labels: defaultdict[str, list[int]] = defaultdict(list)
    for index, unit in enumerate(target.units):
        parts = unit.name.split(".")
        for count in range(1, len(parts)):
            labels[".".join(parts[:count])].append(index)
    named: dict[int, int] = {}
    for layer, each in enumerate(source.layers):
        under = [
            unit
            for unit in labels.get(each.name, ())
            if not layer_readings[layer] or fitting(layer_readings[layer], target, unit)
        ]
        at = units.get(each.name, under[0] if len(under) == 1 else None)
        if at is not None and (not layer_readings[layer] or fitting(layer_readings[layer], target, at)):
            named[at] = layer
    if 2 * len(named) <= len(source.layers):
        return
    used = {pair.layer for pair in pairs.values()}
    for at, layer in named.items():
        if at not in pairs and layer not in used:
            pairs[at] = Pair(at, layer, "name")


def _by_graph(
    source: Source, target: Target, layer_readings: list[tuple[Reading, ...]], pairs: dict[int, Pair]
) -> list[Group]:
    """Match what connections tell, if the file knows them; what is then still open."""
    edges = [layer.reads for layer in source.layers]
    known = [reads for reads in edges if reads is not None]
    if len(known) < len(edges):
        return _open(layer_readings, target, pairs)
    layer_colours: list[int | None] = [None] * len(source.layers)
    unit_colours: list[int | None] = [None] * len(target.units)
    colour = 0
    for pair in pairs.values():
        layer_colours[pair.layer] = unit_colours[pair.unit] = colour
        colour += 1
    for units, layers in _components(layer_readings, target, pairs):
        if len(units) == len(layers):
            for unit in units:
                unit_colours[unit] = colour
            for layer in layers:
                layer_colours[layer] = colour
            colour += 1
    correspondence = match_by_graph(known, target, layer_colours, unit_colours)
    if correspondence is None:
        return _open(layer_readings, target, pairs)
    for unit, layer in correspondence.pairs.items():
        if unit not in pairs and fitting(layer_readings[layer], target, unit):
            pairs[unit] = Pair(unit, layer, "graph")
    return [Group(units, layers) for units, layers in correspondence.alike]


def _open(layer_readings: Sequence[tuple[Reading, ...]], target: Target, pairs: Mapping[int, Pair]) -> list[Group]:
    """Groups of as many units as layers of one form."""
    groups = _components(layer_readings, target, pairs)
    return [Group(tuple(units), tuple(layers)) for units, layers in groups if len(units) == len(layers)]


def _components(
    layer_readings: Sequence[tuple[Reading, ...]], target: Target, pairs: Mapping[int, Pair]
) -> list[tuple[list[int], list[int]]]:
    """The units and layers that are not yet matched, in groups that may belong together."""
    used = {pair.layer for pair in pairs.values()}
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
    flat = {reading.form for each in layer_readings for reading in each}
    for index, unit in enumerate(target.units):
        if index not in pairs:
            groups[group([form for form in unit.forms if form in flat] or [unit.forms[0]])][0].append(index)
    for index, each in enumerate(layer_readings):
        if index not in used and (forms := [reading.form for reading in each if reading.form in known]):
            groups[group(forms)][1].append(index)
    return [(sorted(units), sorted(layers)) for units, layers in groups.values()]
