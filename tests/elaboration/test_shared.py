"""`shared(...)`: one layer in several places, with one set of weights in every backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.backends import reference
from cnnc.ir import verify
from cnnc.ir.text import print_graph, read_graph
from cnnc.passes.pipelines import INFERENCE
from tests.support.models import assert_keep_the_function, random_model

TWINS = """
input 8x8x3
see = shared(conv(3x3, 3) | bn | relu)
a: input | see
b: a | conv(1x1, 3) | see
c: b | 3 x see
concat(a, b, c)
"""


def twins() -> Any:
    return cnnc.load_text(TWINS)


def test_the_weights_are_those_of_the_first_place_and_count_once() -> None:
    graph = twins().graph
    verify(graph)
    owners = {node.name for node in graph if graph.weights(node)}
    assert owners == {"a.conv1", "a.bn1", "b.conv1"}
    assert graph.trainable_count == 9 * 3 * 3 + 2 * 3 + 3 * 3 + 3
    assert {node.owner for node in graph if node.op.name == "bn"} == {"a.bn1"}
    assert read_graph(print_graph(graph)) == graph


def test_it_is_what_copies_of_the_weights_are() -> None:
    model = random_model(twins().graph)
    plain = replace(model.graph, nodes=tuple(replace(node, weights_of=None) for node in model.graph))
    copies = {node.name: model.weights[node.owner] for node in model.graph}
    inputs = {"input": np.random.default_rng(0).standard_normal((2, 8, 8, 3))}
    found, expected = reference.run(model.graph, model.weights, inputs), reference.run(plain, copies, inputs)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    assert not any(node.weights_of for node in assert_keep_the_function(model, INFERENCE).graph)


def test_other_channels_are_an_error() -> None:
    text = "input 8x8x3\nsee = shared(conv(3x3, 8))\na: see\nb: a | see\nadd(a, b)\n"
    with pytest.raises(cnnc.CnnError, match=r"this shared layer reads 8x8x8 here, but 8x8x3 in its first use, `a`"):
        cnnc.load_text(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input 8x8x3\nshared(conv(3x3, 8))\n", "is one layer for several places"),
        ("input 8x8x3\nsee = shared(conv(3x3, 8))\nsee(stride=2)\n", "is shared and takes no arguments"),
        ("input 8x8x3\nsee = shared(8)\nsee\n", "`layer` is a layer, but `8` is"),
    ],
)
def test_what_cannot_be_shared_is_an_error(text: str, message: str) -> None:
    with pytest.raises(cnnc.CnnError, match=message):
        cnnc.load_text(text)
