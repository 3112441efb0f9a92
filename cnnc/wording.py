"""Parts of sentences: a count with its noun, what values lie between, why something failed."""

from __future__ import annotations

from collections.abc import Iterable


def number_of(count: int, noun: str) -> str:
    """`1 label`, `1,234 labels`, `2 classes`."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def quoted(names: Iterable[object], most: int | None = None) -> str:
    """Names in backticks with commas between: `a`, `b` and 3 more, where there are more than `most`."""
    every = [f"`{name}`" for name in names]
    more = f" and {len(every) - most:,} more" if most is not None and len(every) > most else ""
    return ", ".join(every[:most]) + more


def extent(low: float, high: float, form: str = "", *, plural: bool = False) -> str:
    """The extent of values: `goes from 0 to 9`, or `is 7 throughout`; several `go`, or `are all 7`.

    `form` is how a number is written, as in `format`.
    """
    least, most = f"{low:{form}}", f"{high:{form}}"
    if least == most:
        return f"are all {least}" if plural else f"is {least} throughout"
    return f"{'go' if plural else 'goes'} from {least} to {most}"


def reason_of(error: BaseException) -> str:
    """Why something failed, within a sentence: what the system says of it, or else the error's own words."""
    return (getattr(error, "strerror", None) or str(error)).lower()
