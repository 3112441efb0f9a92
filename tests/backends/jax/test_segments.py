"""Where graphs are cut, and which of their segments are alike."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings

import cnnc
from cnnc.backends.jax.rematerialization import grouped
from cnnc.backends.jax.segments import Run, Segment, ancestors, runs, segments
from cnnc.ir import Graph, Node
from cnnc.ops import Input
from tests.support.networks_of_texts import network
from tests.support.spec_texts import Random, random_specs


def cut(graph: Graph) -> list[Segment]:
    return segments(graph, [name for _, name in graph.outputs])


def alike(graph: Graph, least: int = 2, frozen: frozenset[str] = frozenset()) -> list[Run]:
    """The runs of more than one."""
    wanted = [name for _, name in graph.outputs]
    return [run for run in runs(graph, cut(graph), wanted, frozen, least) if len(run) > 1]


def shape_of(found: list[Run]) -> list[tuple[int, int]]:
    """Repeats, and nodes of one."""
    return [(len(run), len(run[0].nodes)) for run in found]


def cuts_by_definition(nodes: list[Node]) -> list[str]:
    """The nodes such that those after them read of them and those before them only them."""
    found = []
    for position, node in enumerate(nodes[:-1]):
        read = {name for later in nodes[position + 1 :] for name in later.inputs}
        if read & {earlier.name for earlier in nodes[: position + 1]} == {node.name}:
            found.append(node.name)
    return found


def test_bottlenecks_are_cut_at_their_sums_and_activations() -> None:
    graph = cnnc.load("resnet50").graph
    found = cut(graph)
    stages = [part for part in found if len(part.nodes) > 1]
    assert len(stages) == 16
    assert all(part.nodes[-1].op.name == "add" for part in stages)
    assert shape_of(alike(graph)) == [(2, 10), (3, 10), (5, 10), (2, 10)]
    assert shape_of(alike(graph, least=3)) == [(3, 10), (5, 10)]


def test_forty_blocks_are_a_run_of_thirty_nine_after_the_one_that_widens() -> None:
    graph = network("input 8x8x3\nconv(3x3, 8)\n40 x residual(16)").graph
    (run,) = alike(graph)
    assert shape_of([run]) == [(39, 7)]
    assert [part.entry for part in run[1:]] == [part.exit for part in run[:-1]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("efficientnet_b0", [(2, 16), (2, 16), (3, 16)]),
        ("mobilenet_v2", [(2, 9), (3, 9), (2, 9), (2, 9)]),
        ("convnext", [(3, 8), (3, 8), (9, 8), (3, 8)]),
        ("densenet121", []),
        ("unet", []),
    ],
)
def test_runs_of_the_bundled_networks(name: str, expected: list[tuple[int, int]]) -> None:
    assert shape_of(alike(cnnc.load(name).graph)) == expected


def test_a_dense_block_is_cut_between_its_layers_only() -> None:
    graph = cnnc.load("densenet121").graph
    inside = [part for part in cut(graph) if part.nodes[-1].op.name == "concat"]
    assert len(inside) == 6 + 12 + 24 + 16
    assert {len(part.nodes) for part in inside} == {7}


def test_a_u_is_one_segment_from_its_first_fork_to_its_last_join() -> None:
    graph = cnnc.load("unet").graph
    longest = max(cut(graph), key=lambda part: len(part.nodes))
    assert longest.nodes[-1].op.name == "concat"
    assert sum(node.op.name == "concat" for node in longest.nodes) == 4


def test_a_stochastic_depth_that_grows_leaves_blocks_alike_and_a_dropout_that_grows_does_not() -> None:
    text = "input 4x4x8\nrelu\n4 x add {\nidentity\nconv(3x3, 8) | OP(0.1 * (repeat + 1))\n}\nrelu"
    assert shape_of(alike(network(text.replace("OP", "drop_path")).graph)) == [(4, 3)]
    assert alike(network(text.replace("OP", "dropout")).graph) == []


def test_what_is_frozen_is_unlike_what_learns() -> None:
    graph = network("input 4x4x8\nrelu\n4 x add {\nidentity\nconv(3x3, 8)\n}\nrelu").graph
    first = next(node.name for node in graph if node.op.name == "conv")
    assert shape_of(alike(graph, frozen=frozenset({first}))) == [(3, 2)]


def test_repeats_of_one_layer_are_unlike_the_first_that_owns_its_weights_and_each_other() -> None:
    assert alike(network("input 4x4x8\nsee = shared(conv(3x3, 8))\n4 x see").graph) == []


def test_a_value_that_leaves_from_within_ends_a_run() -> None:
    graph = network("input 4x4x8\nrelu\n4 x add {\nidentity\nconv(3x3, 8)\n}\nrelu").graph
    sums = [node.name for node in graph if node.op.name == "add"]
    wanted = [*(name for _, name in graph.outputs), sums[1]]
    found = runs(graph, segments(graph, wanted), wanted)
    assert [len(run) for run in found] == [1, 1, 1, 2, 1]


@given(random_specs())
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
def test_random_graphs_are_cut_where_every_node_lies_on_one_side(spec: Random) -> None:
    graph = cnnc.load_text(spec.text).graph
    wanted = [name for _, name in graph.outputs]
    nodes = [node for node in ancestors(graph, wanted) if not isinstance(node.op, Input)]
    found = cut(graph)
    assert [node for part in found for node in part.nodes] == nodes
    assert [part.exit for part in found[:-1]] == cuts_by_definition(nodes)
    inputs = {node.name for node in graph.inputs}
    for part in found:
        own = {node.name for node in part.nodes}
        read = {name for node in part.nodes for name in node.inputs} - own - inputs
        assert read == ({part.entry} if part.entry else set())
    for run in alike(graph):
        for earlier, later in pairwise(run):
            assert [node.shape for node in earlier.nodes] == [node.shape for node in later.nodes]


def test_groups_of_equal_segments_grow_towards_the_end_as_little_is_kept_by_then() -> None:
    graph = network("input 4x4x8\n100 x relu").graph
    groups = [len(part.nodes) for part in grouped(cut(graph))]
    assert sum(groups) == 100
    assert max(kept + size for kept, size in enumerate(groups)) <= 14  # sqrt(2 * 100), as groups shrink one by one
    assert groups == sorted(groups, reverse=True)
