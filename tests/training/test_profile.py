"""`--profile`: whose an operation is, how moments are shared, and that the parts add up to the step."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc.backends.jax.profiling.hlo import LOSS, OPTIMIZER, instructions, owner_of
from cnnc.backends.jax.profiling.trace import Span, shared_out
from cnnc.data.sources.arrays import arrays_data_set
from cnnc.runs.events import Event, Message
from cnnc.training.initial_weights import initial_weights
from cnnc.training.profiling import Profile, profile, render_profile
from tests.support.training_cases import session_of

NODES = frozenset({"body.conv1", "body", "relu", "add"})


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("jit(step)/jvp(body.conv1)/dot_general", "body.conv1"),
        ("jit(step)/transpose(jvp(body.conv1))/transpose()/conv_general_dilated", "body.conv1"),
        ("jit(step)/jvp(checkpoint)/rematted_computation/body.conv1/add", "body.conv1"),
        # A primitive and a function of jax's are called as nodes are here.
        ("jit(step)/add", OPTIMIZER),
        ("jit(step)/jvp(body.conv1)/add", "body.conv1"),
        ("jit(step)/jvp(body.conv1)/jit(relu)/max", "body.conv1"),
        ("jit(step)/jvp(relu)/jit(relu)/max", "relu"),
        ("jit(step)/jvp()/reduce_sum", LOSS),
        ("jit(step)/jit(_where)/select_n", OPTIMIZER),
        ("jit(step)/mul;jit(step)", OPTIMIZER),
        ("state.optimizer[0][1].nu['body.conv1']['kernel']", OPTIMIZER),
        ("reduce_sum", None),
    ],
)
def test_a_path_of_scopes_tells_whose_an_operation_is(path: str, owner: str | None) -> None:
    assert owner_of(path, NODES) == owner


def test_what_the_compiler_adds_belongs_to_what_it_was_made_of_or_for() -> None:
    program = """\
HloModule jit_step

%fused (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  ROOT %m = f32[2]{0} multiply(%p, %p), metadata={op_name="jit(step)/jvp(body.conv1)/mul"}
}

ENTRY %main (a: f32[2]) -> f32[2] {
  %a = f32[2]{0} parameter(0), metadata={op_name="state.trainable['relu']['bias']"}
  %copy.1 = f32[2]{0} copy(%a)
  %fusion.1 = f32[2]{0} fusion(%copy.1), kind=kLoop, calls=%fused
  %copy.2 = f32[2]{0} copy(%fusion.1)
  ROOT %t = (f32[2]{0}, /*index=1*/f32[2]{0}) tuple(%copy.2, %fusion.1)
}
"""
    found = instructions(program, NODES)
    assert {name: found[name].owner for name in ("copy.1", "fusion.1", "copy.2", "m")} == dict.fromkeys(
        ("copy.1", "fusion.1", "copy.2", "m"), "body.conv1"
    )
    assert found["t"].opcode == "tuple"
    assert found["a"].owner is None


def test_a_moment_is_shared_by_what_runs_in_it() -> None:
    spans = [Span("a", 0, 4), Span("b", 2, 4), Span("a", 3, 4), Span("c", 6, 7)]
    # From 2 to 3 halves; from 3 to 4 two thirds and one.
    assert shared_out(spans) == pytest.approx({"a": 2 + 0.5 + 2 / 3, "b": 0.5 + 1 / 3, "c": 1})


def test_a_call_counts_where_nothing_that_it_calls_runs() -> None:
    spans = [Span("loop", 0, 10, is_call=True), Span("inner", 2, 5)]
    assert shared_out(spans) == pytest.approx({"loop": 7, "inner": 3})


@pytest.mark.slow
def test_the_layers_add_up_to_the_step(tmp_path: Path) -> None:
    net = cnnc.load("cifar_cnn")
    pictures = np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3)).astype(np.uint8)
    data = arrays_data_set(net.graph, (pictures, (np.arange(256) % 10).astype(np.int32)), None, seed=0)
    (tmp_path / "run").mkdir()
    said: list[Event] = []
    found = profile(session_of(net, data), tmp_path / "run", initial_weights(net, None)[0], said.append)
    by_name = {cost.name: cost for cost in found.costs}
    assert sum(cost.share for cost in found.costs) == pytest.approx(1)
    assert sum(cost.seconds for cost in found.costs) == pytest.approx(found.traced)
    # All that runs is known, and little time is between.
    assert "(unknown)" not in by_name or by_name["(unknown)"].share < 0.02
    assert by_name["(waiting)"].share < 0.3
    # By multiply-accumulates the four convolutions are nearly all of the network.
    convolutions = sum(cost.share for cost in found.costs if cost.name.startswith("body.conv"))
    assert convolutions > 0.5
    assert {cost.name for cost in found.costs} >= {"pixels", "hidden.repeat1.0.dense1", "head.dense1", "(optimizer)"}
    with (tmp_path / "run" / "profile.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-4)
    assert list((tmp_path / "run" / "profile").rglob("*.trace.json.gz"))
    assert "ms each" in "".join(event.text for event in said if isinstance(event, Message))


def test_the_table_is_of_the_slowest_and_the_rest() -> None:
    from cnnc.training.profiling import Cost

    costs = tuple(Cost(f"layer{i}", "relu", 0.01 * (9 - i), (9 - i) / 45) for i in range(9))
    text = render_profile(Profile(costs, 5, 0.4, 0.45), most=3)
    assert "6 more" in text
    assert text.splitlines()[-1] == "5 steps, 400.0 ms each (+12 % under the profiler, which the table is of)"
    assert "100.0 %" in text


@pytest.mark.parametrize(("count", "told"), [(15, 15), (16, 15)])
def test_fifteen_layers_are_told_one_by_one(count: int, told: int) -> None:
    from cnnc.training.profiling import Cost

    text = render_profile(Profile(tuple(Cost(f"layer{i}", "relu", 0.1, 0.1) for i in range(count)), 5, 0.4, 0.45))
    assert text.count("relu") == told
    assert ("1 more" in text) is (count > told)
