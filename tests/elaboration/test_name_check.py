"""The check of names and the expansion agree: on names that hide each other, and on random ones.

The check reads all that is written, the expansion only what the model comes to: a block that nothing calls, or a branch
that is not taken, may be refused by the first alone.
"""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path
from random import Random

import pytest

import cnnc
from cnnc.diagnostics import MOST_REPORTED, CnnError, Diagnostic, Source, Span
from cnnc.elaboration import namespace
from cnnc.elaboration.elaborate import build
from cnnc.elaboration.name_check import check_names
from cnnc.ir import Graph, verify
from cnnc.overrides import Overrides
from tests.support.name_texts import named
from tests.support.networks_of_texts import PICTURE, assert_same_text, names, network

SKIP = "\nblock gated {\n z: conv(3, 3)\n relu\n}\n"
TWICE = [f"repeat1.{turn}{layer}" for turn in range(2) for layer in (".relu1", ".relu", "")]
LATE = ["s1.tanh1", "s1.a", "s1.add1", "relu1", "add1"]


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        # words, as arguments of a layer that a name stands for, or chosen by a test, or in a list
        ("mix = conv(3)\nmix(8, padding=valid)", ["conv1"]),
        ("b(maxpool)\nblock b(pool: layer) { pool(2, padding=same) }", ["b1.maxpool1"]),
        ("b(maxpool)\nblock b(pool) { pool(2, padding=same) }", ["b1.maxpool1"]),
        ("conv(3, 8, padding=same if 1 > 2 else valid)", ["conv1"]),
        ("b\nblock b(same=1) { conv(3, 8, padding=[same, 2]) }", ["b1.conv1"]),
        # names that hide a layer, and those that do not
        ("b\nblock b(relu=leaky_relu) { relu(0.1) }", ["b1.leaky_relu1"]),
        ("conv = 3\nconv(conv, 8, padding=same)", ["conv1"]),
        ("b(conv)\nblock b(sub: layer) { sub(3, 8) }", ["b1.conv1"]),
        ('relu = 3\ntimm("cn_r1_k3_s1_c16")', ["timm1.0.0.conv1", "timm1.0.0.bn1", "timm1.0.0.relu1"]),
        ("conv: conv(3, 8)\nadd(conv, conv | relu)", ["conv", "relu1", "add1"]),
        # a name's own value sees what the name stood for before
        ("bn = bn(momentum=0.9)\nconv(3, 8) | bn", ["conv1", "bn1"]),
        ("conv = conv(3, bias=false)\nconv(8) | conv(4)", ["conv1", "conv2"]),
        ("b\nblock b(relu: layer = relu) { relu }", ["b1.relu1"]),
        ("x = relu\nrelu = tanh | x\nrelu", ["tanh1", "relu1"]),
        ("acts = [relu, tanh]\nrelu = elu\n2 x b(acts)\nblock b(act: layer) { act }", ["b1.0.relu1", "b1.1.tanh1"]),
        # nor does a name see what an earlier turn, or an earlier use, gave to a label below it
        ("2 x add {\n relu\n relu: tanh\n}", TWICE),
        ("repeat1 = add {\n relu\n relu: tanh\n}\nr: 2 x repeat1", [name.replace("repeat1", "r") for name in TWICE]),
        # but a label above it, whenever the layer that the label is in is used
        ("s = tanh | add {\n a: elu\n identity\n}\nt = add {\n a | relu\n identity\n}\ns\nt", LATE),
        # a stride is of the block that writes it
        ("b(conv)\nblock b(layer: layer, s=2) { 2 x layer(3, 4, stride=s * 1) }", ["b1.layer1.0", "b1.layer1.1"]),
        # labels within a block, read through any result
        ("gated | reader\nblock reader { add(in.z, in) }" + SKIP, ["gated1.z", "gated1.relu1", "reader1.add1"]),
        ("a: gated\nb: a | gated\nadd(b, b.before.z)" + SKIP, ["a.z", "a.relu1", "b.z", "b.relu1", "add1"]),
        # either arm of a choice may define a label
        ("(add {\n a: relu\n identity\n} if 1 < 2 else add {\n a: tanh\n identity\n})", ["a", "add1"]),
        # a count passes over the labels of branches: of a choice, of an `if`, among a merge's arguments
        ("(add {\n relu1: tanh\n identity\n} if 1 < 2) | relu", ["relu1", "add1", "relu2"]),
        ("if 1 < 2 {\n relu1: tanh\n}\nrelu", ["relu1", "relu2"]),
        ("add(in | add {\n relu1: tanh\n identity\n}, relu)", ["relu1", "add1", "relu2", "add2"]),
    ],
)
def test_names_mean_the_same_to_the_check_and_to_the_expansion(text: str, layers: list[str]) -> None:
    assert names(PICTURE + text) == layers


def test_the_input_of_a_model_that_declares_none_has_its_name() -> None:
    assert network("a: relu\nb: input | tanh\nadd(a, b)").graph["b"].inputs == ("input",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("add {\ninput: relu\nidentity\n}", "`input` is defined twice"),
        ("input p 8x8x3\ninput q 8x8x3\na: identity\na | relu\nadd(p, q)", "the model has several inputs: which one"),
        ("input p 8\ninput q 8\nadd {\na: identity\na | relu\n}\nadd(p, q)", "the model has several inputs: which one"),
        ("input 4\nrelu\nblock b { a: input | relu }", "nothing is named `input` in a block"),
        ("input 4\nrelu\nblock b { timm(norms=bn) }", "`timm` has no parameter `norms`"),
        ("input 4x4\n2 x conv(3, 8, padding=[[same], valid])", """but `["same"]` is a list"""),
        ("input 4x4\nresize(scale=2, method=[bilinear])", "`method` is `nearest` or `bilinear`, not"),
        ("input 4\nact = dense(n)\nn = 8\nact", "`n` is used before it is defined"),
    ],
)
def test_what_names_cannot_be(text: str, message: str) -> None:
    with pytest.raises(CnnError, match=re.escape(message)) as caught:
        cnnc.load_text(text)
    assert len(caught.value.diagnostics) == 1


def test_an_argument_too_many_leaves_the_words_of_the_others() -> None:
    with pytest.raises(CnnError) as caught:
        cnnc.load_text("input 8x8x3\nconv(3, 8, padding=same, stripe=2)")
    assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["argument"]


def test_outputs_are_not_unknown_because_the_check_stopped_at_its_limit() -> None:
    wrong = "".join(f"w{n}: nothing{n}\n" for n in range(MOST_REPORTED))
    with pytest.raises(CnnError) as caught:
        cnnc.load_text(f"input 4\noutput y\n{wrong}y: relu\n")
    assert not any("`y`" in diagnostic.message for diagnostic in caught.value.diagnostics)


def test_a_long_chain_of_names_for_a_layer_is_a_limit() -> None:
    chain = "".join(f"a{n + 1} = a{n}(bias=false)\n" for n in range(600))
    with pytest.raises(CnnError, match="nest more than 250 deep"):
        cnnc.load_text(f"input 4\na0 = dense(4)\n{chain}a600(bias=true)\n")


def test_many_names_for_layers_take_no_more_memory_each() -> None:
    peaks = []
    for count in (1000, 2000):
        lines = "".join(f"a{n} = relu\n" for n in range(count))
        tracemalloc.start()
        cnnc.load_text(f"input 4\n{lines}a0\n")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2.5 * peaks[0]


def test_every_file_sees_its_own_blocks(tmp_path: Path) -> None:
    (tmp_path / "parts.cnn").write_text("block reader(t: tensor) { add(t.z, in) }\n")
    (tmp_path / "other.cnn").write_text("model other { basic(64) }\n")
    spec = tmp_path / "spec.cnn"
    spec.write_text(
        'import "parts.cnn"\nimport "other.cnn"\nmodel m {\n input 8x8x3\n a: gated\n reader(a) | basic(1, 2)\n}\n'
        f"block basic(one, two) {{ relu }}\n{SKIP}"
    )
    assert len(cnnc.load(spec).graph) == 5


# Random names


def expanded(text: str) -> tuple[list[Diagnostic], Graph | None, list[Diagnostic]]:
    """The check's diagnostics, and the graph and the diagnostics of the expansion alone."""
    loaded = namespace.load(Source("names.cnn", text), None)
    graph, _, diagnostics = build(loaded, loaded.file.models[0], "names", Overrides())
    return check_names(loaded), graph, diagnostics


def assert_agree(text: str) -> None:
    """Whatever the check refuses of a spec, the expansion refuses as well, unless it does not come that way.

    It does not where any other unknown name in that place expands, too. What defines a name twice is the check's alone
    to say. The other way round, a name that the check accepts is known to the expansion, unless the line or the block
    that defines it is not expanded; or it is a word, and such a line defines what it is an argument of.
    """
    refused, graph, diagnostics = expanded(text)
    if graph is not None:
        for span in (_primary(diagnostic) for diagnostic in refused if diagnostic.code != "duplicate"):
            other = f"{text[: span.start]}nothing_of_the_sort{text[span.end :]}"
            assert expanded(other)[1] is not None, (span.text, text)
        if not refused:
            verify(graph)
            assert_same_text(text)
    for diagnostic in diagnostics if not refused else ():
        assert diagnostic.code not in ("limit", "recursion"), (diagnostic.message, text)
        if diagnostic.code == "name" and "a tensor has no" not in diagnostic.message:
            span = _primary(diagnostic)
            callees = re.findall(r"(\w+)\(", text[: span.start].rpartition("\n")[2])
            assert re.search(rf"\b({'|'.join([span.text, *callees])}) *[:=]", text), (diagnostic.message, text)


def _primary(diagnostic: Diagnostic) -> Span:
    assert diagnostic.primary is not None
    return diagnostic.primary.span


def test_what_expands_is_accepted_and_what_is_refused_does_not_expand() -> None:
    for number in range(200):
        assert_agree(named(Random(number)))


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(20))
def test_many_specs_are_accepted_or_refused_by_both(chunk: int) -> None:
    for number in range(1000 * chunk, 1000 * chunk + 1000):
        assert_agree(named(Random(number)))
