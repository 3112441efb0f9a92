"""Diagnostics of a token that has no place in the grammar."""

from __future__ import annotations

import re
import unicodedata

from cnnc.diagnostics import Diagnostic, Label, Source, Span, did_you_mean
from cnnc.language import brackets, lalr
from cnnc.language.brackets import CLOSING, DEEPEST_BRACKETS, NEWLINE, Layout
from cnnc.language.lalr import END, Token, Unexpected

_WORDS = {
    "NAME": "a name",
    "INTEGER": "a number",
    "DECIMAL": "a number",
    "QUANTITY": "a number",
    "DIMS": "a size such as `3x3`",
    "STRING": "a string",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "VBAR": "`|`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "DOT": "`.`",
    "EQUALS": "`=`",
    "MERGE": "`add`, `concat` or `mul`",
    NEWLINE: "the end of the line",
    END: "the end of the file",
}
_OPERATORS = frozenset(
    {"COMPARE", "PLUS", "MINUS", "MULTIPLY", "POWER", "OR", "AND", "_IF", "_ELSE", "_X", "DOT", "VBAR"}
)
_VALUES = frozenset({"NAME", "INTEGER", "STRING", "LSQB", "LPAR"})
_STARTS = _VALUES | {"DECIMAL", "DIMS", "MERGE", "TRUE", "FALSE", "NOT", "IN", "MINUS"}
_STATEMENTS = frozenset({"INPUT", "OUTPUT", "EXPECT", "_IF", NEWLINE})
_DEFINITIONS = frozenset({"MODEL", "BLOCK"})
_ENDINGS = frozenset({NEWLINE, END, "RBRACE"})
_KEYWORDS = ("model", "block", "scale", "variants", "train", "expect", "import", "input", "output", "if")
_TOP_LEVEL = ("model", "block", "scale", "variants", "train", "import")
_ELSEWHERE = ("let", "def", "class", "layer", "network", "net", "for", "while", "return", "from", "var", "const")
_SIZE = re.compile(r"\s*input\s+(\w+\s+)?\d+\s*[x*,]")
_CHARACTERS = {
    "'": 'strings stand in double quotes: "..."',
    ";": "a line end ends a statement",
    "&": "layers are joined by `|`, tests by `and`",
    "!": "write `not`",
    "@": "a label is `name: ...`",
    "\\": "a line that starts with `|` goes on with the one above",
    "\N{MULTIPLICATION SIGN}": "write `x`, the letter",
    "\N{EN DASH}": "write `-`",
    "\N{MINUS SIGN}": "write `-`",
    "\N{NO-BREAK SPACE}": "write a plain blank",
    "\N{LEFT DOUBLE QUOTATION MARK}": 'strings stand in double quotes: "..."',
    "\N{RIGHT DOUBLE QUOTATION MARK}": 'strings stand in double quotes: "..."',
}


def diagnose(source: Source, fault: Unexpected, layout: Layout) -> tuple[Diagnostic, bool]:
    """The diagnostic of a fault, and whether it leaves the brackets unsettled, so that nothing after it makes sense."""
    token = fault.token
    span = _span(source, token)
    around = [bracket for bracket in layout.open if bracket is not token]
    match token.type:
        case lalr.UNKNOWN if token == '"':
            line_end = source.text.find("\n", span.start)
            span = Span(source, span.start, len(source.text) if line_end < 0 else line_end)
            message = "a string is not closed on its line"
            return Diagnostic("lexical", message, Label(span), help='end it with `"`'), False
        case lalr.UNKNOWN:
            message = f"the language has no {_character(token)}"
            help = "names are made of the letters a to z, digits and `_`" if token.isalpha() else _CHARACTERS.get(token)
            return Diagnostic("lexical", message, Label(span), help=help), False
        case brackets.UNMATCHED:
            return Diagnostic("syntax", f"`{token}` closes nothing", Label(span)), False
        case brackets.MISMATCHED:
            return unclosed(source, around[-1], token), True
        case brackets.TOO_DEEP:
            return Diagnostic("limit", f"brackets nest more than {DEEPEST_BRACKETS} deep", Label(span)), True
    if around and around[-1] != "{" and (layout.starts_line(token) or token.type == "LBRACE"):
        return unclosed(source, around[-1], token), True
    first, is_inside = _first_word(source, span), _is_inside(source, span, layout)
    if is_inside and first in _TOP_LEVEL and source.line(source.position(span.start)[0]).startswith(first):
        return unclosed(source, *layout.unclosed()), True
    if token.type == NEWLINE:
        span = Span(source, span.start, span.start)
    keyword = _misspelt(source, span, fault, layout)
    if keyword is not None:
        return keyword, False
    wanted = _expectation(fault.accepted)
    found = {NEWLINE: "the end of the line", END: "the end of the file"}.get(token.type, f"`{_shown(token)}`")
    message = f"expected {wanted}, found {found}" if wanted else f"{found} has no place here"
    secondary = _what_comes_before(source, span, layout)
    return Diagnostic("syntax", message, Label(span), secondary, help=_help(source, span, fault, layout)), False


def _misspelt(source: Source, span: Span, fault: Unexpected, layout: Layout) -> Diagnostic | None:
    """The diagnostic of a line whose first word looks like a keyword, and whose second has no place for that."""
    word = layout.seen[-2] if len(layout.seen) > 1 else None
    if word is None or word.type != "NAME" or not layout.starts_line(word) or not fault.accepted & _ENDINGS:
        return None
    if fault.token.type not in ("NAME", "DIMS", "INTEGER", "LBRACE", "STRING"):
        return None
    meant = did_you_mean(word, _KEYWORDS, likeness=0.75)
    if meant is None or word in _KEYWORDS:
        return None
    return Diagnostic("syntax", f"`{word}` is no keyword", Label(_span(source, word)), help=meant)


def unclosed(source: Source, opening: Token, found: Token | None) -> Diagnostic:
    """`(` is never closed, with the place where that shows."""
    secondary: tuple[Label, ...] = ()
    if found is not None:
        said = "this closes it, but is indented like something else" if found == CLOSING[opening] else ""
        secondary = (Label(_span(source, found), said or f"found `{_shown(found)}` here"),)
    message = f"`{opening}` is never closed"
    help = f"close it with `{CLOSING[opening]}`"
    return Diagnostic("syntax", message, Label(_span(source, opening)), secondary, help=help)


def _character(text: str) -> str:
    name = unicodedata.name(text, "").lower()
    if text.isascii() and text.isprintable():
        return f"`{text}`"
    return (
        f"`{text}`, U+{ord(text):04X}" if text.isprintable() else f"U+{ord(text):04X} ({name or 'control character'})"
    )


def _what_comes_before(source: Source, span: Span, layout: Layout) -> tuple[Label, ...]:
    """The `|` or `,` at the end of an earlier line that wants something where nothing of the kind stands."""
    if len(layout.seen) < 2:
        return ()
    before = layout.seen[-2]
    if before.type not in ("VBAR", "COMMA") or source.position(before.start_pos)[0] == source.position(span.start)[0]:
        return ()
    return (Label(_span(source, before), "after this"),)


def _help(source: Source, span: Span, fault: Unexpected, layout: Layout) -> str | None:
    token, accepted = fault.token, fault.accepted
    first = _first_word(source, span)
    if token.type == "EQUALS" and "COMPARE" in accepted:
        return "to compare, write `==`"
    if token.type == "QUANTITY":
        return "a figure with a suffix stands in `expect` only"
    if token.type == "COMPARE" and "LBRACE" in accepted:
        return "comparisons are joined by `and`"
    if token == ":" and first in _KEYWORDS:
        return f"`{first}` is a word of the language; a label needs another name"
    if _SIZE.match(source.line(source.position(span.start)[0])):
        return "a size is written without blanks: 224x224x3"
    if first in _TOP_LEVEL and _is_inside(source, span, layout):
        return f"`{first}` stands outside of the model, at the top of the file"
    if first in _ELSEWHERE:
        return f"the language has no `{first}`; see docs/language.md"
    if accepted == {"LPAR", "LBRACE"}:
        return "it joins results, add(a, b), or branches, add { ... }"
    if token.type in ("NAME", "MERGE") and "VBAR" in accepted:
        return "layers are joined by `|`, arguments by `,`" if "COMMA" in accepted else "layers are joined by `|`"
    if token.type in ("INTEGER", "DECIMAL", "DIMS") and {"LPAR", NEWLINE} <= accepted and first.isidentifier():
        return f"arguments stand in brackets: {first}({_shown(token)})"
    return None


def _is_inside(source: Source, span: Span, layout: Layout) -> bool:
    """Whether a bracket of an earlier line is open."""
    start = span.start - source.position(span.start)[1] + 1
    return any(bracket.start_pos < start for bracket in layout.open)


def _first_word(source: Source, span: Span) -> str:
    found = re.match(r"\s*(\w*)", source.line(source.position(span.start)[0]))
    return found[1] if found else ""


def _span(source: Source, token: Token) -> Span:
    return Span(source, token.start_pos, token.end_pos)


def _shown(text: str) -> str:
    return text.split("\n")[0][:40]


def _expectation(accepted: frozenset[str]) -> str:
    """The tokens that the parser would have taken, in a few words; empty when that says nothing."""
    if accepted >= _DEFINITIONS:
        return "a definition or a layer"
    rest = set(accepted)
    words: list[str] = []
    if rest >= _VALUES:
        words = ["a layer", "a value"]
        rest -= _STARTS | _STATEMENTS
    rest -= _OPERATORS
    if not words and rest & _ENDINGS:
        rest = (rest - _ENDINGS) | {NEWLINE}
    words.extend(sorted({_WORDS.get(name, f"`{name.strip('_').lower()}`") for name in rest}))
    if len(words) > 5:
        return ""
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
