"""The layers of a box as lines: a layer with the norm and activation that follow it, and what each line reads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from cnnc.caption import caption
from cnnc.folding import Item, Turns
from cnnc.ir import Graph, Node
from cnnc.ops import Add, Concat, Dense, Mul

Kind = Literal["window", "dense", "merge", "other"]

LONGEST: Final = 46
"""Characters of a line; what is longer ends in an ellipsis."""
_MOST_LINES: Final = 24
_MOST_NOTES: Final = 4
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Line:
    """`sources` are the places of the lines it reads, -1 standing for what comes into the box."""

    text: str
    kind: Kind
    sources: tuple[int, ...]


def lines_of(graph: Graph, items: Iterable[Item]) -> tuple[Line, ...]:
    """The lines of nodes and of the repeats inside them, whose turns are shown once with their count."""
    lines: list[Line] = []
    home: dict[str, int] = {}
    last = ""
    for node, count in _counted(items, 1):
        sources = tuple(dict.fromkeys(home.get(name, -1) for name in node.inputs))
        text = caption(node.op) + (f" x {count}" if count > 1 else "")
        if lines and node.inputs == (last,) and count == 1 and _follows(graph, node):
            lines[-1] = replace(lines[-1], text=f"{lines[-1].text} | {text}")
        else:
            lines.append(Line(text, _kind(graph, node), sources))
        home[node.name] = len(lines) - 1
        last = node.name if len(graph.consumers[node.name]) == 1 else ""
    return _shortened(lines)


def merge_turns(turns: Sequence[tuple[Turns, tuple[Line, ...]]]) -> tuple[tuple[Line, ...], tuple[str, ...]]:
    """The lines that most turns have, and notes of what the others have instead.

    Turns that differ in numbers alone are shown together: `conv(3x3, 16..256)`.
    """
    groups: dict[object, list[tuple[Turns, tuple[Line, ...]]]] = {}
    for turn in turns:
        groups.setdefault(tuple((_NUMBER.sub("#", line.text), line.sources) for line in turn[1]), []).append(turn)
    typical = max(groups.values(), key=lambda group: (sum(turns.count for turns, _ in group), group[0][0].first))
    shown = _ranged([lines for _, lines in typical])
    notes = []
    for group in groups.values():
        if group is not typical:
            first, last = group[0][0].first, group[-1][0].last
            notes.append(f"turn {first} has" if first == last else f"turns {first} to {last} have")
            notes.extend(_lacking(shown, _ranged([lines for _, lines in group])))
    return shown, tuple(notes[:_MOST_NOTES])


def _lacking(shown: Sequence[Line], other: Sequence[Line]) -> Iterator[str]:
    """The lines of another turn that are not among those shown; `branch` marks one that reads the box's input."""
    here = Counter(line.text for line in shown)
    for place, line in enumerate(other):
        if here[line.text]:
            here[line.text] -= 1
        else:
            yield f"branch {line.text}" if place and line.sources == (-1,) else line.text


def _counted(items: Iterable[Item], count: int) -> Iterator[tuple[Node, int]]:
    for item in items:
        if isinstance(item, Node):
            yield item, count
        else:
            for turns in item.turns:
                yield from _counted(turns.items, count * turns.count)


def _follows(graph: Graph, node: Node) -> bool:
    """Whether a layer shares the line of the one it reads: it keeps the shape and has no kernel, as norms do."""
    return graph.input_shapes(node) == (node.shape,) and "kernel" not in graph.weights(node)


def _kind(graph: Graph, node: Node) -> Kind:
    if isinstance(node.op, Add | Concat | Mul):
        return "merge"
    if isinstance(node.op, Dense):
        return "dense"
    return "window" if "kernel" in graph.weights(node) else "other"


def _ranged(turns: Sequence[tuple[Line, ...]]) -> tuple[Line, ...]:
    """Lines that differ in numbers alone as one, `16..256` for a number that goes from the one to the other."""
    return tuple(
        replace(first, text=_spanned(first.text, last.text)) for first, last in zip(turns[0], turns[-1], strict=True)
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
