"""A spec that grows without end stops soon, in bounded memory, and says which limit it met."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest

from cnnc import documents, files, loading
from cnnc.diagnostics import MOST_REPORTED, Diagnostic, Source, Span, render
from cnnc.elaboration import expander, graph_builder, limits, namespace, repeats
from cnnc.elaboration.arithmetic import show_value
from cnnc.language import brackets, parser, tree_reader
from cnnc.loading import Spec, examine
from cnnc.overrides import Overrides


def told(text: str, overrides: Overrides | None = None) -> list[Diagnostic]:
    """What is told of a text."""
    return examine(Spec(Source("big.cnn", text), None, "big"), overrides or Overrides(), budgets=True)[1]


def doubling(first: str, step: Callable[[str], str], call: str) -> str:
    """Forty blocks, each of which uses the one before it twice."""
    blocks = [f"block b{i} {step(f'b{i - 1}')}" for i in range(1, 41)]
    return "\n".join([first, *blocks, "input 784", call])


def deep(before: str, after: str) -> str:
    """Sixty blocks, each with the one before it deep inside."""
    blocks = [f"block b{i} {{ {before}b{i - 1}{after} }}" for i in range(1, 60)]
    return "\n".join(["block b0 { relu }", *blocks, "input 3", "b59"])


ENDLESS = {
    "repeat": ("input 3\n999999999 x relu", "repeats of 999,999,999 turns"),
    "nested repeats": ("input 3\n1000 x (1000 x (1000 x relu))", "repeats of 1,000,000 turns"),
    "repeats of nothing": ("input 3\n" + "2 x (" * 15 + "identity" + ")" * 15, "the spec expands on and on"),
    "stages": ("input 3\n[40000, 40000] x relu", "layers"),
    "a power": ("input 3\ndense(10^10000)", "a number beyond the language's limit of 40 digits"),
    "a tower of powers": ("input 3\ndense(9^9^9^9^9)", "a number beyond the language's limit of 40 digits"),
    "a product": (
        "input 3\na0 = 7\n" + "\n".join(f"a{i} = a{i - 1} * a{i - 1}" for i in range(1, 60)) + "\ndense(a59)",
        "a number beyond the language's limit of 40 digits",
    ),
    "doubling blocks": (doubling("block b0 { relu }", "{{ {0} | {0} }}".format, "b40"), "on and on"),
    "doubling nothing": (doubling("block b0 { identity }", "{{ {0} | {0} }}".format, "b40"), "on and on"),
    "doubling empty blocks": (doubling("block b0 { }", "{{ {0}\n {0} }}".format, "b40"), "on and on"),
    "doubling in ifs": (doubling("block b0 { }", "{{ if true {{ {0}\n {0} }} }}".format, "b40"), "on and on"),
    "doubling branches": (
        doubling("block b0 { identity }", "{{ concat {{ {0}\n {0} }} }}".format, "b40"),
        "the spec expands on and on",
    ),
    "doubling layers as arguments": (
        "block b0(f: layer) { f | f }\n"
        + "\n".join(f"block b{i}(f: layer) {{ b{i - 1}(f=(f | f)) }}" for i in range(1, 41))
        + "\ninput 3\nb40(identity)",
        "the spec expands on and on",
    ),
    "deep calls": (
        "\n".join(f"block b{i} {{ b{i + 1} }}" for i in range(80)) + "\nblock b80 { relu }\ninput 3\nb0",
        "blocks call each other more than 64 deep",
    ),
    "deep branches": (deep("add { identity\n" * 40, "}" * 40), "layers and blocks nest more than 250 deep"),
    "deep ifs": (deep("if true {\n" * 90, "}" * 90), "layers and blocks nest more than 250 deep"),
    "deep repeats": (deep("1 x (" * 45, ")" * 45), "layers and blocks nest more than 250 deep"),
    "a chain of layers": (
        "input 3\na0 = relu\n" + "".join(f"a{i} = (a{i - 1} | identity)\n" for i in range(1, 2000)) + "a1999",
        "layers and blocks nest more than 250 deep",
    ),
    "brackets": ("input 3\ndense(" + "(" * 100_000 + "1" + ")" * 100_000 + ")", "words, numbers and signs"),
    "fewer brackets": ("input 3\ndense(" + "(" * 500 + "1" + ")" * 500 + ")", "brackets nest more than 100 deep"),
    "signs": ("input 3\ndense(" + "-" * 500 + "1)", "an expression nests more than 100 deep"),
    "many signs": ("input 3\ndense(" + "-" * 90_000 + "1)", "goes on for too long"),
    "a sum": ("input 3\ndense(" + "1 + " * 500 + "1)", "an expression nests more than 100 deep"),
    "else if": (
        "block b(n=1) { if n == 0 { relu }" + " else if n == 2 { relu }" * 200 + " }\ninput 3\nb",
        "more than 100 `else if` in a row",
    ),
    "much else if": (
        "block b(n=1) { if n == 0 { relu }" + " else if n == 2 { relu }" * 9000 + " }\ninput 3\nb",
        "goes on for too long",
    ),
    "a long line": ("input 3\n" + "relu | " * 140_000 + "relu", "words, numbers and signs"),
    "many statements": ("input 3\n" + "relu\n" * 100_000, "words, numbers and signs"),
    "a million entries": ("input 3\n[" + "1," * 999_999 + "1] x relu", "a file of more than 1,000,000 characters"),
    "fewer entries": ("input 3\n[" + "1," * 5000 + "1] x relu", "5,001 entries in a pair of brackets"),
    "many parameters": ("block b(" + ", ".join(f"a{i}" for i in range(2000)) + ") { }\ninput 3\nb", "2,000 entries"),
    "a long name": ("input 3\n" + "a" * 900_000, "a name of 900,000 characters"),
    "a long string": ('input 3\ntimm("' + "a" * 900_000 + '")', "a string of 900,000 characters"),
    "a long number": ("input 3\ndense(" + "1" * 900_000 + ")", "a number of 900,000 digits"),
    "a large input": ("input 99999x99999x99999x3\nrelu", "beyond the limit"),
    "a large result": ("input 32x32x3\nresize(1000000000)", "beyond the limit"),
    "many weights": ("input 784\ndense(1000000000) | dense(1000)", "the network has more than"),
    "many layers": ("input 3\n2 x (\n" + "24000 x relu)\n24000 x relu", "the network has more than 50,000 layers"),
    "many variants": (
        "model m(a=1) {\n input 3\n 40000 x relu\n}\nvariants {\n" + "".join(f" v{i}: a=1\n" for i in range(9)) + "}",
        "at most 100,000 are checked",
    ),
    "block strings": ('input 32x32x3\ntimm("ir_r99999999_k3_s1_e6_c24")', "repeats of 99,999,999 turns"),
    "many block strings": (
        "input 32x32x3\ntimm([" + '"cn_r1_k3_s1_c8", ' * 2000 + "])",
        "2,000 entries in a pair of brackets",
    ),
}


LARGE = ("many variants", "many layers")
"""Cases that take a second or more."""


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in LARGE else case for case in ENDLESS]
)
def test_a_spec_without_end_meets_a_limit(case: str) -> None:
    text, message = ENDLESS[case]
    started = time.process_time()
    found = told(text)
    assert time.process_time() - started < 10  # a second on a quiet core, and a slow one may be shared by ten
    assert [d.code for d in found] == ["limit"]
    assert message in found[0].message
    assert len(render(found[0])) < 2000


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (Overrides(depth=1000), "repeats of 100,000 turns"),
        (Overrides(resolution=900), "beyond the limit"),
        (Overrides(input=((None, (10**9, 10**9, 3)),)), "beyond the limit"),
        (Overrides(phi=60), "is"),
    ],
)
def test_flags_have_the_limits_of_the_text(flags: Overrides, message: str) -> None:
    (found,) = told("model m {\n input 2240x2240x3\n 100 x conv(3x3, 64)\n}", flags)
    assert found.code in ("limit", "value")
    assert message in found.message


@pytest.mark.parametrize("case", ["repeat", "nested repeats", "a power", "doubling nothing", "a long line", "brackets"])
def test_the_whole_process_stops_soon_and_in_little_memory(case: str, tmp_path: Path) -> None:
    spec = tmp_path / "big.cnn"
    spec.write_text(ENDLESS[case][0], encoding="utf-8")
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\nfrom cnnc.cli import main; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, "check", str(spec)], capture_output=True, text=True, timeout=20, check=False
    )
    assert run.returncode == 1, run.stderr
    assert "error[limit]" in run.stderr


def test_no_more_than_some_diagnostics_are_looked_for() -> None:
    labels = "".join(f"l{i}: relu\n" for i in range(2000))
    started = time.process_time()
    found = told(f"input 3\n{labels}" + "".join(f"m{i}: relw\n" for i in range(2000)))
    assert time.process_time() - started < 10
    assert len(found) == MOST_REPORTED
    assert {d.help for d in found} == {"did you mean `relu`?"}


def test_many_of_everything_stay_cheap() -> None:
    started = time.process_time()
    assert told("".join(f"block b{i} {{ relu }}\n" for i in range(5000)) + "input 3\nb1") == []
    assert told("input 3\n" + "".join(f"l{i}: relu\n" for i in range(5000))) == []
    assert told("input 3\nadd {\n" + "relu\n" * 5000 + "}") == []
    assert told("input 3\nrelu\n" + "expect params = 0\n" * 5000) == []
    assert time.process_time() - started < 20


@pytest.mark.slow
def test_the_cost_of_a_layer_does_not_grow_with_their_number() -> None:
    def seconds(layers: int) -> float:
        text = "input 8x8x4\n" + "conv(3x3, 4) | bn | relu\n" * (layers // 3)
        gc.disable()  # as `cnnc check` does: what other tests left on the heap is none of its cost
        started = time.process_time()
        assert told(text) == []
        seconds = time.process_time() - started
        gc.enable()
        return seconds

    seconds(300)
    assert seconds(12_000) < 12 * min(seconds(3000), seconds(3000))


def lines(count: int) -> str:
    """A text of so many words, numbers, signs and ends of lines."""
    return "input 3" + "\nrelu" * (count // 2 - 1) + "\n" * (count % 2)


def calls(depth: int) -> str:
    """Blocks that call each other, so many deep."""
    blocks = [f"block b{i} {{ b{i - 1} }}" for i in range(1, depth)]
    return "\n".join(["block b0 { relu }", *blocks, "input 3", f"b{depth - 1}"])


EXACT: dict[str, tuple[ModuleType, str, int, Callable[[int], str], str]] = {
    "characters": (parser, "LONGEST_FILE", 20, "input 3\nrelu".ljust, "a file of more than 20 characters"),
    "words": (parser, "MOST_TOKENS", 8, lines, "a file of more than 8 words"),
    "brackets": (
        brackets,
        "DEEPEST_BRACKETS",
        5,
        lambda n: f"input 3\ndense({'(' * (n - 1)}1{')' * n}",
        "brackets nest more than",
    ),
    "expressions": (  # the signs and the number
        tree_reader,
        "DEEPEST_EXPRESSION",
        8,
        lambda n: f"input 3\nrelu\na = {'-' * (n - 1)}1",
        "an expression nests more than",
    ),
    "entries": (
        tree_reader,
        "MOST_ENTRIES",
        4,
        lambda n: f"input 3\n[{'1, ' * (n - 1)}1] x relu",
        "5 entries in a pair",
    ),
    "parameters": (
        tree_reader,
        "MOST_ENTRIES",
        4,
        lambda n: f"block b({', '.join(f'a{i}=1' for i in range(n))}) {{ relu }}\ninput 3\nb",
        "5 entries in a pair",
    ),
    "a name": (tree_reader, "LONGEST_NAME", 5, lambda n: f"input 3\n{'a' * n}: relu", "a name of 6 characters"),
    "a string": (
        tree_reader,
        "LONGEST_STRING",
        15,
        lambda n: f'input 32x32x3\ntimm("{"cn_r1_k3_s1_c8".ljust(n, "0")}")',
        "a string of 16 characters",
    ),
    "digits": (tree_reader, "MOST_DIGITS", 4, lambda n: f"input 3\ndense({'1' * n})", "a number of 5 digits"),
    "calls": (expander, "DEEPEST_CALLS", 4, calls, "blocks call each other more than"),
    "layers": (graph_builder, "MOST_NODES", 4, lambda n: "input 3" + "\nrelu" * (n - 1), "more than 4 layers"),
    "weights": (graph_builder, "MOST_WEIGHTS", 4, lambda n: f"input {n}\ndense(1, bias=false)", "more than 4 weights"),
    "turns": (repeats, "MOST_NODES", 4, lambda n: f"input 3\n{n} x relu", "repeats of 5 turns"),
    "layers of variants": (
        loading,
        "MOST_LAYERS",
        4,
        lambda n: f"model m(a=1) {{\n input 3\n {n - 1} x relu\n}}\nvariants {{\n v: a=2\n}}",
        "have 5 layers in all; at most 4",
    ),
}


@pytest.mark.parametrize("case", EXACT)
def test_a_limit_itself_is_within_the_limit(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, most, text, message = EXACT[case]
    assert told("input 3\nrelu") == []  # the prelude, under the usual limits
    monkeypatch.setattr(module, name, most)
    assert told(text(most)) == []
    (found,) = told(text(most + 1))
    assert found.code == "limit"
    assert message in found.message


@pytest.mark.parametrize(
    ("within", "beyond", "message"),
    [
        ("input 1\ndense(10^40 - 10^40 + 1)", "input 1\ndense((10^40 + 1) - 10^40)", "limit of 40 digits"),
        ("input 1\ndense(2^31)", "input 1\ndense(2^31 + 1)", "must not be above 2147483648"),
        (
            "input 1\nconcat {\n dense(2^30)\n dense(2^30)\n}",
            "input 1\nconcat {\n dense(2^30)\n dense(2^30 + 1)\n}",
            "a result of 2147483649 is beyond the limit",
        ),
        ("input 65536x65536x16\nrelu", "input 65536x65536x17\nrelu", "beyond the limit of 68,719,476,736 values"),
    ],
)
def test_the_largest_number_is_within_the_limit(within: str, beyond: str, message: str) -> None:
    assert told(within) == []
    (found,) = told(beyond)
    assert message in found.message


def test_so_many_steps_and_levels_of_an_expansion_are_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    span = Span(Source("a.cnn", "relu"), 0, 4)
    monkeypatch.setattr(limits, "MOST_STEPS", 4)
    monkeypatch.setattr(limits, "DEEPEST_LAYERS", 5)
    steps = limits.ExpansionLimits()
    for _ in range(4 + 2 * limits.STEPS_A_LAYER):
        steps.step(span, 2)
    with pytest.raises(graph_builder.LimitReached, match="more than 10 steps so far, for 2 layers"):
        steps.step(span, 2)
    steps.step(span, 3)
    for _ in range(2):  # what was left or refused is not open
        with ExitStack() as levels:
            for _ in range(5):
                levels.enter_context(steps)
            for _ in range(2):
                with pytest.raises(graph_builder.LimitReached, match="nest more than 5 deep"), steps:
                    pass


def test_so_many_imports_are_within_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told_of_file(text: str) -> list[str]:
        (tmp_path / "a.cnn").write_text(text, encoding="utf-8")
        spec = Spec(Source(str(tmp_path / "a.cnn"), text), tmp_path, "a")
        return [d.message for d in examine(spec, Overrides(), budgets=True)[1]]

    monkeypatch.setattr(namespace, "DEEPEST_IMPORTS", 3)
    for i in range(6):
        inner = f'import "c{i - 1}.cnn"\n' if i else ""
        (tmp_path / f"c{i}.cnn").write_text(f"{inner}block b{i} {{ relu }}\n", encoding="utf-8")
    imports = [f'import "c{i}.cnn"\n' for i in range(6)]
    assert told_of_file(f"{imports[2]}input 3\nb2") == []
    assert told_of_file(f"{imports[3]}input 3\nb3") == ["imports nest more than 3 deep"]
    monkeypatch.setattr(namespace, "DEEPEST_IMPORTS", 32)
    monkeypatch.setattr(namespace, "MOST_FILES", 4)
    assert told_of_file("".join(imports[:4]) + "input 3\nb0") == []
    assert told_of_file("".join(imports[:5]) + "input 3\nb0") == ["more than 4 files are imported"]


def test_a_file_is_never_cut_to_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told("input 3\nrelu")
    for module in (parser, namespace):
        monkeypatch.setattr(module, "LONGEST_FILE", 20)
    for text in ("block b { relu }".ljust(20), "block b { relu }".ljust(21), "block b { relu }".ljust(20) + "x"):
        (tmp_path / "b.cnn").write_text(text, encoding="utf-8")
        spec = Spec(Source("a.cnn", 'import "b.cnn"'), tmp_path, "a")
        is_told = any("more than 20 characters" in d.message for d in examine(spec, Overrides(), budgets=True)[1])
        assert is_told == (len(text) > 20)


@pytest.mark.parametrize("parse", [documents.parse_json, documents.parse_yaml])
def test_documents_nest_to_the_limit(parse: Callable[[str], object]) -> None:
    parse("[" * 100 + "]" * 100)
    parse('{"a": ' * 50 + "[" * 50 + "]" * 50 + "}" * 50)
    with pytest.raises(documents.BadDocument, match="nested more than 100 deep"):
        parse("[" * 101 + "]" * 101)


@pytest.mark.parametrize("is_pipe", [False, True])
def test_so_many_bytes_are_read_and_no_more(tmp_path: Path, is_pipe: bool) -> None:
    for size in (7, 8, 9):
        if is_pipe:
            reader, writer = os.pipe()
            os.write(writer, bytes(size))
            os.close(writer)
            path = Path(f"/dev/fd/{reader}")
        else:
            path = tmp_path / "a"
            path.write_bytes(bytes(size))
        if size > 8:
            with pytest.raises(OSError, match="it has more than 8 bytes"):
                files.read_bytes(path, 8)
        else:
            assert files.read_bytes(path, 8) == bytes(size)
        if is_pipe:
            os.close(reader)


def test_values_of_a_message_are_shown_in_part_once_they_are_long() -> None:
    assert show_value(list(range(8))) == "[0, 1, 2, 3, 4, 5, 6, 7]"
    assert show_value(list(range(9))) == "[0, 1, 2, 3, 4, 5, 6, 7, ...]"
    assert show_value("a" * 58) == f'"{"a" * 58}"'
    assert show_value("a" * 59) == f'"{"a" * 59}...'
