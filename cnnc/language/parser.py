"""Text to syntax tree."""

from __future__ import annotations

from functools import cache
from itertools import islice

from cnnc.diagnostics import CnnError, Diagnostic, Source, Span
from cnnc.frozen import dataclass
from cnnc.language import parse_table, syntax
from cnnc.language.brackets import MISMATCHED, NEWLINE, Layout
from cnnc.language.lalr import Automaton, Mark, Table, Token, Tree, Unexpected, tokenize
from cnnc.language.syntax_errors import diagnose, unclosed
from cnnc.language.tree_reader import TreeReader

MOST_ERRORS = 20
LONGEST_FILE = 1_000_000
DEEPEST_STACK = 2000
MOST_TOKENS = 200_000


def parse(source: Source) -> syntax.File:
    """The syntax tree of a .cnn file.

    Raises:
        CnnError: `lexical`, `syntax` or `limit`, one diagnostic for each faulty statement.
    """
    return parse_part(Span(source, 0, len(source.text)))


def parse_part(part: Span) -> syntax.File:
    """The syntax tree of whole definitions of a file. Raises CnnError as `parse` does."""
    return TreeReader(part.source).file(_tree(part, Layout(part.source)))


@dataclass(frozen=True)
class Lexeme:
    """A token as it stands in the text: its terminal's name and its characters from `start` up to `end`."""

    kind: str
    text: str
    start: int
    end: int


def lexemes(source: Source) -> list[Lexeme]:
    """The tokens of a file that parses, line ends left out. Raises CnnError as `parse` does."""
    layout = Layout(source)
    TreeReader(source).file(_tree(Span(source, 0, len(source.text)), layout))
    return [Lexeme(t.type, str(t), t.start_pos, t.end_pos) for t in layout.seen if t.type != NEWLINE]


@cache
def _table() -> Table:
    return parse_table.load()


def _tree(part: Span, layout: Layout) -> Tree:
    """The parse tree. After a fault it goes on with the next statement, to find all faults in one run."""
    automaton = Automaton(_table())
    diagnostics: list[Diagnostic] = []
    starts = [(automaton.mark(), 0)]  # of the statements that are open, with the brackets around each
    skipping = False
    for token in layout.join(iter(_tokens(part))):
        if skipping:
            if token.type == MISMATCHED:
                raise CnnError(diagnostics)
            mark, depth = starts[-1]
            skipping = not _ends_statement(token, len(layout.open), depth)
            if not skipping:
                automaton.reset(mark)
            if skipping or token.type == NEWLINE:
                continue
        try:
            automaton.feed(token)
        except Unexpected as fault:
            diagnostic, is_last = diagnose(part.source, fault, layout)
            diagnostics.append(diagnostic)
            if is_last or len(diagnostics) == MOST_ERRORS:
                raise CnnError(diagnostics) from None
            mark, depth = starts[-1]
            skipping = not _ends_statement(token, len(layout.open), depth)
            if skipping:
                continue
            automaton.reset(mark)
            if token.type != NEWLINE and not _takes(automaton, token):
                raise CnnError(diagnostics) from None
        if automaton.depth > DEEPEST_STACK:
            message = "an expression, or a row of `else if`, goes on for too long"
            raise CnnError.of("limit", message, Span(part.source, token.start_pos, token.end_pos))
        if token.type in (NEWLINE, "LBRACE", "RBRACE"):
            _move(starts, automaton, token, len(layout.open))
    if layout.open:
        diagnostics.append(unclosed(part.source, *layout.unclosed()))
    if diagnostics:
        raise CnnError(diagnostics)
    return _finish(automaton, part, layout)


def _finish(automaton: Automaton, part: Span, layout: Layout) -> Tree:
    try:
        return automaton.finish(part.end)
    except Unexpected as fault:
        raise CnnError([diagnose(part.source, fault, layout)[0]]) from None


def _tokens(part: Span) -> list[Token]:
    """The tokens, counted before any is parsed."""
    source = part.source
    if len(source.text) > LONGEST_FILE:
        message = f"a file of more than {LONGEST_FILE:,} characters"
        raise CnnError.of("limit", message, Span(source, 0, 0))
    tokens = list(islice(tokenize(_table(), source.text, part.start, part.end), MOST_TOKENS + 1))
    if len(tokens) > MOST_TOKENS:
        last = tokens[-1]
        message = f"a file of more than {MOST_TOKENS:,} words, numbers and signs"
        raise CnnError.of(
            "limit", message, Span(source, last.start_pos, last.end_pos), help="repeats are written `N x`"
        )
    return tokens


def _takes(automaton: Automaton, token: Token) -> bool:
    try:
        automaton.feed(token)
    except Unexpected:
        return False
    return True


def _move(starts: list[tuple[Mark, int]], automaton: Automaton, token: Token, depth: int) -> None:
    """Keep where the statements start: one at a line end or an opening brace, none in a body that is closed."""
    while starts and starts[-1][1] > depth:
        starts.pop()
    if token.type != "RBRACE":
        if starts and starts[-1][1] == depth:
            starts.pop()
        starts.append((automaton.mark(), depth))


def _ends_statement(token: Token, depth_now: int, depth: int) -> bool:
    """Whether a statement that started inside of `depth` brackets is over: at a line end or its body's brace."""
    return depth_now <= depth if token.type == NEWLINE else depth_now < depth
