"""A box of the picture: its title and count, its lines, and the ways that data takes between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from cnnc.rendering.drawing.diagram import Part
from cnnc.rendering.drawing.lines import Kind, Line
from cnnc.rendering.drawing.scene import CHARACTER, FAINT, Box, Curve, Shape, Text, breadth

_TITLE: Final = 13
_TEXT: Final = 12
_NOTE: Final = 10.5
_PILL: Final = 24
_STEP: Final = 36
_NOTE_STEP: Final = 15
_MARGIN: Final = 14
_HEAD: Final = 26
_LANE: Final = 11
_END_HEIGHT: Final = 30
_LONGEST: Final = 46

_FILLS: Final[Mapping[str, tuple[str, str]]] = {
    "input": ("#dbeafe", "#60a5fa"),
    "output": ("#dcfce7", "#4ade80"),
    "layers": ("#f8fafc", "#cbd5e1"),
    "repeat": ("#f8fafc", "#94a3b8"),
}
_PILLS: Final[Mapping[Kind, tuple[str, str]]] = {
    "window": ("#e0e7ff", "#a5b4fc"),
    "dense": ("#ede9fe", "#c4b5fd"),
    "merge": ("#fef3c7", "#fcd34d"),
    "other": ("#ffffff", "#d1d5db"),
}


def size(part: Part) -> tuple[float, float]:
    """Width and height of a part's box."""
    if part.kind in ("input", "output"):
        return breadth(_end_text(part), _TITLE) + 2 * _MARGIN, _END_HEIGHT
    if _is_bare(part):
        return _pill_width(part.lines), _PILL
    lanes = _LANE * (1 + max(_lanes(part.lines).values(), default=-1))
    head = breadth(f"{part.title}  {_count(part)}", _TITLE)
    lines = _pill_width(part.lines) + 2 * lanes
    notes = max((breadth(note, _NOTE) for note in map(_clip, part.notes)), default=0)
    width = max(head, lines, notes) + 2 * _MARGIN
    height = _top(part) + _STEP * len(part.lines) - (_STEP - _PILL) + _MARGIN + _NOTE_STEP * len(part.notes)
    return width, height


def draw_part(part: Part, left: float, top: float) -> Iterator[Shape]:
    """The shapes of a part whose box begins at a point."""
    width, height = size(part)
    fill, stroke = _FILLS[part.kind]
    if part.kind in ("input", "output"):
        yield Box(left, top, width, height, height / 2, fill, stroke)
        yield Text(left + width / 2, top + height / 2, _end_text(part), _TITLE, "middle", part.kind == "input")
        return
    if _is_bare(part):
        yield from _draw_lines(part.lines, left + width / 2, top)
        return
    if part.kind == "repeat":
        yield Box(left + 5, top + 5, width, height, 8, fill, stroke)
    yield Box(left, top, width, height, 8, fill, stroke)
    if part.title:
        yield Text(left + _MARGIN, top + _HEAD / 2 + 2, part.title, _TITLE, bold=True)
        yield Text(
            left + width - _MARGIN, top + _HEAD / 2 + 2, _count(part), _TITLE, "end", bold=True, colour="#b45309"
        )
    yield from _draw_lines(part.lines, left + width / 2, top + _top(part))
    bottom = top + _top(part) + _STEP * len(part.lines)
    for place, note in enumerate(part.notes):
        yield Text(left + _MARGIN, bottom + _NOTE_STEP * place, _clip(note), _NOTE, colour=FAINT)


def _is_bare(part: Part) -> bool:
    """Whether a part is a single line with nothing to say around it."""
    return part.kind == "layers" and not part.title and len(part.lines) == 1 and part.lines[0].sources == (-1,)


def _end_text(part: Part) -> str:
    return f"{part.title} {part.shape}"


def _count(part: Part) -> str:
    return f"x {part.count}" if part.kind == "repeat" else ""


def _top(part: Part) -> float:
    """How far below the box's top the first line begins."""
    branches = any(-1 in line.sources for line in part.lines[1:])
    return (_HEAD if part.title else 0) + _MARGIN - 4 + (8 if branches else 0)


def _clip(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _pill_width(lines: Sequence[Line]) -> float:
    return max(len(_clip(line.shown)) for line in lines) * CHARACTER * _TEXT + 20


def _lanes(lines: Sequence[Line]) -> dict[tuple[int, int], int]:
    """The lane, 0 being the innermost, that each connection other than to the next line runs in."""
    arcs = [(source, place) for place, line in enumerate(lines) for source in line.sources if source != place - 1]
    lanes: dict[tuple[int, int], int] = {}
    for source, target in sorted(arcs, key=lambda arc: (arc[1] - arc[0], arc)):
        taken = {lane for (start, end), lane in lanes.items() if start < target and source < end}
        lanes[source, target] = next(lane for lane in range(len(arcs)) if lane not in taken)
    return lanes


def _draw_lines(lines: Sequence[Line], centre: float, top: float) -> Iterator[Shape]:
    width = _pill_width(lines)
    right = centre + width / 2
    for place, line in enumerate(lines):
        middle = top + _STEP * place + _PILL / 2
        if place and place - 1 in line.sources:
            yield Curve(((centre, middle - _STEP + _PILL / 2), (centre, middle - _PILL / 2)))
        yield Box(centre - width / 2, middle - _PILL / 2, width, _PILL, 6, *_PILLS[line.kind])
        yield Text(centre, middle, _clip(line.shown), _TEXT, "middle")
    if any(-1 in line.sources for line in lines[1:]):
        yield Curve(((centre, top - 14), (centre, top)))
    for (source, target), lane in _lanes(lines).items():
        beyond = right + _LANE * (lane + 1)
        end = (right, top + _STEP * target + _PILL / 2 - 4)
        start = (centre, top - 9) if source < 0 else (right, top + _STEP * source + _PILL / 2 + 4)
        yield Curve((start, (beyond, start[1]), (beyond, end[1]), end), radius=6)
