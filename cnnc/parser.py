"""Text to syntax tree. The only file, with parser_table.py, that knows lark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import lark
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken
from lark.lark import PostLex
from lark.lexer import Token

from cnnc import parser_table, syntax
from cnnc.diagnostics import CnnError, Diagnostic, Label, Source, Span, did_you_mean
from cnnc.parser_messages import ENDINGS, describe, expectation
from cnnc.parser_tree import TreeReader

MOST_ERRORS = 20
LONGEST_FILE = 4_000_000
DEEPEST_BRACKETS = 100
_KEYWORDS = ("model", "block", "scale", "variants", "train", "expect", "import", "input", "output", "if")


def parse(source: Source) -> syntax.File:
    """The syntax tree of a .cnn file.

    Raises:
        CnnError: `lexical`, `syntax` or `limit`, one diagnostic for each faulty line.
    """
    if len(source.text) > LONGEST_FILE:
        message = f"a file of {len(source.text)} characters; at most {LONGEST_FILE} are read"
        raise CnnError.of("limit", message, Span(source, 0, 0))
    found: list[Diagnostic] = []
    text = source.text
    while len(found) < MOST_ERRORS:
        layout = _Layout(source)
        try:
            tree = _parse(text, layout)
        except UnexpectedInput as error:
            diagnostic, go_on = _diagnose(source, error, layout)
        except _Fault as fault:
            diagnostic, go_on = fault.diagnostic, False
        else:
            if found:
                break
            return TreeReader(source).file(tree)
        if found and not _is_after(diagnostic, found[-1]):
            break
        found.append(diagnostic)
        line = _line_of(diagnostic)
        if not go_on or line is None or not _is_balanced(source.line(line)):
            break
        text = _without_line(text, source, line)
    raise CnnError(found)


@dataclass(frozen=True)
class Lexeme:
    """A token as it stands in the text: its terminal's name and its characters from `start` up to `end`."""

    kind: str
    text: str
    start: int
    end: int


def lexemes(source: Source) -> list[Lexeme]:
    """The tokens of a file that parses, line ends left out. Raises CnnError as `parse` does."""
    parse(source)
    layout = _Layout(source)
    _parse(source.text, layout)
    return [Lexeme(t.type, str(t), t.start_pos or 0, t.end_pos or 0) for t in layout.seen if t.type != "_NEWLINE"]


class _Fault(Exception):
    """A fault that the layout finds before the parser does."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


@cache
def _parser() -> lark.Lark:
    return parser_table.load(postlex=_Relay())


def _parse(text: str, layout: _Layout) -> Any:
    parser = _parser()
    relay = parser.options.postlex
    assert isinstance(relay, _Relay)
    relay.layout = layout
    return parser.parse(text)


class _Relay(PostLex):
    """Hands the tokens to the layout of the parse at hand: lark takes one post-lexer for all its parses."""

    always_accept = ("_NEWLINE",)
    layout: _Layout

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        return self.layout.join(stream)


_CLOSING = {"(": ")", "[": "]", "{": "}"}
_OPENING = {close: open for open, close in _CLOSING.items()}
_JOINS = frozenset({"LBRACE", "COMMA", "VBAR"})


class _Layout:
    """Which line ends matter, and which brackets are open."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.open: list[Token] = []
        self.seen: list[Token] = []

    def join(self, stream: Iterator[Token]) -> Iterator[Token]:
        """The tokens without the line ends that are inside () and [], or after `{`, `,` and `|`."""
        previous = ""
        for token in stream:
            if token.type == "_NEWLINE":
                if previous in _JOINS or (self.open and self.open[-1] != "{"):
                    continue
            elif token in _CLOSING and token.type != "STRING":
                self.open.append(token)
                if len(self.open) > DEEPEST_BRACKETS:
                    self._fail("limit", f"brackets nest more than {DEEPEST_BRACKETS} deep", token)
            elif token in _OPENING and token.type != "STRING":
                self._close(token)
            previous = token.type
            self.seen.append(token)
            yield token
        if self.open:
            self._unclosed(None)

    def _close(self, token: Token) -> None:
        if not self.open:
            self._fail("syntax", f"`{token}` closes nothing", token)
        if self.open[-1] != _OPENING[token]:
            self._unclosed(token)
        self.open.pop()

    def _unclosed(self, found: Token | None) -> None:
        raise _Fault(unclosed(self.source, self.open[-1], found))

    def _fail(self, code: str, message: str, token: Token) -> None:
        raise _Fault(Diagnostic(code, message, Label(_span(self.source, token))))


def unclosed(source: Source, opening: Token, found: Token | None) -> Diagnostic:
    """`(` is never closed, with the place where that shows."""
    secondary = () if found is None else (Label(_span(source, found), f"found `{_first_line(found)}` here"),)
    message = f"`{opening}` is never closed"
    help = f"close it with `{_CLOSING[opening]}`"
    return Diagnostic("syntax", message, Label(_span(source, opening)), secondary, help=help)


def _diagnose(source: Source, error: UnexpectedInput, layout: _Layout) -> tuple[Diagnostic, bool]:
    """The diagnostic of lark's exception, and whether parsing the other lines makes sense."""
    if isinstance(error, UnexpectedCharacters):
        return _lexical(source, error), True
    assert isinstance(error, UnexpectedToken | UnexpectedEOF), error
    token = error.token
    expected = frozenset(error.accepts if isinstance(error, UnexpectedToken) and error.accepts else error.expected)
    at_end = token.type == "$END"
    span = Span(source, len(source.text), len(source.text)) if at_end else _span(source, token)
    if layout.open and (at_end or _starts_line(source, span)) and layout.open[-1] != "{":
        return unclosed(source, layout.open[-1], None if at_end else token), False
    if token.type == "_NEWLINE":
        span = Span(source, span.start, span.start)
    wanted = expectation(expected)
    found = "the end of the file" if at_end else describe(token.type, _first_line(token))
    message = f"expected {wanted}, found {found}" if wanted else f"{found} has no place here"
    return Diagnostic("syntax", message, Label(span), help=_help(source, span, token, expected)), not at_end


def _lexical(source: Source, error: UnexpectedCharacters) -> Diagnostic:
    start = error.pos_in_stream
    assert start is not None
    character = source.text[start]
    span = Span(source, start, start + 1)
    if character == '"':
        line_end = source.text.find("\n", start)
        span = Span(source, start, len(source.text) if line_end < 0 else line_end)
        return Diagnostic("lexical", "a string is not closed on its line", Label(span), help='end it with `"`')
    shown = f"`{character}`" if character.isprintable() else f"U+{ord(character):04X}"
    helps = {"'": 'strings stand in double quotes: "..."', ";": "write a line for each statement", "&": "write `and`"}
    helps |= {
        "\N{MULTIPLICATION SIGN}": "write `x`, the letter",
        "!": "write `not`",
        "\N{EN DASH}": "write `-`",
        "@": "a label is `name: ...`",
    }
    return Diagnostic("lexical", f"the language has no {shown}", Label(span), help=helps.get(character))


def _help(source: Source, span: Span, token: Token, expected: frozenset[str]) -> str | None:
    if token.type == "EQUALS" and "COMPARE" in expected:
        return "to compare, write `==`"
    line, _ = source.position(span.start)
    first = source.line(line).split()[:1]
    if first and first[0].isalpha() and first[0] not in _KEYWORDS:
        if first[0] in ("let", "def", "class", "layer", "network", "net", "for", "while", "return"):
            return f"the language has no `{first[0]}`; see docs/language.md"
        return did_you_mean(first[0], _KEYWORDS) if expected & ENDINGS else None
    return None


def _span(source: Source, token: Token) -> Span:
    assert token.start_pos is not None
    assert token.end_pos is not None
    return Span(source, token.start_pos, token.end_pos)


def _first_line(text: str) -> str:
    return text.split("\n")[0][:40]


def _starts_line(source: Source, span: Span) -> bool:
    line, column = source.position(span.start)
    return not source.line(line)[: column - 1].strip()


def _is_after(later: Diagnostic, earlier: Diagnostic) -> bool:
    assert later.primary is not None
    assert earlier.primary is not None
    return later.primary.span.start > earlier.primary.span.start


def _line_of(diagnostic: Diagnostic) -> int | None:
    assert diagnostic.primary is not None
    span = diagnostic.primary.span
    return span.source.position(span.start)[0] if span.start < len(span.source.text) else None


def _is_balanced(line: str) -> bool:
    return all(line.count(open) == line.count(close) for open, close in _CLOSING.items())


def _without_line(text: str, source: Source, number: int) -> str:
    """The text with a line blanked, so that the others can be parsed and keep their offsets."""
    lines = text.split("\n")
    lines[number - 1] = " " * len(lines[number - 1])
    return "\n".join(lines)
