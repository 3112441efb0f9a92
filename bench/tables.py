"""Markdown tables that commands write into the manual's pages, each between two marks."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def rows(text: str, mark: str) -> list[list[str]]:
    """The cells of the table between `<!-- mark -->` and `<!-- /mark -->`, without its head; none are escaped."""
    start, end = _marks(text, mark)
    lines = text.split(start)[1].split(end)[0].split("\n")
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("|")][2:]


def replaced(text: str, mark: str, table: str) -> str:
    """The text with another table between `<!-- mark -->` and `<!-- /mark -->`."""
    start, end = _marks(text, mark)
    before, rest = text.split(start)
    return f"{before}{start}\n{table}\n{end}{rest.split(end)[1]}"


def _marks(text: str, mark: str) -> tuple[str, str]:
    start, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    assert text.count(start) == text.count(end) == 1, f"one pair of marks {start.strip()} is wanted"
    return start, end
