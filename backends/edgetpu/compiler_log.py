"""The log of edgetpu_compiler, versions 2.0 to 16.0: figures, the table of operators, and why it failed."""

from __future__ import annotations

import re
from typing import Final

from cnnc.frozen import dataclass


@dataclass(frozen=True)
class Row:
    """A line of the table of operators that `-s` prints."""

    op: str
    count: int
    status: str

    @property
    def mapped(self) -> bool:
        return self.status == "Mapped to Edge TPU"


@dataclass(frozen=True)
class Log:
    """The figures of a log, None for those that it lacks. Sizes are in bytes, as rounded as they are printed."""

    version: str | None
    milliseconds: int | None
    cached_bytes: int | None
    remaining_bytes: int | None
    streamed_bytes: int | None
    output_bytes: int | None
    subgraphs: int | None
    operations: int | None
    rows: tuple[Row, ...]
    failure: str | None
    """The reason for which the compiler failed."""

    @property
    def succeeded(self) -> bool:
        return self.milliseconds is not None and self.failure is None


def parse_log(text: str) -> Log:
    """The figures of a log. Where it tells of several tries, as `-d` makes them, the last counts."""
    text = _COLOURS.sub("", text)
    started = text.rfind("compiled successfully")
    failure = None if started >= 0 and not _fails_after(text, started) else _failure(text)
    return Log(
        _text(r"Edge TPU Compiler version (\S+)", text),
        _number(r"Models? compiled successfully in (\d+) ms", text),
        _size("On-chip memory used for caching model parameters", text),
        _size("On-chip memory remaining for caching model parameters", text),
        _size("Off-chip memory used for streaming uncached model parameters", text),
        _size("Output size", text),
        _number(r"Number of Edge TPU subgraphs: (\d+)", text),
        _number(r"Total number of operations: (\d+)", text),
        _rows(text),
        failure,
    )


_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_ROW: Final = re.compile(r"^\s*(\S+)\s{2,}(\d{1,9})\s{2,}(\S.*?)\s*$")
_HEAD: Final = re.compile(r"^\s*Operator\s+Count\s+Status\s*$", re.MULTILINE)
_UNITS: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_FAILURES: Final = (
    r"Didn't find op for builtin opcode[^\n]*",
    r"Op builtin_code out of range[^\n]*",
    r"Encountered unresolved custom op[^\n]*",
    r"Attempting to use a delegate that only supports static-sized tensors[^\n]*",
    r"Did not get operators, tensors, or buffers[^\n]*",
    r"Model not quantized",
    r"Compilation failed: [^\n]*",
    r"Internal compiler error\. Aborting!",
    r"Compilation child process did not complete[^\n]*",
    r"Compilation timeout[^\n]*",
    r"Model could not be parsed",
    r"Invalid model[^\n]*",
    r"Compilation failed!",
    r"ERROR: [^\n]*",
)
"""The most telling first."""


def _failure(text: str) -> str | None:
    for pattern in _FAILURES:
        found = re.findall(pattern, text)
        if found:
            return str(found[-1]).strip().removeprefix("Compilation failed: ").rstrip(". !") or None
    return None


def _fails_after(text: str, start: int) -> bool:
    return "Compilation failed" in text[start:] or "Internal compiler error" in text[start:]


def _text(pattern: str, text: str) -> str | None:
    found = re.findall(pattern, text)
    return str(found[-1]) if found else None


def _number(pattern: str, text: str) -> int | None:
    found = _text(pattern, text)
    return None if found is None or len(found) > 12 else int(found)


def _size(name: str, text: str) -> int | None:
    found = re.findall(rf"{name}: (\d{{1,12}}(?:\.\d{{1,6}})?)(B|KiB|MiB|GiB)\b", text)
    return None if not found else round(float(found[-1][0]) * _UNITS[found[-1][1]])


def _rows(text: str) -> tuple[Row, ...]:
    heads = list(_HEAD.finditer(text))
    if not heads:
        return ()
    rows: list[Row] = []
    for line in text[heads[-1].end() :].splitlines():
        found = _ROW.match(line)
        if found:
            rows.append(Row(found[1], int(found[2]), found[3]))
        elif line.strip():
            break
    return tuple(rows)
