"""A spec in the one canonical layout. Changes white space alone: every token and comment stays, line breaks stay.

A body is indented by two. In neighbouring lines what follows a label, or an entry's key, stands in a column; so do the
`=` of arguments that have a line each, and the entries of their lists: a table, as in a paper.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cnnc.diagnostics import Source
from cnnc.language.parser import Lexeme, lexemes

_INDENT = "  "
_OPEN, _CLOSE = ("(", "[", "{"), (")", "]", "}")
_OPERATORS = frozenset(
    {"PLUS", "MINUS", "MULTIPLY", "POWER", "COMPARE", "EQUALS", "AND", "OR", "NOT", "_IF", "_ELSE", "_X"}
)
_KEYED = ("train", "scale")
_BRACED = ("model", "block", "scale", "variants", "train", "if", "else", "add", "concat", "mul")


@dataclass
class _Line:
    """A line of the text: its tokens, its comment, and where it stands."""

    tokens: list[Lexeme] = field(default_factory=list)
    comment: str = ""
    depth: int = 0
    """Braces open before it; a line of closing braces counts those as closed."""
    inside: str = ""
    """The round or square bracket that is open before it, if one is."""
    head: str = ""
    """The keyword of the innermost open brace."""
    continues: bool = False
    """Whether it goes on with the statement above: starts with `|`, is inside brackets, or gives a variant more."""
    column: int = 0
    """The column that the statement's value starts in; set while lines are laid out."""

    @property
    def is_blank(self) -> bool:
        return not self.tokens and not self.comment


def format_spec(source: Source) -> str:
    """The canonical text of a spec. Raises CnnError when it does not parse."""
    lines = _squeezed(_lines(source))
    texts = [_Text(_spaced(line)) for line in lines]
    _align_labels(lines, texts)
    _align_arguments(lines, texts)
    text = _laid_out(lines, texts)
    assert _words(Source(source.name, text)) == _words(source), "the layout changed more than white space"
    return text


def _words(source: Source) -> tuple[list[str], list[str]]:
    """The tokens and the comments of a text, which no layout may change."""
    return [lexeme.text for lexeme in lexemes(source)], list(_comments(source).values())


@dataclass
class _Text:
    """A line's text in the making."""

    value: str


# Lines


def _lines(source: Source) -> list[_Line]:
    """The tokens and comments by line, with the brackets that are open before each."""
    comments = _comments(source)
    starts: dict[int, list[Lexeme]] = {}
    for lexeme in lexemes(source):
        starts.setdefault(source.position(lexeme.start)[0], []).append(lexeme)
    stack: list[tuple[str, str]] = []
    lines: list[_Line] = []
    for number in range(1, source.line_count + 1):
        tokens = starts.get(number, [])
        line = _Line(tokens, comments.get(number, ""))
        closing = 0
        for token in tokens:
            if token.text not in _CLOSE or token.kind == "STRING":
                break
            closing += 1
        outer = stack[: len(stack) - closing] if closing else stack
        line.depth = sum(bracket == "{" for bracket, _ in outer)
        line.inside = outer[-1][0] if outer and outer[-1][0] != "{" else ""
        line.head = next((head for bracket, head in reversed(outer) if bracket == "{"), "")
        line.continues = bool(line.inside) or (bool(tokens) and tokens[0].kind == "VBAR")
        if closing and stack and stack[-1][0] != "{":
            line.continues = True
        if line.head == "variants" and tokens and _ends_in_comma(lines):
            line.continues = True
        lines.append(line)
        _track(tokens, stack)
    return lines


def _ends_in_comma(lines: Sequence[_Line]) -> bool:
    last = next((line.tokens[-1] for line in reversed(lines) if line.tokens), None)
    return last is not None and last.kind != "STRING" and last.text == ","


def _track(tokens: Sequence[Lexeme], stack: list[tuple[str, str]]) -> None:
    head = tokens[0].text if tokens else ""
    for index, token in enumerate(tokens):
        if token.kind == "STRING":
            continue
        if token.text in _BRACED:
            head = token.text
        if token.text in _OPEN:
            opener = tokens[index - 1].text if token.text == "(" and index else head
            stack.append((token.text, head if token.text == "{" else opener))
        elif token.text in _CLOSE:
            stack.pop()


def _comments(source: Source) -> dict[int, str]:
    """The comment of each line that has one; a `#` in a string is none."""
    found = {}
    for number in range(1, source.line_count + 1):
        match = re.match(r'(?:[^"#]|"[^"]*")*(#.*)', source.line(number))
        if match:
            found[number] = match[1].rstrip()
    return found


def _squeezed(lines: list[_Line]) -> list[_Line]:
    """Without blank lines at the ends of the file and of bodies, and never two in a row."""
    kept: list[_Line] = []
    for line in lines:
        if line.is_blank and (not kept or kept[-1].is_blank or _opens_body(kept[-1])):
            continue
        if line.tokens and line.tokens[0].text in _CLOSE:
            while kept and kept[-1].is_blank:
                kept.pop()
        kept.append(line)
    while kept and kept[-1].is_blank:
        kept.pop()
    return kept


def _opens_body(line: _Line) -> bool:
    return bool(line.tokens) and line.tokens[-1].text in _OPEN


# Within a line


def _spaced(line: _Line) -> str:
    """A line's tokens with canonical blanks between them."""
    parts: list[str] = []
    brackets: list[str] = [line.inside] if line.inside else []
    typed = False
    for index, token in enumerate(line.tokens):
        before = line.tokens[index - 1] if index else None
        if token.text == "," or token.text in _OPEN:
            typed = False
        if token.kind == "COLON" and brackets:
            typed = True
        tight = bool(brackets) and not typed
        if before is not None and _is_spaced(line, index, tight=tight or (line.head == "variants" and not typed)):
            parts.append(" ")
        parts.append(token.text)
        if token.kind != "STRING" and token.text in ("(", "["):
            brackets.append(token.text)
        elif token.kind != "STRING" and token.text in (")", "]") and brackets:
            brackets.pop()
    return "".join(parts)


def _is_spaced(line: _Line, index: int, *, tight: bool) -> bool:
    """Whether a blank stands before a token; `tight` holds where `=` gives an argument."""
    before, token = line.tokens[index - 1], line.tokens[index]
    if (before.kind, token.kind) == ("INTEGER", "DOT"):
        return True  # `3.` would be another number
    if before.text in ("(", "[") or token.text in (")", "]", ",", ":") or "DOT" in (before.kind, token.kind):
        return False
    if token.text == "{" or before.text == "{" or token.text == "}":
        return not (before.text == "{" and token.text == "}")
    if "EQUALS" in (before.kind, token.kind):
        return not tight
    if token.text == "(" and before.kind in ("NAME", "MERGE"):
        return False
    if before.kind == "MINUS":
        earlier = line.tokens[index - 2] if index > 1 else None
        return earlier is not None and not _expects_value(earlier)
    return True


def _expects_value(token: Lexeme) -> bool:
    """Whether a value must follow a token, so that a `-` behind it is a sign."""
    return token.kind in _OPERATORS or token.text in ("(", "[", "{", ",", ":", "|")


# Columns


def _runs(lines: Sequence[_Line]) -> Iterator[list[int]]:
    """Indices of neighbouring statements of one body: no blank line or comment line between them."""
    run: list[int] = []
    for index, line in enumerate(lines):
        if line.continues and line.tokens:
            continue
        fits = bool(line.tokens) and _key_length(line) > 0
        if run and (not fits or lines[run[-1]].depth != line.depth or lines[run[-1]].head != line.head):
            yield run
            run = []
        if fits:
            run.append(index)
    if run:
        yield run


def _key_length(line: _Line) -> int:
    """The number of a line's first tokens that are its label or key; 0 where it has none."""
    tokens = line.tokens
    if line.inside or len(tokens) < 2:
        return 0
    if tokens[0].text == "expect":
        return 3 if len(tokens) > 3 and tokens[2].kind == "COLON" else 1
    if tokens[1].kind == "COLON":
        return 2
    return 1 if line.head in _KEYED and tokens[0].text not in _CLOSE else 0


def _align_labels(lines: Sequence[_Line], texts: Sequence[_Text]) -> None:
    for run in _runs(lines):
        keys = [_key(lines[i]) for i in run]
        width = max(map(len, keys))
        for index, key in zip(run, keys, strict=True):
            rest = texts[index].value[len(key) :].lstrip()
            texts[index].value = f"{key.ljust(width)} {rest}"
            lines[index].column = width + 1


def _key(line: _Line) -> str:
    tokens = line.tokens[: _key_length(line)]
    text = "".join(token.text for token in tokens if token.text != "expect")
    return f"expect {text}".rstrip() if tokens[0].text == "expect" else text


def _align_arguments(lines: Sequence[_Line], texts: Sequence[_Text]) -> None:
    """Give the arguments that have a line each a column for `=`, and those that are lists a column for each entry."""
    run: list[int] = []
    for index, line in enumerate(lines):
        if _gives_arguments(line) and line.tokens[1].kind == "EQUALS" and _is_one_argument(line):
            run.append(index)
            continue
        _align_run(run, lines, texts)
        run = []
    _align_run(run, lines, texts)


def _gives_arguments(line: _Line) -> bool:
    varies = line.head == "variants" and line.continues and not line.inside
    return (line.inside == "(" or varies) and len(line.tokens) > 2


def _is_one_argument(line: _Line) -> bool:
    depth = 0
    for index, token in enumerate(line.tokens):
        if token.kind == "STRING":
            continue
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        if token.text == "," and depth == 0 and index < len(line.tokens) - 1:
            return False
    return True


def _align_run(run: Sequence[int], lines: Sequence[_Line], texts: Sequence[_Text]) -> None:
    if len(run) < 2:
        return
    width = max(len(lines[i].tokens[0].text) for i in run)
    lists = {i: found for i in run if (found := _list_entries(lines[i], texts[i].value)) is not None}
    lengths = {len(entries) for _, entries, _ in lists.values()}
    widths: list[int] = []
    if len(lists) > 1 and len(lengths) == 1:
        columns = zip(*(entries for _, entries, _ in lists.values()), strict=True)
        widths = [max(map(len, column)) for column in columns]
    for index in run:
        name = lines[index].tokens[0].text
        value = texts[index].value.split("=", 1)[1].strip()
        if widths and index in lists:
            _, entries, tail = lists[index]
            cells = ", ".join(entry.rjust(w) for entry, w in zip(entries, widths, strict=True))
            value = f"[{cells}]{tail}"
        texts[index].value = f"{name.ljust(width)} = {value}"


def _list_entries(line: _Line, text: str) -> tuple[str, list[str], str] | None:
    """The entries of an argument that is a plain list of numbers, dims or names, and what follows it."""
    match = re.fullmatch(r"(\w+) ?= ?\[([\w., -]+)\](.*)", text)
    if match is None or line.tokens[-1].kind == "STRING":
        return None
    return match[1], [entry.strip() for entry in match[2].split(",")], match[3]


# Indentation


def _laid_out(lines: Sequence[_Line], texts: Sequence[_Text]) -> str:
    out: list[str] = []
    column = 0
    parameters = 0
    for index, (line, text) in enumerate(zip(lines, texts, strict=True)):
        base = len(_INDENT) * line.depth
        if line.continues and line.tokens:
            indent = parameters or _continuation(line, column)
        else:
            indent = base
            if line.tokens:
                column = base + line.column if line.column else base + len(_INDENT)
                parameters = _parameters_column(line, text.value, base)
        if not line.tokens and line.comment:
            follower = next((later for later in lines[index:] if later.tokens), None)
            if follower is not None and follower.continues:
                indent = parameters or _continuation(follower, column)
            elif follower is not None:
                indent = len(_INDENT) * max(line.depth, follower.depth)
        body = text.value
        if body and line.comment:
            body += "  "
        out.append(f"{' ' * indent}{body}{line.comment}".rstrip())
    return "\n".join(out) + "\n" if out else ""


def _continuation(line: _Line, column: int) -> int:
    closes = bool(line.tokens) and line.tokens[0].text in (")", "]")
    return column + (len(_INDENT) if line.inside and not closes else 0)


def _parameters_column(line: _Line, text: str, base: int) -> int:
    """The column in which the parameters of a definition go on over several lines: behind the bracket. 0: not one."""
    if line.tokens[0].text in ("model", "block") and text.count("(") > text.count(")"):
        return base + text.index("(") + 1
    return 0
