"""The words, numbers and marks of a graph's text, line by line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final, NoReturn

from cnnc.diagnostics import CnnError, Source, Span
from cnnc.frozen import dataclass

PLAIN: Final = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*", re.ASCII)
"""A name that needs no quotes."""

_TOKEN: Final = re.compile(
    r"""[ \t]*(?:
      (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<dims>\d{1,18}(?:x\d{1,18})+)
    | (?P<number>-?\d{1,18}(?:\.\d{1,25})?(?:e[+-]?\d{1,3})?(?![\w.]))
    | (?P<name>[A-Za-z_]\w*(?:\.\w+)*)
    | (?P<mark>->|[=(),\[\]])
    | (?P<end>$)
    | (?P<fault>.)
    )""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True)
class Token:
    """`kind` is `string dims number name mark`, `end` after the last, or `fault` for what the text cannot have."""

    kind: str
    text: str
    span: Span


class Line:
    """The tokens of a line and how far they are read. What does not fit raises CnnError."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0

    @property
    def token(self) -> Token:
        """The token to be read next."""
        return self._tokens[self._next]

    @property
    def following(self) -> Token:
        """The token after that."""
        return self._tokens[min(self._next + 1, len(self._tokens) - 1)]

    def has(self, text: str) -> bool:
        """Whether a certain word or mark is next."""
        return self.token.text == text and self.token.kind in ("mark", "name")

    def since(self, start: Span) -> Span:
        """The text read since a span."""
        return start.to(self._tokens[self._next - 1].span)

    def take(self, kind: str, wanted: str) -> Token:
        """Read a token of a kind; `wanted` names it in the error."""
        token = self.token
        if token.kind != kind:
            self.fail(wanted)
        self._next += 1
        return token

    def mark(self, text: str) -> None:
        """Read a certain word or mark."""
        if not self.has(text):
            self.fail(f"`{text}`")
        self._next += 1

    def name(self, wanted: str) -> str:
        """Read a name, plain or in quotes."""
        return self.string() if self.token.kind == "string" else self.take("name", wanted).text

    def string(self) -> str:
        """Read a text in quotes."""
        token = self.take("string", "a text in quotes")
        try:
            value: str = json.loads(token.text)
        except ValueError as error:
            raise CnnError.of("syntax", f"`{token.text}` has an escape that is none", token.span) from error
        return value

    def count(self, wanted: str) -> int:
        """Read a whole number from 0 up."""
        if not self.token.text.isdigit():
            self.fail(wanted)
        return int(self.take("number", wanted).text)

    def end(self) -> None:
        """Read the end of the line."""
        if self.token.kind != "end":
            self.fail("the end of the line")

    def fail(self, wanted: str) -> NoReturn:
        """Raise that something else was wanted here."""
        found = "the end of the line" if self.token.kind == "end" else f"`{self.token.text}`"
        raise CnnError.of("syntax", f"expected {wanted}, found {found}", self.token.span)


def read_lines(source: Source) -> Iterator[Line]:
    """The lines that are neither blank nor comments, which begin with `#`."""
    start = 0
    for text in source.text.split("\n"):
        if text.strip() and not text.lstrip().startswith("#"):
            yield Line(list(_tokens(source, start, start + len(text.rstrip()))))
        start += len(text) + 1


def _tokens(source: Source, start: int, end: int) -> Iterator[Token]:
    kind = None
    while kind not in ("end", "fault"):
        match = _TOKEN.match(source.text, start, end)
        assert match is not None, source.text[start:end]
        kind = match.lastgroup
        assert kind is not None, match
        yield Token(kind, match[kind], Span(source, *match.span(kind)))
        start = match.end()
