"""The table that is kept is the grammar's, and what runs it makes of a text what lark makes of it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

import lark
import pytest

from cnnc import specs
from cnnc.diagnostics import CnnError, Source
from cnnc.language import parse, parse_table
from cnnc.language.brackets import Layout
from cnnc.language.lalr import Automaton, Token, Tree, Unexpected, tokenize
from tests.support.broken_texts import sentence

GRAMMAR = files("cnnc.grammar").joinpath("cnn.lark").read_text(encoding="utf-8")


def test_the_kept_table_is_that_of_the_grammar() -> None:
    kept = files("cnnc.grammar").joinpath("cnn.lalr.json").read_text(encoding="utf-8")
    assert kept == parse_table.build(GRAMMAR), "make grammar"


class _Joined:
    """Lark's post-lexer: the layout of the text at hand."""

    always_accept = ("_NEWLINE",)
    source = Source("", "")

    def process(self, stream: Any) -> Any:
        return Layout(self.source).join(stream)


_JOINED = _Joined()


@cache
def _lark() -> lark.Lark:
    return lark.Lark(GRAMMAR, parser="lalr", lexer="contextual", propagate_positions=True, postlex=_JOINED)


def _by_lark(text: str) -> Any:
    _JOINED.source = Source("text", text)
    return _plain(_lark().parse(text))


def _by_table(text: str) -> Any:
    table = parse_table.load()
    automaton = Automaton(table)
    for token in Layout(Source("text", text)).join(tokenize(table, text, 0, len(text))):
        automaton.feed(token)
    return _plain(automaton.finish(len(text)))


def _plain(tree: Any) -> Any:
    """A tree of either kind as tuples: rules with their extent, tokens with their type and place."""
    match tree:
        case None:
            return None
        case Token() | lark.Token():
            return (str(tree), str(tree.type), tree.start_pos)
        case Tree():
            return (tree.data, (tree.start_pos, tree.end_pos), [_plain(child) for child in tree.children])
        case _:
            place = (0, 0) if tree.meta.empty else (tree.meta.start_pos, tree.meta.end_pos)
            return (str(tree.data), place, [_plain(child) for child in tree.children])


@pytest.mark.parametrize("name", [*specs.names(), "prelude"])
def test_a_bundled_spec_has_the_tree_that_lark_makes(name: str) -> None:
    folder = files("cnnc.grammar")
    text = folder.joinpath("prelude.cnn").read_text("utf-8") if name == "prelude" else specs.read(name)
    assert _by_table(text) == _by_lark(text)


def test_a_random_sentence_of_the_grammar_has_the_tree_that_lark_makes() -> None:
    parsed = 0
    for number in range(200):
        text = sentence(Random(number))
        try:
            expected = _by_lark(text)
        except (lark.exceptions.UnexpectedInput, RecursionError):
            with pytest.raises((Unexpected, CnnError)):
                _by_table(text)
            continue
        assert _by_table(text) == expected
        parsed += 1
    assert parsed > 50


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("input 3\nconv(3 3)\nrelu\ndense(,)\nrelu relu\n", [(2, 8), (4, 7), (5, 6)]),
        (
            "model a {\n relu relu\n if true { x x\n y y }\n z z\n}\nblock b( {\n",
            [(2, 7), (3, 15), (4, 4), (5, 4), (7, 8)],
        ),
        ("add {\n a b\n}\nc d\n", [(2, 4), (4, 3)]),
        ("~\n~~~ ~\nrelu ~ relu\n", [(1, 1), (2, 1), (3, 6)]),
        ("relu\n)\n]\nrelu\n}\n", [(2, 1), (3, 1), (5, 1)]),
        ("relu |\n\nrelu\n| relu |\n", [(5, 1)]),
    ],
)
def test_every_faulty_statement_is_told_once(text: str, columns: list[tuple[int, int]]) -> None:
    with pytest.raises(CnnError) as caught:
        parse(Source("text", text))
    places = [d.primary.span.source.position(d.primary.span.start) for d in caught.value.diagnostics if d.primary]
    assert places == columns


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "  \t\n", "\r\n", "\f"])
def test_a_text_of_blanks_is_a_file_of_nothing(text: str) -> None:
    file = parse(Source("text", text))
    assert (file.models, file.blocks, file.imports) == ((), (), ())


def test_a_word_is_a_keyword_only_where_the_grammar_has_a_place_for_one() -> None:
    text = "block a(x=1, input=2, model: int = 3) { conv(x, input, model) | x | 2 x model }\nx: a\nadd(x, x)\n"
    (block,) = parse(Source("text", text)).blocks
    assert [p.name.text for p in block.parameters] == ["x", "input", "model"]
