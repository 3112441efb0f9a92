"""`--profile`: some steps of a training under the profiler, and what every layer takes of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from cnnc import backends
from cnnc.data.feeding.batches import training_batches
from cnnc.evaluation.evaluator import named_inputs
from cnnc.files import write_atomically
from cnnc.net import Weights
from cnnc.rendering.captions import caption
from cnnc.rendering.text_table import box
from cnnc.runs.events import Report, Said
from cnnc.training.loop import Plan

FOLDER: Final = "profile"
"""Where the profiler's files lie in a run's folder, for TensorBoard and https://ui.perfetto.dev."""
TABLE: Final = "profile.csv"
_SECONDS: Final = 4.0
"""How long the traced steps take, about."""
_BATCHES: Final = 4
"""Batches that are made before the first step and used in turn: it is the step that is measured, not the reading."""
_SHOWN: Final = 15


@dataclass(frozen=True)
class Cost:
    """A layer's part of a step, forward and backward; a name in parentheses is of what belongs to no layer."""

    name: str
    kind: str
    seconds: float
    share: float


@dataclass(frozen=True)
class Profile:
    """The costs, the largest first, which add up to `traced`; `plain` is a step without the profiler. In seconds."""

    costs: tuple[Cost, ...]
    steps: int
    plain: float
    traced: float


def profile(plan: Plan, weights: Weights, report: Report) -> Profile:
    """Measure some steps from `weights` on, say and write what they take, and leave the profiler's files.

    The weights are left as they are, and so is all that the training does later.
    """
    report(Said("profiling some steps before the training"))
    graph, recipe = plan.net.graph, plan.recipe
    backend, trace = backends.load("jax", "training.step"), backends.load("jax", "profiling.trace")
    aims = tuple(backend.Aim(loss, known) for loss, known in zip(plan.losses, plan.classified, strict=True))
    learning = [group.factors for group in plan.groups if group.epoch <= 1]
    # Of several processes one profiles, by itself: it can take no step that the others have a part in.
    devices = plan.team.devices if plan.team.group is None else backends.load("jax", "distributed.devices").ONE_DEVICE
    step = backend.training_step(graph, recipe, aims, learning, devices=devices)
    batches = cycle(list(islice(training_batches(plan.train, plan.batch, 1), _BATCHES)))
    rate = np.float32(recipe.schedule.peak * 1e-3)

    def arguments(state: Any) -> tuple[Any, ...]:
        batch = next(batches)
        inputs, targets = devices.place_batch((named_inputs(graph, batch), batch.targets))
        return state, inputs, targets, rate

    folder = plan.folder.path / FOLDER
    state = devices.place_state(
        graph, backends.load("jax", "training.state").first_state(graph, recipe, weights, learning)
    )
    found = trace.trace_steps(step, arguments, state, [node.name for node in graph], folder, _SECONDS)
    kinds = {node.name: caption(node.op) for node in graph} | {
        "(optimizer)": "update of the weights, norms, averages",
        "(loss)": "loss and measures",
        "(waiting)": "nothing runs: between operations and steps",
        "(unknown)": "what the compiler added",
    }
    costs = sorted(
        (Cost(name, kinds[name], seconds, seconds / found.traced) for name, seconds in found.owners.items()),
        key=lambda cost: -cost.seconds,
    )
    made = Profile(tuple(costs), found.steps, found.plain, found.traced)
    write_costs(plan.folder.path / TABLE, made.costs)
    for line in (*in_words(made).split("\n"), f"all of it in {plan.folder.path / TABLE}, the trace in {folder}"):
        report(Said(line))
    return made


def in_words(found: Profile, shown: int = _SHOWN) -> str:
    """The table of the slowest layers, and what a step takes."""
    first, rest = found.costs[:shown], found.costs[shown:]
    cells = [_cells(cost) for cost in first]
    if rest:
        seconds, share = sum(cost.seconds for cost in rest), sum(cost.share for cost in rest)
        cells.append(_cells(Cost(f"{len(rest)} more", "", seconds, share)))
    total = _cells(Cost("a step", "", found.traced, 1.0))
    table = box(["layer", "operator", "ms a step", "share"], [cells, [total]], right=range(2, 4), shrink=(1, 0))
    slower = found.traced / found.plain - 1
    return (
        f"{table}\n{found.steps} steps, {1e3 * found.plain:.1f} ms each"
        f" ({100 * slower:+.0f} % under the profiler, which the table is of)"
    )


def write_costs(path: Path, costs: Sequence[Cost]) -> None:
    """`profile.csv`: a line a layer."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "operator", "ms", "share"])
    writer.writerows([cost.name, cost.kind, f"{1e3 * cost.seconds:.4f}", f"{cost.share:.6f}"] for cost in costs)
    write_atomically(path, text.getvalue())


def _cells(cost: Cost) -> list[str]:
    return [cost.name, cost.kind, f"{1e3 * cost.seconds:.2f}", f"{100 * cost.share:.1f} %"]
