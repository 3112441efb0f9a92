"""How a command says that there is not memory enough for what it was asked."""

from __future__ import annotations

import re
from typing import Final

from cnnc.diagnostics import CnnError

_EXHAUSTED: Final = re.compile(r"RESOURCE_EXHAUSTED.*(out of memory|allocat)", re.IGNORECASE | re.DOTALL)
_BYTES: Final = re.compile(r"allocat\w* ([\d,]+) bytes", re.IGNORECASE)
_HELP: Final = (
    "a smaller input, network or batch needs less, and a training less with `--remat`; "
    "`ulimit -v` shows whether the shell limits memory"
)


def shortage_of(error: MemoryError | RuntimeError) -> CnnError | None:
    """The error of Python, NumPy or XLA when no memory is left, as one of the user's; None of any other error."""
    text = str(error)
    if not isinstance(error, MemoryError) and _EXHAUSTED.search(text) is None:
        return None
    wanted = _BYTES.search(text)
    size = f" for another {int(wanted[1].replace(',', '')):,} bytes" if wanted else ""
    return CnnError.of("memory", f"there is no memory left{size}", notes=_notes(text), help=_HELP)


def _notes(text: str) -> tuple[str, ...]:
    first = text.strip().partition("\n")[0]
    return (first[:200],) if first and not _EXHAUSTED.search(first) else ()
