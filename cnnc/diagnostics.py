"""Diagnostics: an error in a user's input, its place, and how to mend it.

A diagnostic points into a `Source` by a `Span`; `render` shows it as rustc and ruff do, `to_json` gives the same to
tools. Imports nothing of the project but its frozen dataclasses and what makes text printable.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import Literal

from cnnc.frozen import dataclass
from cnnc.printable import printable

CODES: Mapping[str, str] = {
    "lexical": "a character or a literal that the language does not have",
    "syntax": "a token where the grammar has no place for it",
    "name": "a name that nothing defines",
    "duplicate": "a name that is defined twice",
    "argument": "an argument that is unknown, missing, given twice or one too many",
    "type": "a value of another type than its place takes",
    "value": "a value of the right type outside its range",
    "shape": "shapes that do not fit the layer",
    "arity": "a number of inputs, branches or list entries that does not fit",
    "input": "an input of the model that is missing or ambiguous",
    "output": "an output of the model that is missing or unusable",
    "recursion": "a block that calls itself, directly or through others",
    "import": "a file that cannot be imported",
    "limit": "a spec that expands beyond a limit",
    "budget": "an `expect` line that the model does not meet",
    "train": "a `train` section that cannot be followed",
    "spec": "a spec that cannot be found or read",
    "data": "a data set that is missing, empty or not of the expected form",
    "picture": "a picture that cannot be decoded",
    "labels": "labels that do not fit the network's outputs",
    "weights": "weights that are missing or do not fit the network",
    "run": "a run folder that is missing, incomplete or of another spec",
    "diverged": "a loss that stopped being a number",
    "process": "processes of a training that cannot meet, do not agree, or are gone",
    "backend": "an operator that a backend does not have",
    "tflite": "a TFLite file that is damaged, or not of the form that is wanted",
    "target": "a layer that the target cannot run",
    "calibration": "pictures that ranges cannot be measured on",
    "quantization": "an int8 file that says something else than the float network",
    "compiler": "the Edge TPU's compiler failing, or not saying what it did",
    "device": "a device or its library that is not there",
    "memory": "more memory wanted than there is",
    "install": "an optional package that a command needs",
}


MOST_REPORTED = 50
"""No more diagnostics of a spec are looked for or told."""


@dataclass(frozen=True)
class Source:
    """A text and the name that its user knows it by (a path, or `<string>`)."""

    name: str
    text: str

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        starts.extend(i + 1 for i, c in enumerate(self.text) if c == "\n")
        return starts

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of a character offset, both 1-based."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a 1-based line, without its line end."""
        start = self._starts[number - 1]
        end = self._starts[number] - 1 if number < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r")

    @cached_property
    def line_count(self) -> int:
        return len(self._starts)


@dataclass(frozen=True)
class Span:
    """Characters `start` up to, not including, `end` of a source, 0-based."""

    source: Source = field(repr=False)
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    @property
    def location(self) -> str:
        """`file:line:column`, as editors link it."""
        line, column = self.source.position(self.start)
        return f"{self.source.name}:{line}:{column}"

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of the other."""
        return Span(self.source, self.start, max(self.end, other.end))


@dataclass(frozen=True)
class Label:
    """A span and what is to be said of it; an empty message only marks it."""

    span: Span
    message: str = ""


@dataclass(frozen=True)
class Diagnostic:
    """One fault: a stable code, a message, where it is, what caused it, and what to do.

    `primary` is None when the fault is in no text (a missing data folder). `notes` hold the chain of block calls.
    """

    code: str
    message: str
    primary: Label | None = None
    secondary: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    help: str | None = None

    def __post_init__(self) -> None:
        assert self.code in CODES, self.code

    def to_json(self) -> dict[str, object]:
        """The diagnostic as `cnnc check --format json` prints it; positions are 1-based, the end exclusive."""
        file: str | None = None
        line = column = end_line = end_column = None
        if self.primary is not None:
            span = self.primary.span
            file = span.source.name
            line, column = span.source.position(span.start)
            end_line, end_column = span.source.position(span.end)
        return {
            "code": self.code,
            "message": self.message,
            "file": file,
            "line": line,
            "column": column,
            "end_line": end_line,
            "end_column": end_column,
            "help": self.help,
            "notes": list(self.notes),
        }


class CnnError(Exception):
    """The user's input is wrong. Carries one or more diagnostics; never raised for a fault of ours."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        assert diagnostics
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n\n".join(render(d) for d in self.diagnostics))

    @classmethod
    def of(
        cls,
        code: str,
        message: str,
        span: Span | None = None,
        *,
        label: str = "",
        secondary: Sequence[Label] = (),
        notes: Sequence[str] = (),
        help: str | None = None,
    ) -> CnnError:
        """An error of a single diagnostic."""
        primary = None if span is None else Label(span, label)
        return cls([Diagnostic(code, message, primary, tuple(secondary), tuple(notes), help)])


def did_you_mean(word: str, candidates: Iterable[str], likeness: float = 0.6) -> str | None:
    """`did you mean ...?` for the candidate nearest to a misspelt word, capitals aside, or None."""
    names = {candidate.lower(): candidate for candidate in sorted(set(candidates))}
    if len(names) > _MOST_COMPARED:
        near = [name for name in names if name[:1] == word[:1].lower() and abs(len(name) - len(word)) <= 2]
        names = {name: names[name] for name in near[:_MOST_COMPARED]}
    from difflib import get_close_matches

    near = get_close_matches(word.lower(), names, n=1, cutoff=likeness)
    return f"did you mean `{names[near[0]]}`?" if near else None


_MOST_COMPARED = 500


def clause(sentence: str) -> str:
    """Another program's message within a sentence of ours: its first letter is small, that of `EOF` is not."""
    return sentence if sentence[1:2].isupper() else sentence[:1].lower() + sentence[1:]


def render(diagnostic: Diagnostic, severity: Literal["error", "warning"] = "error") -> str:
    """The diagnostic as text for a terminal, without colours and without a line end."""
    head = f"{severity}[{diagnostic.code}]: {printable(diagnostic.message)}"
    return "\n".join([head, *_body(diagnostic)])


def _body(diagnostic: Diagnostic) -> Iterator[str]:
    labels = [] if diagnostic.primary is None else [diagnostic.primary, *diagnostic.secondary]
    width = max((len(str(_line(label))) for label in labels), default=1)
    margin = " " * width
    if diagnostic.primary is not None:
        main = diagnostic.primary.span.source
        yield f"{margin}--> {printable(diagnostic.primary.span.location)}"
        yield f"{margin} |"
        yield from _excerpt([x for x in labels if x.span.source is main], diagnostic.primary, width)
        others = [x for x in labels if x.span.source is not main]
        for source in dict.fromkeys(x.span.source for x in others):
            part = [x for x in others if x.span.source is source]
            yield f"{margin}::: {printable(part[0].span.location)}"
            yield f"{margin} |"
            yield from _excerpt(part, diagnostic.primary, width)
    for note in diagnostic.notes:
        yield f"{margin} = {printable(note)}"
    if diagnostic.help is not None:
        first, *rest = map(printable, diagnostic.help.split("\n"))
        yield f"{margin} = help: {first}"
        for line in rest:
            yield f"{margin}         {line}"


def _line(label: Label) -> int:
    return label.span.source.position(label.span.start)[0]


def _excerpt(labels: list[Label], primary: Label, width: int) -> Iterator[str]:
    """The lines that the labels stand on, each followed by its marks; a gap shows as `...`."""
    margin = " " * width
    previous: int | None = None
    for number in sorted({_line(label) for label in labels}):
        if previous is not None and number == previous + 2:
            between = labels[0].span.source.line(number - 1)
            yield f"{number - 1:>{width}} | {_cut(between, *_window(between, 0))}".rstrip()
        elif previous is not None and number > previous + 2:
            yield "..."
        here = [label for label in labels if _line(label) == number]
        start = end = -1
        for label in sorted(here, key=lambda x: (x is not primary, x.span.start)):
            text, column = label.span.source.line(number), _column(label)
            if not start <= column <= end:
                start, end = _window(text, column)
                yield f"{number:>{width}} | {_cut(text, start, end)}".rstrip()
            yield f"{margin} | {_marks(label, text, start, end, '^' if label is primary else '-')}"
        previous = number


def _column(label: Label) -> int:
    """0-based."""
    return label.span.source.position(label.span.start)[1] - 1


_WIDEST = 160
_LEFT_OUT = "..."


def _window(text: str, column: int) -> tuple[int, int]:
    """The part of a line that is shown: the whole, or where it is long the part around a column."""
    if len(text) <= _WIDEST:
        return 0, len(text)
    start = max(0, min(column - _WIDEST // 3, len(text) - _WIDEST))
    return start, start + _WIDEST


def _cut(text: str, start: int, end: int) -> str:
    before, after = _LEFT_OUT if start else "", _LEFT_OUT if end < len(text) else ""
    return f"{before}{_shown(text[start:end])}{after}"


def _marks(label: Label, text: str, start: int, end: int, mark: str) -> str:
    column = _column(label)
    before = _cut(text[:column], start, column)
    marked = text[column : min(column + label.span.end - label.span.start, end)]
    return f"{' ' * _width(before)}{mark * max(1, _width(_shown(marked)))} {printable(label.message)}".rstrip()


def _shown(text: str) -> str:
    """A part of a source line as a terminal can show it: tabs as four blanks, control characters spelt out."""
    return printable(text.replace("\t", "    "))


def _width(text: str) -> int:
    """Terminal columns that a text takes: wide East Asian characters two, combining marks none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
