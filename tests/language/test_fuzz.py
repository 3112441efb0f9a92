"""Whatever the text, parser and expander raise CnnError or nothing, within the limits, at places that exist."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc.diagnostics import CODES, CnnError, Diagnostic, Source, render
from cnnc.ir import verify
from cnnc.ir.text import print_graph, read_graph
from cnnc.language import parse
from cnnc.language.formatter import format_spec
from cnnc.loading import Spec, examine
from cnnc.overrides import Overrides
from cnnc.printable import printable
from tests.support.broken_texts import KINDS

FLAGS = (
    Overrides(),
    Overrides(width=0.3),
    Overrides(depth=2.5, resolution=0.1),
    Overrides(phi=3.0),
    Overrides(input=((None, (16, 16, 1)),)),
    Overrides(variant="small", settings=(("classes", "7"),)),
)
LONGEST = 20.0
"""Seconds for a text, however slow the machine; each takes some milliseconds."""


def survive(text: str, random: Random) -> None:
    """Run a text through all that reads specs."""
    source = Source("fuzz.cnn", text)
    started = time.process_time()
    net, found = examine(Spec(source, None, "fuzz"), random.choice(FLAGS), budgets=True)
    assert time.process_time() - started < LONGEST
    assert (net is None) == bool(found)
    for diagnostic in found:
        _check(diagnostic)
    if net is not None:
        verify(net.graph)
        assert read_graph(print_graph(net.graph)) == net.graph
    try:
        parse(source)
    except CnnError:
        return
    laid_out = format_spec(source)
    assert format_spec(Source("fuzz.cnn", laid_out)) == laid_out


def _check(diagnostic: Diagnostic) -> None:
    assert diagnostic.code in CODES
    assert diagnostic.message
    assert "\n" not in diagnostic.message
    assert printable(diagnostic.message) in render(diagnostic)
    said = diagnostic.to_json()
    for label in (*([diagnostic.primary] if diagnostic.primary else []), *diagnostic.secondary):
        source = label.span.source
        assert 0 <= label.span.start <= label.span.end <= len(source.text)
        line, column = source.position(label.span.start)
        assert 1 <= line <= source.line_count
        assert 1 <= column <= len(source.line(line)) + 2
    if diagnostic.primary is not None:
        assert (said["line"], said["column"]) == diagnostic.primary.span.source.position(diagnostic.primary.span.start)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(random=st.randoms(use_true_random=False))
def test_no_text_breaks_the_compiler(kind: Callable[[Random], str], random: Random) -> None:
    survive(kind(random), random)


@settings(max_examples=40)
@given(text=st.text(max_size=60))
def test_no_characters_break_the_compiler(text: str) -> None:
    survive(text, Random(0))


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(100))
def test_a_hundred_thousand_texts_do_not_break_the_compiler(chunk: int) -> None:
    for number in range(1000 * chunk, 1000 * chunk + 1000):
        random = Random(number)
        kind = random.choices(KINDS, weights=(1, 2, 3, 3, 6))[0]
        print(f"case {number}")  # pytest shows it of a test that fails: the last number gives the text again
        survive(kind(random), random)
