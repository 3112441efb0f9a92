"""Random networks from the grammar: text to graph and back, and JAX against the reference."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cnnc
from cnnc.diagnostics import Source
from cnnc.ir import verify
from cnnc.ir.text import print_graph, read_graph
from cnnc.language import formatter
from cnnc.overrides import Overrides
from tests.support.agreement import assert_agrees
from tests.support.networks_of_texts import assert_same_text
from tests.support.spec_texts import Random, random_specs

CALM = list(HealthCheck)


def assert_holds(spec: Random) -> None:
    graph = cnnc.load_text(spec.text).graph
    verify(graph)
    assert {label: graph[name].shape for label, name in graph.outputs} == spec.outputs
    assert read_graph(print_graph(graph)) == graph
    assert_same_text(spec.text)
    assert cnnc.load_text(formatter.format_spec(Source("random.cnn", spec.text))).graph == graph


def assert_scales(spec: Random, width: float, depth: float, resolution: float) -> None:
    """Wider, deeper, larger: a sound graph that reads a larger picture and tells as many classes apart."""
    plain = cnnc.load_text(spec.text).graph
    graph = cnnc.load_text(spec.text, overrides=Overrides(width=width, depth=depth, resolution=resolution)).graph
    verify(graph)
    (before,), (after,) = plain.inputs, graph.inputs
    assert after.shape == (*(round(size * resolution) for size in before.shape[:-1]), before.shape[-1])
    if "output" in spec.outputs:
        assert graph[graph.outputs[0][1]].shape == (3,)


factors = st.sampled_from([0.25, 0.5, 1.1, 2.0, 3.0])
more = st.sampled_from([1.0, 1.1, 1.5, 2.0])


@given(random_specs())
@settings(max_examples=25, suppress_health_check=CALM)
def test_random_networks_are_sound_and_their_texts_give_them_again(spec: Random) -> None:
    assert_holds(spec)


@given(random_specs(), factors, more, more)
@settings(max_examples=25, suppress_health_check=CALM)
def test_random_networks_scale(spec: Random, width: float, depth: float, resolution: float) -> None:
    assert_scales(spec, width, depth, resolution)


@given(random_specs())
@settings(max_examples=10, suppress_health_check=CALM)
def test_random_networks_in_jax_are_the_reference(spec: Random) -> None:
    assert_agrees(cnnc.load_text(spec.text))


@pytest.mark.slow
@given(random_specs(), factors, more, more)
@settings(max_examples=2000, derandomize=False, suppress_health_check=CALM)
def test_many_random_networks_are_sound(spec: Random, width: float, depth: float, resolution: float) -> None:
    assert_holds(spec)
    assert_scales(spec, width, depth, resolution)


@pytest.mark.slow
@given(random_specs())
@settings(max_examples=500, derandomize=False, suppress_health_check=CALM)
def test_many_random_networks_in_jax_are_the_reference(spec: Random) -> None:
    assert_agrees(cnnc.load_text(spec.text))
