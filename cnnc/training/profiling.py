"""`--profile`: some steps of a training under the profiler, and what every layer takes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import numpy as np

from cnnc.backends.protocols import Array, Inputs, Targets, TrainingState, load_training
from cnnc.data.feeding.batches import training_batches
from cnnc.net import Weights
from cnnc.rendering.captions import caption
from cnnc.rendering.text_table import box
from cnnc.runs.events import Message, Report
from cnnc.runs.folder import write_table
from cnnc.runs.processes import local_cluster
from cnnc.training.session import Session

FOLDER: Final = "profile"
"""Where the profiler's files lie in a run's folder, for TensorBoard and https://ui.perfetto.dev."""
TABLE: Final = "profile.csv"
_SECONDS: Final = 4.0
"""How long the traced steps take, about."""
_BATCHES: Final = 4
"""Batches that are made before the first step and used in turn: it is the step that is measured, not the reading."""
_SHOWN: Final = 15
_KINDS: Final = {
    "(optimizer)": "update of the weights, norms, averages",
    "(loss)": "loss and measures",
    "(waiting)": "nothing runs: between operations and steps",
    "(unknown)": "what the compiler added",
}
"""The parts of a step that belong to no layer."""


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


def profile(session: Session, run: Path, weights: Weights, report: Report) -> Profile:
    """Measure some steps from `weights` on, say what they take, and write that and the profiler's files into a run.

    The weights are left as they are, and so is all that the training does later.
    """
    report(Message("profiling some steps before the training"))
    # Of several processes one profiles, by itself: it can take no step that the others have a part in.
    local = session if session.cluster.group is None else replace(session, cluster=local_cluster())
    graph, groups = session.net.graph, session.groups_of(1)
    batches = cycle(list(islice(training_batches(session.train, session.batch, 1), _BATCHES)))
    rate = np.float32(session.net.recipe.schedule.peak * 1e-3)

    def arguments(state: TrainingState) -> tuple[TrainingState, Inputs, Targets, Array]:
        return state, *local.place(next(batches)), rate

    step, state = local.compile_step(groups), local.first_state(weights, groups)
    names, folder, table = [node.name for node in graph], run / FOLDER, run / TABLE
    trace = load_training().trace_steps(step, arguments, state, names, folder, _SECONDS)
    kinds = {**_KINDS, **{node.name: caption(node.op) for node in graph}}
    costs = [Cost(name, kinds[name], seconds, seconds / trace.traced) for name, seconds in trace.owners.items()]
    costs.sort(key=lambda cost: -cost.seconds)
    result = Profile(tuple(costs), trace.steps, trace.plain, trace.traced)
    write_costs(table, result.costs)
    for line in (*render_profile(result).split("\n"), f"all of it in {table}, the trace in {folder}"):
        report(Message(line))
    return result


def render_profile(profile: Profile, most: int = _SHOWN) -> str:
    """The table of the slowest layers, and what a step takes."""
    first, rest = profile.costs[:most], profile.costs[most:]
    cells = [_cells(cost) for cost in first]
    if rest:
        seconds, share = sum(cost.seconds for cost in rest), sum(cost.share for cost in rest)
        cells.append(_cells(Cost(f"{len(rest)} more", "", seconds, share)))
    total = _cells(Cost("a step", "", profile.traced, 1.0))
    table = box(["layer", "operator", "ms a step", "share"], [cells, [total]], right=range(2, 4), shrink=(1, 0))
    slower = profile.traced / profile.plain - 1
    return (
        f"{table}\n{profile.steps} steps, {1e3 * profile.plain:.1f} ms each"
        f" ({100 * slower:+.0f} % under the profiler, which the table is of)"
    )


def write_costs(path: Path, costs: Sequence[Cost]) -> None:
    """`profile.csv`: a line a layer."""
    lines = [[cost.name, cost.kind, f"{1e3 * cost.seconds:.4f}", f"{cost.share:.6f}"] for cost in costs]
    write_table(path, [["layer", "operator", "ms", "share"], *lines])


def _cells(cost: Cost) -> list[str]:
    return [cost.name, cost.kind, f"{1e3 * cost.seconds:.2f}", f"{100 * cost.share:.1f} %"]
