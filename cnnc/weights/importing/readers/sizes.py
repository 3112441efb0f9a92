"""How much a file of weights may hold: what it says of sizes is checked before any room is made for it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cnnc.ir import Graph
from cnnc.weights.importing.layers.file_errors import fault

MOST_BYTES: Final = 16 << 30
"""Of a file that is held against no network."""
_LEAST_BYTES: Final = 256 << 20
_TIMES: Final = 16
"""Files hold states of an optimiser, averages and other heads, too, and numbers of twice the width."""
_FLOAT: Final = 4


def most_bytes(graph: Graph) -> int:
    """So much may be in a file with the weights of a graph."""
    return max(_LEAST_BYTES, _TIMES * _FLOAT * graph.parameter_count)


def require_size(path: Path, size: int, most: int) -> None:
    """Raises CnnError where a file says that it holds more than `most` bytes."""
    if size > most:
        raise fault(
            path,
            f"it says that it holds {_bytes(size)}, and for this network at most {_bytes(most)} are read",
            help="give the file of this network's weights",
        )


def _bytes(size: int) -> str:
    units = ("MiB", "GiB", "TiB", "PiB")
    number = size / (1 << 20)
    place = 0
    while number >= 1024 and place < len(units) - 1:
        number, place = number / 1024, place + 1
    return f"{number:,.1f} {units[place]}"
