"""Brackets and line ends: which line ends matter, and which brackets are open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cnnc.diagnostics import Source
from cnnc.language.lalr import Token

DEEPEST_BRACKETS = 100
CLOSING: Final[Mapping[str, str]] = {"(": ")", "[": "]", "{": "}"}
UNMATCHED: Final = "UNMATCHED"
"""The type of a closing bracket that closes nothing."""
MISMATCHED: Final = "MISMATCHED"
"""The type of a closing bracket of another kind than the one that is open."""
TOO_DEEP: Final = "TOO_DEEP"
"""The type of an opening bracket inside of too many."""
NEWLINE: Final = "_NEWLINE"
_OPENING: Final = {close: open for open, close in CLOSING.items()}
_JOINS: Final = frozenset({"LBRACE", "COMMA", "VBAR"})
_BRACKETS: Final = frozenset({"LPAR", "RPAR", "LSQB", "RSQB", "LBRACE", "RBRACE"})


class Layout:
    """Passes the tokens of one text on. `open` are the brackets around the token that it passed on last."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.open: list[Token] = []
        self.seen: list[Token] = []
        self._closed: list[tuple[Token, Token]] = []

    def join(self, stream: Iterator[Token]) -> Iterator[Token]:
        """The tokens without the line ends that are inside () and [], or after `{`, `,` and `|`."""
        previous = ""
        for token in stream:
            if token.type == NEWLINE:
                if previous in _JOINS or (self.open and self.open[-1] != "{"):
                    continue
            elif token.type in _BRACKETS:
                self._bracket(token)
            previous = token.type
            self.seen.append(token)
            yield token

    def _bracket(self, token: Token) -> None:
        if token in CLOSING:
            if len(self.open) >= DEEPEST_BRACKETS:
                token.type = TOO_DEEP
            self.open.append(token)
        elif not self.open:
            token.type = UNMATCHED
        elif self.open[-1] != _OPENING[token]:
            token.type = MISMATCHED
        else:
            self._closed.append((self.open.pop(), token))

    def unclosed(self) -> tuple[Token, Token | None]:
        """The bracket that is open and should not be, and what shows it.

        Where braces are short by one it is the first whose closing brace starts a line less indented than its own.
        """
        last = self.open[-1]
        if last == "{":
            for opening, closing in sorted(self._closed, key=lambda pair: pair[0].start_pos):
                inside = opening == "{" and opening.start_pos > last.start_pos
                if inside and self.starts_line(closing) and self._indent(closing) < self._indent(opening):
                    return opening, closing
        return last, None

    def starts_line(self, token: Token) -> bool:
        """Whether only blanks stand before a token on its line."""
        return self._indent(token) == self.source.position(token.start_pos)[1] - 1

    def _indent(self, token: Token) -> int:
        line = self.source.line(self.source.position(token.start_pos)[0])
        return len(line) - len(line.lstrip())
