"""docs/language.md is true: its examples have the shapes and the output it shows, its tables are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import cnnc
from cnnc.diagnostics import CnnError, Source
from cnnc.elaboration.arithmetic import FUNCTIONS
from cnnc.elaboration.names import ATTRIBUTES, TYPES
from cnnc.ir import Graph, Node, verify
from cnnc.language import parse
from cnnc.loading import Spec, examine
from cnnc.ops import format_shape
from cnnc.overrides import Overrides
from tests.support.calling import call
from tests.support.manual import MANUAL, PAGES, Example, every_name, examples, with_tables

EXAMPLES = [example for example in examples() if example.words[:1] == ("cnn",)]
SPECS = [example for example in EXAMPLES if example.words[1:2] != ("file",)]
CONSOLES = [example for example in examples() if example.words[:1] == ("console",)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples that have a file's name."""
    found = tmp_path_factory.mktemp("manual")
    for example in EXAMPLES:
        if example.words[-1].endswith(".cnn"):
            (found / example.words[-1]).write_text(example.text, encoding="utf-8")
    return found


def spec_of(example: Example) -> str:
    """An example as a whole spec: a fragment gets the input that it names, and a layer where it has none."""
    _, *words = example.words
    if words[:1] != ["fragment"]:
        return example.text
    text = example.text
    if not parse(Source("fragment", text)).models:
        text += "relu\n"
    # In front of the first line, so that line numbers stay.
    return f"input {words[1] if len(words) > 1 else '32x32x3'}\n{text}"


@pytest.mark.parametrize("example", SPECS, ids=lambda e: f"line{e.line}")
def test_an_example_is_good_and_its_lines_have_the_shapes_it_says(example: Example, folder: Path) -> None:
    text = spec_of(example)
    net, diagnostics = examine(Spec(Source("example.cnn", text), folder, "example"), Overrides(), budgets=True)
    assert net is not None, CnnError(diagnostics)
    assert diagnostics == [], CnnError(diagnostics)
    verify(net.graph)
    for number, line in enumerate(text.splitlines(), 1):
        if said := re.search(r"# -> ([0-9x]+)$", line):
            assert format_shape(last_of_line(net.graph, number).shape) == said[1], line


def last_of_line(graph: Graph, number: int) -> Node:
    """The last node that comes of a line, by itself or by a block that is called there."""
    found = [node for node in graph if number in lines_of(node)]
    return found[-1]


def lines_of(node: Node) -> set[int]:
    assert node.origin is not None
    spans = [node.origin.span, *(frame.span for frame in node.origin.frames)]
    return {span.source.position(span.end)[0] for span in spans if span.source.name == "example.cnn"} | {
        span.source.position(span.start)[0] for span in spans if span.source.name == "example.cnn"
    }


def test_consoles_show_what_the_commands_print(
    folder: Path, monkeypatch: pytest.MonkeyPatch, update_golden: bool
) -> None:
    monkeypatch.chdir(folder)
    manual = MANUAL.read_text(encoding="utf-8")
    for example in CONSOLES:
        commands = re.findall(r"^\$ cnnc (.*)$", example.text, re.MULTILINE)
        assert commands, example
        shown = "".join(f"$ cnnc {command}\n{printed(command)}" for command in commands)
        if update_golden:
            manual = manual.replace(example.text, shown)
        else:
            assert shown == example.text
    if update_golden:
        MANUAL.write_text(manual, encoding="utf-8")


def printed(command: str) -> str:
    result = call(*command.split())
    assert result.exit_code == 0, result.output
    return "".join(f"{line.rstrip()}\n" for line in result.output.splitlines())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_are_what_the_code_says(page: Path, update_golden: bool) -> None:
    if update_golden:
        page.write_text(with_tables(page), encoding="utf-8")
    else:
        written = page.read_text(encoding="utf-8")
        assert written == with_tables(page), "run pytest --update-golden tests/project/test_language_page.py"


@pytest.mark.parametrize("name", sorted({*every_name(), *FUNCTIONS, *ATTRIBUTES, *TYPES, "timm", "identity"}))
def test_every_name_of_the_language_is_in_the_manual(name: str) -> None:
    assert re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", MANUAL.read_text(encoding="utf-8"))


def test_the_names_that_layers_get_are_those_listed() -> None:
    (example,) = [example for example in SPECS if example.words[-1] == "names.cnn"]
    found = {node.name for node in cnnc.load_text(example.text).graph}
    (table,) = re.findall(
        r"^\| what \| is named \|\n\|---\|---\|\n((?:\|.*\n)*)", MANUAL.read_text("utf-8"), re.MULTILINE
    )
    listed = re.findall(r"`([a-z0-9.]+)`", table)
    assert len(listed) > 10
    assert found >= set(listed)


def test_links_within_the_manual_lead_somewhere() -> None:
    manual = MANUAL.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", manual, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(#([^)]*)\)", manual):
        assert target in anchors
    for target in re.findall(r"\]\(([^#)][^)]*)\)", manual):
        assert (MANUAL.parent / target).exists(), target


def test_the_words_that_cannot_be_names_are_those_listed() -> None:
    manual = MANUAL.read_text(encoding="utf-8")
    (listed,) = re.findall(r"These words cannot be names: (.*?)\. ", manual, re.DOTALL)
    reserved = set(re.findall(r"`([a-z]+)`", listed))
    grammar = (MANUAL.parent.parent / "grammar" / "cnn.lark").read_text(encoding="utf-8")
    words = set(re.findall(r'"([a-z]+)"', grammar)) | {"x", "or", "and", "if", "else", "not", "true", "false"}
    for word in words | reserved:
        try:
            cnnc.load_text(f"input 4\n{word}: tanh\n{word} | relu")
        except CnnError:
            assert word in reserved
        else:
            assert word not in reserved


def test_the_manual_is_no_book() -> None:
    lines = MANUAL.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 900
    assert all(len(line) <= 120 for line in lines if not line.startswith(("|", "┌", "├", "│", "└")))
