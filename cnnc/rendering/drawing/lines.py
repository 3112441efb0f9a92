"""The layers of a box as lines: a layer with the norm and activation that follow it, and what each line reads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from cnnc.ir import Graph, Node
from cnnc.ops import Add, Concat, Dense, Matmul, Mul, Sub
from cnnc.rendering.captions import caption
from cnnc.rendering.folding import Group, Item, Turns

Kind = Literal["window", "dense", "merge", "other"]

_SHORT: Final = 18
"""Characters of a norm or an activation; what is longer is shown by its name alone."""
_LONG: Final = 46
"""Characters of a line; from there on names alone follow."""
_MOST_LINES: Final = 24
_MOST_NOTES: Final = 5
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Line:
    """`count` times the same; `sources` are the places of the lines it reads, -1 standing for the box's input."""

    text: str
    kind: Kind
    sources: tuple[int, ...]
    count: int = 1

    @property
    def shown(self) -> str:
        """The text with its count, as a spec would write it."""
        if self.count == 1:
            return self.text
        return f"{self.count} x ({self.text})" if "|" in self.text else f"{self.count} x {self.text}"


def lines_of(graph: Graph, items: Iterable[Item]) -> tuple[Line, ...]:
    """The lines of nodes and of the repeats inside them, whose turns are shown once with their count."""
    lines: list[Line] = []
    home: dict[str, int] = {}
    _write(graph, items, 1, lines, home)
    return _shortened(_joined(lines))


def _write(graph: Graph, items: Iterable[Item], count: int, lines: list[Line], home: dict[str, int]) -> None:
    """Add the lines of items to `lines`, and the line of every node to `home`."""
    last: Node | None = None
    for item in items:
        if isinstance(item, Group):
            for turns in item.turns:
                _write(graph, turns.items, count * turns.count, lines, home)
                first = turns.nodes[: len(turns.nodes) // turns.count]
                home |= {node.name: home[first[i % len(first)].name] for i, node in enumerate(turns.nodes)}
            last = None
            continue
        if last is not None and item.inputs == (last.name,) and _shares_line(graph, last, item):
            longer = f"{lines[-1].text} | {_short(item)}"
            brief = f"{lines[-1].text} | {item.op.name}"
            lines[-1] = replace(lines[-1], text=longer if len(longer) <= _LONG else brief)
        else:
            sources = tuple(dict.fromkeys(home.get(name, -1) for name in item.inputs))
            text = _short(item) if _keeps_shape(graph, item) else caption(item.op)
            lines.append(Line(text, _kind(graph, item), sources, count))
        home[item.name] = len(lines) - 1
        last = item


def _shares_line(graph: Graph, last: Node, node: Node) -> bool:
    return len(graph.consumers[last.name]) == 1 and _keeps_shape(graph, node)


def _keeps_shape(graph: Graph, node: Node) -> bool:
    """Whether a layer is one that follows others on their line: it keeps its input's shape and has no kernel."""
    return graph.input_shapes(node) == (node.shape,) and "kernel" not in graph.weights(graph[node.owner])


def _short(node: Node) -> str:
    text = caption(node.op)
    return text if len(text) <= _SHORT else node.op.name


def _joined(lines: Sequence[Line]) -> list[Line]:
    """The lines, those in a row that say the same as one, as long as nothing else reads between them."""
    readers = Counter(source for line in lines for source in line.sources)
    joined: list[Line] = []
    places: dict[int, int] = {-1: -1}
    for place, line in enumerate(lines):
        if place and line.sources == (place - 1,) and readers[place - 1] == 1 and line.text == lines[place - 1].text:
            joined[-1] = replace(joined[-1], count=joined[-1].count + line.count)
        else:
            joined.append(replace(line, sources=tuple(dict.fromkeys(places[source] for source in line.sources))))
        places[place] = len(joined) - 1
    return joined


def merge_turns(turns: Sequence[tuple[Turns, tuple[Line, ...]]]) -> tuple[tuple[Line, ...], tuple[str, ...]]:
    """The lines that most turns have, and notes of what the others have instead.

    Turns that differ in numbers alone are shown together: `conv(3x3, 16..256)`.
    """
    groups: dict[object, list[tuple[Turns, tuple[Line, ...]]]] = {}
    for turn in turns:
        groups.setdefault(tuple((_NUMBER.sub("#", line.shown), line.sources) for line in turn[1]), []).append(turn)
    typical = max(groups.values(), key=lambda group: (sum(turns.count for turns, _ in group), group[0][0].first))
    shown = _ranged([lines for _, lines in typical])
    notes: list[str] = []
    for group in groups.values():
        if group is not typical:
            first, last = group[0][0].first, group[-1][0].last
            lacking = [*_lacking(shown, _ranged([lines for _, lines in group]))]
            if lacking:
                notes.append(f"turn {first} has" if first == last else f"turns {first} to {last} have")
                notes.extend(lacking)
    if len(notes) > _MOST_NOTES:
        notes[_MOST_NOTES - 1 :] = ["..."]
    return shown, tuple(notes)


def _lacking(shown: Sequence[Line], other: Sequence[Line]) -> Iterator[str]:
    """The lines of another turn that are not among those shown; `branch` marks one that reads the box's input."""
    here = Counter(line.text for line in shown)
    for place, line in enumerate(other):
        if here[line.text]:
            here[line.text] -= 1
        else:
            yield f"branch {line.text}" if place and line.sources == (-1,) else line.text


def _kind(graph: Graph, node: Node) -> Kind:
    if isinstance(node.op, Add | Concat | Matmul | Mul | Sub):
        return "merge"
    if isinstance(node.op, Dense):
        return "dense"
    return "window" if "kernel" in graph.weights(graph[node.owner]) else "other"


def _ranged(turns: Sequence[tuple[Line, ...]]) -> tuple[Line, ...]:
    """Lines that differ in numbers alone as one, `16..256` for a number that goes from the one to the other."""
    return tuple(
        replace(first, text=_spanned(first.shown, last.shown), count=1)
        for first, last in zip(turns[0], turns[-1], strict=True)
    )


def _spanned(first: str, last: str) -> str:
    numbers = iter(_NUMBER.findall(last))
    return _NUMBER.sub(lambda match: _span(match[0], next(numbers)), first)


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first}..{last}"


def _shortened(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines, with an ellipsis for the middle of very many."""
    if len(lines) <= _MOST_LINES:
        return tuple(lines)
    half = _MOST_LINES // 2
    hidden = len(lines) - 2 * half
    ellipsis = Line(f"... {hidden} more", "other", (half - 1,))

    def moved(place: int) -> int:
        return place if place < half else max(half, place - hidden + 1)

    tail = (replace(line, sources=tuple(dict.fromkeys(map(moved, line.sources)))) for line in lines[-half:])
    return (*lines[:half], ellipsis, *tail)
