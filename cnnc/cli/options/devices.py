"""The options of `cnnc train` that say on which devices and in how many processes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, NoReturn, TypeVar

import click

from cnnc.cli.console.errors import report
from cnnc.cli.options.training import positive
from cnnc.diagnostics import CnnError

F = TypeVar("F", bound=Callable[..., Any])
DEVICE_PARAMETERS: Final = ("mesh", "distributed", "coordinator", "processes", "process", "start_seconds")


@dataclass(frozen=True)
class Where:
    """The options on devices and processes as they were given."""

    mesh: str | None
    distributed: bool
    coordinator: str | None
    processes: int | None
    process: int | None
    start_seconds: float


def device_options(command: F) -> F:
    """Give a command the options of devices and processes, which it receives as `where`."""
    options = [
        click.option("--mesh", metavar="M", help="How all devices share the work: data=4,model=2.  [default: by data]"),
        click.option("--distributed", is_flag=True, help="One process of several that SLURM, MPI or a TPU started."),
        click.option("--coordinator", metavar="HOST:PORT", help="Where process 0 of several runs, and a free port."),
        click.option("--processes", type=click.IntRange(min=1), metavar="N", help="How many train together."),
        click.option("--process", type=click.IntRange(min=0), metavar="I", help="Which of them this is, from 0 on."),
        click.option(
            "--start-seconds",
            type=positive,
            default=300.0,
            show_default=True,
            metavar="X",
            help="How long processes wait for each other to start.",
        ),
    ]

    @wraps(command)
    def collected(*args: Any, **given: Any) -> Any:
        where = Where(**{name: given.pop(name) for name in DEVICE_PARAMETERS})
        return command(*args, where=where, **given)

    found: Any = collected  # click calls it by keywords, of which it takes more than `command`
    for option in reversed(options):
        found = option(found)
    return found  # type: ignore[no-any-return]


def require_whole(where: Where) -> None:
    """Raises UsageError for options of processes that lack others or contradict them."""
    given = {
        "--coordinator": where.coordinator is not None,
        "--processes": where.processes is not None,
        "--process": where.process is not None,
    }
    if where.distributed and any(given.values()):
        raise click.UsageError("`--distributed` asks the cluster for what `--coordinator` and the like say: give one")
    missing = [name for name, is_given in given.items() if not is_given]
    if missing and len(missing) < len(given):
        raise click.UsageError(
            f"{' and '.join(missing)} missing: write --coordinator HOST:PORT --processes N --process I"
        )


@contextmanager
def together(where: Where, context: click.Context) -> Iterator[Any]:
    """The processes that train together, all of them there; None where this is the only one."""
    from cnnc.backends.jax.distributed.process_address import Place, detected
    from cnnc.backends.jax.distributed.processes import group_of
    from cnnc.runs.interrupt import TrainingInterrupt

    if where.distributed:
        place = detected()
    elif where.coordinator is not None:
        assert where.processes is not None, where
        assert where.process is not None, where
        place = Place(where.coordinator, where.processes, where.process)
    else:
        yield None
        return

    def end(error: CnnError) -> NoReturn:
        try:
            report(error, context)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        finally:  # also where nothing can be printed any more
            # A thread may wait for a process that is gone, and jax with it.
            os._exit(1)

    stopped: TrainingInterrupt | None = None
    with group_of(place, end, where.start_seconds) as group:
        try:
            yield group
        except TrainingInterrupt as stop:
            # All processes stop after the same step, so this is an end like any other.
            stopped = stop
    if stopped is not None and place.index:
        # The first process says it.
        context.exit(130 if stopped.by == signal.SIGINT else 0)
    if stopped is not None:
        raise stopped
