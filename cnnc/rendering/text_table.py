"""A table of text in a box."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cnnc.printable import printable

_NARROWEST = 12


def box(
    head: Sequence[str],
    sections: Sequence[Sequence[Sequence[str]]],
    *,
    right: Collection[int] = (),
    shrink: Sequence[int] = (),
    widest: int | None = None,
) -> str:
    """Rows under a head, a rule before each section. What cannot be printed is spelt out.

    Args:
        head: a title a column.
        sections: groups of rows of cells.
        right: the columns that are flushed right.
        shrink: the columns that give way, in this order, where the box is wider than `widest` columns.
        widest: None for as wide as the text is.
    """
    head = [*map(printable, head)]
    sections = [[[*map(printable, row)] for row in rows] for rows in sections]
    widths = [max(map(len, column)) for column in zip(head, *(row for rows in sections for row in rows), strict=True)]
    if widest is not None:
        _narrow(widths, shrink, widest)
    aligns = [">" if column in right else "<" for column in range(len(head))]
    formats = [f"{align}{width}" for align, width in zip(aligns, widths, strict=True)]

    def line(cells: Sequence[str]) -> str:
        fitted = (f"{_fit(cell, width):{how}}" for cell, width, how in zip(cells, widths, formats, strict=True))
        return f"│ {' │ '.join(fitted)} │"

    def rule(left: str, middle: str, end: str) -> str:
        return left + middle.join("─" * (width + 2) for width in widths) + end

    lines = [rule("┌", "┬", "┐"), line(head)]
    for rows in sections:
        lines.append(rule("├", "┼", "┤"))
        lines.extend(map(line, rows))
    return "\n".join([*lines, rule("└", "┴", "┘")])


def _narrow(widths: list[int], shrink: Sequence[int], widest: int) -> None:
    """Take what is too wide from the columns that may give way."""
    for column in shrink:
        excess = sum(widths) + 3 * len(widths) + 1 - widest
        widths[column] = max(min(widths[column], _NARROWEST), widths[column] - max(0, excess))


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
