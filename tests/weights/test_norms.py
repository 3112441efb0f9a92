"""Weights that have to change to do the same: norms in and out of convolutions, flattened axes, colours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.ir import Graph
from cnnc.ops import BatchNorm
from cnnc.weights.importing.import_weights import Options, combine
from cnnc.weights.importing.layers.file_layers import Source
from tests.support import weight_sources as made

NORMED = "input 6x5x3\nconv(3x3, 4) | bn(epsilon=1e-3) | relu | depthwise(3x3, bias=false) | bn | flatten | dense(2)"


def close(graph: Graph, ours: Any, theirs: Any) -> None:
    """Two sets of weights, of two graphs perhaps, compute the same."""
    pixels = np.random.default_rng(5).normal(size=(3, *graph.inputs[0].shape)).astype(np.float32)
    net, other = ours[0], theirs[0]
    one, two = np.asarray(net.apply(ours[1], pixels)), np.asarray(other.apply(theirs[1], pixels))
    assert np.abs(one - two).max() < 1e-5 * np.ptp(two)


def test_norms_that_a_file_has_folded_are_neutral_but_for_their_offsets() -> None:
    plain = cnnc.load_text(re.sub(r" \| bn(\(.*?\))?", "", NORMED).replace("bias=false", "bias=true"))
    weights = made.noise(plain.graph, 1)
    source = made.made_of(made.plain(plain.graph), weights, lambda unit: f"of.{unit.name}")
    for spec in (NORMED, NORMED.replace("bn(epsilon=1e-3)", "bn(epsilon=0.1, scale=false)")):
        net = cnnc.load_text(spec)
        found = combine(net.graph, source, Options())
        close(net.graph, (net, found.weights), (plain, weights))
        assert not found.initial


def test_norms_of_a_file_go_into_convolutions_where_the_network_has_none() -> None:
    net = cnnc.load_text(NORMED)
    weights = made.noise(net.graph, 2)
    source = made.made_of(made.plain(net.graph), weights, lambda unit: f"of.{unit.name}")
    source = with_epsilons(net.graph, source)
    plain = cnnc.load_text(re.sub(r" \| bn(\(.*?\))?", "", NORMED).replace("bias=false", "bias=true"))
    found = combine(plain.graph, source, Options())
    close(plain.graph, (plain, found.weights), (net, weights))


@pytest.mark.parametrize("scale", ["true", "false"])
def test_a_norm_of_another_epsilon_does_the_same(scale: str) -> None:
    text = f"input 6x5x3\nconv(3x3, 4) | bn(epsilon=%s, scale={scale})"
    theirs, ours = cnnc.load_text(text % "0.1"), cnnc.load_text(text % "1e-5")
    weights = made.noise(theirs.graph, 3)
    source = made.made_of(made.plain(theirs.graph), weights, lambda unit: unit.name)
    found = combine(ours.graph, with_epsilons(theirs.graph, source), Options())
    close(ours.graph, (ours, found.weights), (theirs, weights))


def test_a_bias_before_a_norm_goes_into_its_mean() -> None:
    theirs = cnnc.load_text("input 6x5x3\nconv(3x3, 4, bias=true) | bn")
    ours = cnnc.load_text("input 6x5x3\nconv(3x3, 4, bias=false) | bn")
    weights = made.noise(theirs.graph, 3)
    source = made.made_of(made.plain(theirs.graph), weights, lambda unit: unit.name)
    found = combine(ours.graph, source, Options())
    close(ours.graph, (ours, found.weights), (theirs, weights))


def with_epsilons(graph: Graph, source: Source) -> Source:
    """The file, knowing the epsilons of its norms."""
    from dataclasses import replace

    norms = [unit.node.op for unit in made.plain(graph).units]
    layers = [
        replace(layer, epsilon=op.epsilon) if isinstance(op, BatchNorm) else layer
        for layer, op in zip(source.layers, norms, strict=True)
    ]
    return replace(source, layers=tuple(layers))


def test_dense_after_a_flatten_of_channels_first(tmp_path: Path) -> None:
    from dataclasses import replace

    net = cnnc.load_text("input 3x2x4\nflatten | dense(5)")
    weights = made.noise(net.graph, 4)
    ours = weights["dense1"]["kernel"]
    theirs = ours.reshape(3, 2, 4, 5).transpose(2, 0, 1, 3).reshape(24, 5)
    source = made.made_of(made.plain(net.graph), {"dense1": {**weights["dense1"], "kernel": theirs}}, lambda _: "fc")
    found = combine(net.graph, replace(source, channels_first=True), Options())
    np.testing.assert_array_equal(found.weights["dense1"]["kernel"], ours)
    assert found.lines[0].change == "CHW to HWC"


def test_colours_change_places_where_one_side_alone_turns_them() -> None:
    from dataclasses import replace

    spec = "input 4x4x3\n%sconv(2, 5)"
    rgb, bgr = cnnc.load_text(spec % ""), cnnc.load_text(spec % "bgr | ")
    weights = made.noise(rgb.graph, 4)
    source = made.made_of(made.plain(rgb.graph), weights, lambda _: "conv")
    turned = weights["conv1"]["kernel"][:, :, ::-1]
    for net, says, wanted in (
        (rgb, True, turned),
        (bgr, True, weights["conv1"]["kernel"]),
        (rgb, None, weights["conv1"]["kernel"]),
        (bgr, False, turned),
    ):
        found = combine(net.graph, replace(source, bgr=says), Options())
        np.testing.assert_array_equal(found.weights["conv1"]["kernel"], wanted)
