"""Where a file's graph contradicts ours in layers that were matched: weights fit, and values would be wrong.

A stride, padding, an activation or a pool leaves no mark in a weight's shape. Each matched layer is held against its
operator: how it goes over its map, and what it sees, back to the layers before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnc import ops
from cnnc.diagnostics import CnnError
from cnnc.ops.base import format_shape
from cnnc.ops.window import axis_paddings, transposed_window, window
from cnnc.weights.importing.layers.file_layers import Source, SourceLayer
from cnnc.weights.importing.layers.graph_layers import Target, Unit
from cnnc.weights.importing.layers.graph_steps import activations, window_of
from cnnc.weights.importing.layers.steps import (
    PAD,
    POOLS,
    UNKNOWN,
    Padding,
    Step,
    Window,
    described,
    is_positive,
    margins,
    unknown,
)

_SHOWN = 6
_EPSILONS = 1e-4
"""Norms of layers and groups with epsilons this far apart differ: nothing in their weights can make up for it."""


def require_agreement(source: Source, target: Target, pairs: Mapping[int, int]) -> None:
    """Raises CnnError, naming both layers, where the file's graph contradicts ours.

    Args:
        source: the file.
        target: the graph's operators.
        pairs: the layers of units, by places.
    """
    comparison = _Comparison(source, target, pairs)
    notes = [
        f"`{layer.name}` of the file {theirs}, and `{unit.name}` {ours}"
        for unit, layer in ((target.units[place], source.layers[number]) for place, number in pairs.items())
        for theirs, ours in _differences(layer, unit, target, comparison)
    ]
    own = activations(target.graph)
    if source.activation is not None and source.activation not in own:
        functions = ", ".join(sorted(own - {"softmax"})) or "none"
        notes.append(f"the file's configuration has {source.activation} between layers, and the network {functions}")
    if notes:
        more = [f"and {len(notes) - _SHOWN} more such differences"] if len(notes) > _SHOWN else []
        raise CnnError.of(
            "weights",
            f"the weights in `{source.path}` fit `{target.graph.name}`, but the file's network computes otherwise",
            notes=[*notes[:_SHOWN], *more],
            help="change the spec to what the file says, or give the variant that the weights were trained with",
        )


def _differences(layer: SourceLayer, unit: Unit, target: Target, comparison: _Comparison) -> Iterator[tuple[str, str]]:
    """The statements of the file and of the graph on a layer, in words, where they contradict each other."""
    ours, theirs = window_of(unit.node.op), layer.window
    mine, other = unit.sees, layer.sees
    if ours is not None and theirs is not None:
        frame, other_frame = _Frame(ours, *_bare(mine)), _Frame(theirs, *_bare(other))
        sizes = target.graph.input_shapes(unit.node)[0][:-1]
        words = _apart(frame, other_frame, sizes, is_transposed=isinstance(unit.node.op, ops.ConvTranspose))
        if words is not None:
            yield f"has {words[0]}", f"has {words[1]}"
        mine, other = frame.value, other_frame.value
    if isinstance(unit.node.op, ops.LayerNorm | ops.GroupNorm) and layer.epsilon is not None:
        epsilon = unit.node.op.epsilon
        if abs(epsilon - layer.epsilon) > _EPSILONS:
            yield f"has epsilon {layer.epsilon:g}", f"has {epsilon:g}"
    found = comparison.difference(mine, other)
    if found is not None:
        yield f"sees {described(found[1])}", f"sees {described(found[0])}"


class _Comparison:
    """Steps of the graph beside those of the file. A difference is told once, of the first layer behind it."""

    def __init__(self, source: Source, target: Target, pairs: Mapping[int, int]) -> None:
        self.units = {id(target.units[place].gives): place for place in pairs}
        self.layers = {id(source.layers[layer].gives): place for place, layer in pairs.items()}
        self.seen: set[tuple[int, int]] = set()
        self.known: dict[object, int] = {}
        self.keys: dict[int, int] = {}

    def difference(self, ours: Step, theirs: Step) -> tuple[Step, Step] | None:
        """The first values, going back from these, that are not one and the same."""
        waiting = [(ours, theirs)]
        while waiting:
            own, other = waiting.pop()
            if UNKNOWN in (own.kind, other.kind) or (id(own), id(other)) in self.seen:
                continue
            self.seen.add((id(own), id(other)))
            if self._is_unpaired(own, other):
                continue
            if own.kind in POOLS and own.shape is not None and set(own.shape[:-1]) == {1}:
                waiting.append((own.inputs[0], other.inputs[0] if own.kind == other.kind else other))
                continue
            if (own.kind, own.facts) != (other.kind, other.facts) or not self._is_same_layer(own, other):
                return own, other
            if own.kind in POOLS:
                frame, other_frame = _pooled(own), _pooled(other)
                assert own.shape is not None
                if len(other_frame.window.kernel or own.shape[:-1]) < len(own.shape) - 1:
                    continue  # a pool over a volume is written as several
                if _apart(frame, other_frame, own.shape[:-1]) is not None:
                    return own, other
                waiting.append((frame.value, other_frame.value))
            elif own.is_unordered:
                matched = self._matched(own.inputs, other.inputs)
                if matched is None:
                    return own, other
                waiting += matched
            elif len(own.inputs) != len(other.inputs):
                return own, other
            else:
                waiting += zip(own.inputs, other.inputs, strict=True)
        return None

    def _is_unpaired(self, own: Step, other: Step) -> bool:
        """Whether one is the result of a layer without a counterpart, which `--partial` lets pass."""
        return (own.kind == "layer" and id(own) not in self.units) or (
            other.kind == "layer" and id(other) not in self.layers
        )

    def _is_same_layer(self, own: Step, other: Step) -> bool:
        """Whether two results of layers, if they are such, are of a pair."""
        return own.kind != "layer" or self.units[id(own)] == self.layers[id(other)]

    def _matched(self, own: Sequence[Step], other: Sequence[Step]) -> list[tuple[Step, Step]] | None:
        """Terms that belong together, whatever their order, by the layers that they are made of."""
        left: defaultdict[int, list[Step]] = defaultdict(list)
        for step in other:
            left[self._key(step)].append(step)
        pairs, alone = [], []
        for step in own:
            same = left[self._key(step)]
            if same:
                pairs.append((step, same.pop(0)))
            else:
                alone.append(step)
        others = [step for steps in left.values() for step in steps]
        if len(alone) == len(others) == 1:
            return [*pairs, (alone[0], others[0])]
        is_open = any(step.kind == UNKNOWN for step in (*alone, *others))
        return pairs if is_open or not (alone or others) else None

    def _key(self, step: Step) -> int:
        """One number for steps of the same operators and layers, whatever their sizes."""
        waiting = [step]
        while waiting:
            each = waiting[-1]
            unread = [inner for inner in each.inputs if id(inner) not in self.keys]
            if unread and id(each) not in self.keys:
                waiting += unread
                continue
            waiting.pop()
            inner = [self.keys[id(one)] for one in each.inputs]
            place = self.units.get(id(each), self.layers.get(id(each)))
            name = id(each) if each.kind == UNKNOWN else place if place is not None else each.kind == "layer"
            key = (each.kind, name, tuple(sorted(inner) if each.is_unordered else inner))
            self.keys[id(each)] = self.known.setdefault(key, len(self.known))
        return self.keys[id(step)]


@dataclass(frozen=True)
class _Frame:
    """A window, what it goes over, and the zeros that were put around that before and after on each axis."""

    window: Window
    value: Step
    around: tuple[tuple[int, int], ...] = ()


def _bare(step: Step) -> tuple[Step, tuple[tuple[int, int], ...]]:
    """A value without zeros around it, and these."""
    around: tuple[tuple[int, int], ...] = ()
    while step.kind == PAD:
        assert step.window is not None
        own = step.window.padding
        assert isinstance(own, tuple), own
        if around and len(around) != len(own):
            return unknown(step), ()
        pairs = zip(around or ((0, 0),) * len(own), own, strict=True)
        around = tuple((first + before, last + after) for (first, last), (before, after) in pairs)
        (step,) = step.inputs
    return step, around


def _pooled(pool: Step) -> _Frame:
    """A pool; zeros around a map count for nothing in a maximum where no value is below them."""
    assert pool.window is not None
    (value,) = pool.inputs
    bare, around = _bare(value)
    return (
        _Frame(pool.window, bare, around)
        if is_positive(bare) and pool.kind == "max pool"
        else _Frame(pool.window, value)
    )


def _apart(
    ours: _Frame, theirs: _Frame, padded: Sequence[int], *, is_transposed: bool = False
) -> tuple[str, str] | None:
    """The difference between two windows over maps of our sizes, in words, theirs first."""
    if theirs.value.kind == UNKNOWN and theirs.window.padding is not None:  # how converters write a dilation, perhaps
        return None
    rank = len(padded)
    said = (theirs.window.stride, theirs.window.dilation, theirs.window.kernel, theirs.window.padding, theirs.around)
    if any(each and not isinstance(each, str) and len(each) < rank for each in said):
        return None
    around, other_around = _of_rank(ours.around, rank), _of_rank(theirs.around, rank)
    sizes = [size - before - after for size, (before, after) in zip(padded, around, strict=True)]
    mine, other = _spread(ours.window, sizes), _spread(theirs.window, sizes)
    assert mine.kernel is not None
    assert mine.stride is not None
    kernel = mine.kernel
    if other.kernel is not None and _of_rank(other.kernel, rank) != kernel:
        return f"a window of {format_shape(other.kernel)}", format_shape(kernel)
    own = _margins(sizes, mine, mine.stride, mine.padding, around, is_transposed)
    stride = _of_rank(other.stride, rank)
    if stride and any(a != b and size > 1 for a, b, (_, size) in zip(mine.stride, stride, own, strict=True)):
        return f"stride {format_shape(stride)}", format_shape(mine.stride)
    dilation, other_dilation = mine.dilation or (1,) * rank, _of_rank(other.dilation, rank)
    if other_dilation and any(a != b and k > 1 for a, b, k in zip(dilation, other_dilation, kernel, strict=True)):
        return f"dilation {format_shape(other_dilation)}", format_shape(dilation)
    if other.padding is None:
        return None
    padding = other.padding if isinstance(other.padding, str) else _of_rank(other.padding, rank)
    if own != _margins(sizes, mine, mine.stride, padding, other_around, is_transposed):
        return _words(padding, other_around), _words(mine.padding, around)
    return None


def _spread(given: Window, sizes: Sequence[int]) -> Window:
    """A window over a whole map by that map's size."""
    if given.stride is None and given.kernel is None and given.padding is None:
        return Window(tuple(sizes), None, "valid", tuple(sizes))
    return given


def _margins(
    sizes: Sequence[int],
    ours: Window,
    strides: Sequence[int],
    padding: Padding | None,
    around: Sequence[tuple[int, int]],
    is_transposed: bool,
) -> list[tuple[int, int]]:
    """How far before the map the first window begins on each axis, and how many there are."""
    assert ours.kernel is not None
    assert padding is not None
    rank, over = len(sizes), transposed_window if is_transposed else window
    axes = zip(
        sizes, ours.kernel, strides, ours.dilation or (1,) * rank, axis_paddings(padding, rank), around, strict=True
    )
    found = []
    for size, kernel, stride, dilation, each, (before, after) in axes:
        own = over(size + before + after, kernel, stride, dilation, each)
        found.append((own.before + before, own.size))
    return found


def _of_rank(axes: tuple[Any, ...] | None, rank: int) -> Any:
    """The last axes of a statement: a signal may be stored as a picture of height 1."""
    if axes is None:
        return None
    return axes[len(axes) - rank :] if axes else ((0, 0),) * rank


def _words(padding: Padding | None, around: Sequence[tuple[int, int]]) -> str:
    zeros = f" after {margins(tuple(around))} zeros" if any(map(any, around)) else ""
    return f"padding {margins(padding) if padding is not None else ''}{zeros}"
