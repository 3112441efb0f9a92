"""Where the time of compiled steps goes, by jax's profiler: a trace for TensorBoard and Perfetto, and its sums here.

On a CPU many operations run at once, each on several threads or one. So that the times of all add up to that of a step,
each moment is shared equally among what runs in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jax
from jax.profiler import ProfileData

from cnnc.backends.jax.profiling.hlo import Instruction, instructions
from cnnc.backends.protocols import StepTrace

IDLE: Final = "(waiting)"
"""Nothing of the program runs: between operations, between steps."""
UNKNOWN: Final = "(unknown)"
"""Operations of which it cannot be told what they are for."""
_WARM: Final = 3


def trace_steps(
    step: Any,
    arguments: Callable[[Any], tuple[Any, ...]],
    state: Any,
    nodes: Iterable[str],
    folder: Path,
    seconds: float,
) -> StepTrace:
    """Take steps until they are as fast as they get, then some by the clock, then as many with the profiler.

    Args:
        step: a compiled function, jitted, of what `arguments` gives; returns the next state and what it measured.
        arguments: of a step from a state.
        state: the first, which is given away.
        nodes: names of the graph's nodes.
        folder: where the profiler's files go.
        seconds: how long the measured steps may take, about.
    """
    program = instructions(step.lower(*arguments(state)).compile().as_text(), nodes)
    for _ in range(_WARM):
        began = time.perf_counter()
        state = _taken(step, arguments, state, 1)
        once = time.perf_counter() - began
    steps = max(3, min(20, round(seconds / once)))
    began = time.perf_counter()
    state = _taken(step, arguments, state, steps)
    plain = (time.perf_counter() - began) / steps
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(folder, profiler_options=options):
        began = time.perf_counter()
        _taken(step, arguments, state, steps)
        traced = (time.perf_counter() - began) / steps
    newest = max(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    spent = shared_out(list(_spans(newest, program)))
    owners = {owner: time / steps for owner, time in spent.items()}
    owners[IDLE] = max(0.0, traced - sum(owners.values()))
    return StepTrace(steps, plain, traced, owners)


@dataclass(frozen=True)
class Span:
    """An operation that ran, in seconds; `is_call` if it only waited for others."""

    owner: str
    start: float
    end: float
    is_call: bool = False


def shared_out(spans: list[Span]) -> dict[str, float]:
    """Seconds of every owner: each moment in which anything runs is shared equally by what runs, calls left out."""
    moments = sorted(
        [(span.start, True, i) for i, span in enumerate(spans)] + [(span.end, False, i) for i, span in enumerate(spans)]
    )
    found: dict[str, float] = {}
    working: set[int] = set()
    calling: set[int] = set()
    before = 0.0
    for moment, begins, i in moments:
        active = working or calling
        for each in active:
            owner = spans[each].owner
            found[owner] = found.get(owner, 0.0) + (moment - before) / len(active)
        before = moment
        group = calling if spans[i].is_call else working
        (group.add if begins else group.discard)(i)
    return found


def _taken(step: Any, arguments: Callable[[Any], tuple[Any, ...]], state: Any, count: int) -> Any:
    for _ in range(count):
        state, measured = step(*arguments(state))
    finish: Callable[[Any], Any] = jax.block_until_ready
    finish((state, measured))
    return state


def _spans(path: Path, program: Mapping[str, Instruction]) -> Iterator[Span]:
    """The events of a program.

    An operation that is handed to other threads returns at once, and a second event, which names the first by a number,
    says when it was done.
    """
    started: list[tuple[str, float, float, Any]] = []
    ended: dict[Any, float] = {}
    for plane in ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                end = event.start_ns + event.duration_ns
                if event.name.startswith("end: "):
                    ended[dict(event.stats).get("_c")] = end
                    continue
                stats = dict(event.stats)
                if stats.get("hlo_op") in program:
                    started.append((stats["hlo_op"], event.start_ns, end, stats.get("_p")))
    for name, start, end, number in started:
        done = end if number is None else max(end, ended.get(number, end))
        instruction = program[name]
        yield Span(instruction.owner or UNKNOWN, start * 1e-9, done * 1e-9, instruction.is_call)
