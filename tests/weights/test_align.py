"""Layers of a file and operators of a graph: found where something tells, an error where nothing does."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnnc
from cnnc import specs
from cnnc.diagnostics import CnnError
from cnnc.weights.importing.import_weights import Options, combine
from tests.support import weight_sources as made

SLOW: Final = ("alphafold", "vgg")
SMALL: Final = (
    "alphazero",
    "astronet",
    "inception_v1",
    "mobilenet_v2",
    "resnet",
    "resnet3d",
    "squeezenet",
    "unet",
    "xception",
)
"""Specs with few layers, or with branches that have equal ones."""


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(each, marks=[pytest.mark.slow] if each in SLOW else [])
        for each in specs.names()
        if each not in ("wavenet", "qanet")
    ],
)
def test_connections_alone_tell_all_layers(spec: str) -> None:
    graph = cnnc.load(spec).graph
    target = made.plain(graph)
    scrambled = np.random.default_rng(0).permutation(len(target.units))
    names = {unit.name: f"x{number}" for unit, number in zip(target.units, scrambled, strict=True)}
    order = made.any_order(target, 1)
    source = made.made_of(
        target, made.marked(graph), lambda unit: names[unit.name], sequence=order, with_graph=True, order="running"
    )
    assert made.is_same(graph, source)


def test_a_gate_is_not_taken_for_what_it_gates() -> None:
    """`tanh` behind one convolution and `sigmoid` behind the other are in no file."""
    graph = cnnc.load("wavenet").graph
    target = made.plain(graph)
    names = {unit.name: f"x{place * 7919 % 1000:03}" for place, unit in enumerate(target.units)}
    source = made.made_of(target, made.marked(graph), lambda unit: names[unit.name], with_graph=True, order="running")
    with pytest.raises(CnnError, match=made.OPEN) as raised:
        combine(graph, source, Options())
    assert "`stack.0.z.conv1`, `stack.0.z.conv2`" in str(raised.value)
    named = made.made_of(
        target,
        made.marked(graph),
        lambda unit: re.sub(r"z\.conv(\d)", lambda found: ("filter", "gate")[int(found[1]) - 1], unit.name),
        with_graph=True,
    )
    with pytest.raises(CnnError, match=made.OPEN):
        combine(graph, named, Options())
    assert made.is_same(graph, named, Options(trust_order=True))


@pytest.mark.slow  # of a hundred networks
@given(st.sampled_from(SMALL), st.integers(0, 2**16), st.sampled_from(["all", "kinds"]), st.booleans())
def test_names_that_count_are_right_or_refused(spec: str, seed: int, style: str, keeps_order: bool) -> None:
    """Which of two branches an author wrote first is nobody's to guess."""
    graph = cnnc.load(spec).graph
    target = made.plain(graph)
    order = made.any_order(target, seed)
    name = made.by_creation(target, order, style)
    source = made.made_of(target, made.marked(graph), name, sequence=order, order="written" if keeps_order else "names")
    try:
        assert made.is_same(graph, source)
    except CnnError as error:
        assert made.OPEN in str(error)  # noqa: PT017  # being right is no error


@pytest.mark.slow  # of a hundred networks
@given(st.integers(0, 2**16), st.sampled_from(SMALL))
def test_names_that_say_nothing_are_right_or_refused(seed: int, spec: str) -> None:
    graph = cnnc.load(spec).graph
    target = made.plain(graph)
    numbers = np.random.default_rng(seed).permutation(len(target.units))
    words = {unit.name: _word(int(number)) for unit, number in zip(target.units, numbers, strict=True)}
    source = made.made_of(target, made.marked(graph), lambda unit: words[unit.name], order="names")
    try:
        assert made.is_same(graph, source)
    except CnnError as error:
        assert made.OPEN in str(error)  # noqa: PT017


def _word(number: int) -> str:
    return "".join(chr(97 + number // 26**place % 26) for place in range(3))


@pytest.mark.parametrize("arrange", [made.own_order, made.outputs_first, made.outputs_around])
@pytest.mark.parametrize(
    "text",
    [
        "input 9x8x3\nconv(3x2, 5) | conv(1, 4) | relu | conv(2, 6, groups=2) | flatten | dense(7)",
        "input 9x8x3\ndepthwise(3x2) | bn | depthwise(2, multiplier=2) | globalpool | dense(5)",
        "input 8x7x3\nconv_transpose(3x2, 5, stride=2) | prelu | conv_transpose(1x2, 4, bias=false) | bn",
        "input 20x3\nconv(3, 5) | layer_norm | depthwise(5) | attention(1) | flatten | dense(2)",
        "input 7x6x5x2\nconv(3x2x1, 4) | group_norm(2) | conv_transpose(2x1x3, 3) | depthwise(2x2x1)",
        "input 12 int\nembedding(11, 6) | conv(3, 5) | layer_scale | globalpool | dense(3)",
    ],
    ids=["2-D", "depthwise", "transposed", "1-D", "3-D", "embedding"],
)
def test_axes_come_back_exactly(text: str, arrange: made.Arrange) -> None:
    graph = cnnc.load_text(text).graph
    weights = made.noise(graph, 0)
    source = made.made_of(made.plain(graph), weights, lambda unit: unit.name, arrange=arrange)
    found = combine(graph, source, Options())
    for node, short, _ in made.arrays(graph):
        np.testing.assert_array_equal(found.weights[node][short], weights[node][short], f"{node}.{short}")
    assert not found.initial
    assert not found.unused


def test_order_that_names_contradict_is_no_evidence() -> None:
    """Eight blocks in another order than they run in, whatever the file says; each has layers that are sure."""
    count = 8
    lines = [f"conv(1x1, {10 + block}) | conv(1x1, 6) | conv(3x3, 6)" for block in range(count)]
    graph = cnnc.load_text("\n".join(["input 9x9x6", *lines])).graph
    target = made.plain(graph)
    words = ("oak", "ash", "elm", "fir", "yew", "bay", "box", "fig")
    names = {
        unit.name: f"{words[place // 3]}.{('widen', 'narrow', 'mix')[place % 3]}"
        for place, unit in enumerate(target.units)
    }
    made_in = [3 * block + layer for block in reversed(range(count)) for layer in range(3)]
    for sequence in (made_in, list(range(3 * count))):
        source = made.made_of(
            target, made.marked(graph), lambda unit: names[unit.name], sequence=sequence, order="running"
        )
        if sequence == made_in:
            with pytest.raises(CnnError, match=made.OPEN):
                combine(graph, source, Options())
        else:
            assert made.is_same(graph, source)
