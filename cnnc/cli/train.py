"""`cnnc train`: a spec and a data set to a run's folder, or a run on from where it ended."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from cnnc.cli.console.errors import report as print_error
from cnnc.cli.console.extras import extra
from cnnc.cli.console.terminal import echo
from cnnc.cli.options.common import OUTPUT_FOLDER, override_options, split_patterns
from cnnc.cli.options.devices import DEVICE_PARAMETERS, Where, device_options, require_whole, together
from cnnc.cli.options.training import (
    DataOptions,
    data_named,
    data_options,
    epochs,
    positive,
    rate,
    recipe_options,
    setting_option,
    workers_option,
)
from cnnc.overrides import Overrides
from cnnc.recipe import SETTINGS

if TYPE_CHECKING:
    from cnnc.backends.protocols import ProcessGroup
    from cnnc.net import Net
    from cnnc.training.loop import TrainingResult
    from cnnc.training.seed_sweep import SeedSweep

_WITH_RESUME: Final = (
    *("resume", "lrs", "data", "data_dir", "workers", "save_minutes", *DEVICE_PARAMETERS),
    *(setting.name for setting in SETTINGS.values() if setting.resumable),
)
"""The parameters that go with `--resume`; what else a training follows is noted in its run."""


@click.command("train")
@click.argument("spec", metavar="SPEC", required=False)
@override_options
@data_options
@setting_option("epochs", type=epochs, help="Passes over the data; with --resume +N for so many more.")
@click.option(
    "--lr",
    "lrs",
    type=rate,
    multiple=True,
    metavar="X|PATTERN=X",
    help="The learning rate's peak; head=0.01 of a part.",
)
@recipe_options
@workers_option
@setting_option("weights", help="What to start from; layers that it does not fit start anew.")
@setting_option("freeze", help="Layers, labels or globs that do not learn; again for more.")
@setting_option("unfreeze", help="What of it learns from an epoch on.")
@click.option(
    "--out",
    type=OUTPUT_FOLDER,
    metavar="DIR",
    help="The run's folder, new or empty.  [default: runs/<model>/exp<n>]",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Go on with a run that was stopped, killed or is to have more epochs, instead of SPEC.",
)
@click.option(
    "--save-minutes",
    type=positive,
    default=10.0,
    show_default=True,
    metavar="X",
    help="Time between checkpoints within an epoch.",
)
@click.option(
    "--seeds", metavar="N|LIST", help="A run for each of N seeds from --seed on, or of 0,5,7, with mean and spread."
)
@click.option("--profile", is_flag=True, help="Measure first what every layer takes of a step, and leave a trace.")
@device_options
@click.pass_context
def train(
    context: click.Context,
    spec: str | None,
    overrides: Overrides,
    data: DataOptions,
    epochs: int | str | None,
    lrs: tuple[tuple[str | None, float], ...],
    settings: Mapping[str, Any],
    workers: int | None,
    weights: str | None,
    freeze: tuple[str, ...],
    unfreeze: tuple[tuple[int, str], ...],
    out: Path | None,
    resume: Path | None,
    save_minutes: float,
    profile: bool,
    seeds: str | None,
    where: Where,
) -> None:
    """Train the network of SPEC and leave weights, curves and numbers in a folder.

    The spec's train section says how; the options override it.
    """
    peak = _peak(lrs)
    rates = {pattern: rate for pattern, rate in lrs if pattern is not None}
    require_whole(where)
    options: dict[str, Any] = {**settings, "lr": peak, "epochs": epochs, "workers": workers, "mesh": where.mesh}
    options["save_minutes"] = save_minutes
    if resume is not None:
        _require_alone(context, [pattern for pattern, _ in lrs if pattern is not None])
        _resume(resume, data, options, where, context)
        return
    if spec is None:
        raise click.UsageError("it is not said what to train: give a SPEC, or a run to go on with: --resume RUN")
    if isinstance(epochs, str):
        raise click.UsageError(f"`--epochs {epochs}` is for a run that goes on: add --resume RUN")
    options |= {"weights": weights, "freeze": split_patterns(freeze) or None, "unfreeze": unfreeze or None}
    options |= {"rates": rates or None, "profile": profile}
    _start(spec, overrides, data, options, out, seeds, where, context)


def _peak(lrs: tuple[tuple[str | None, float], ...]) -> float | None:
    peaks = [peak for pattern, peak in lrs if pattern is None]
    if len(peaks) > 1:
        raise click.UsageError("`--lr` gives the learning rate's peak twice: write PATTERN=X for that of some layers")
    return peaks[0] if peaks else None


def _resume(run: Path, data: DataOptions, options: Mapping[str, Any], where: Where, context: click.Context) -> None:
    with extra("train", "training"):
        from cnnc.cli.console.watch import watching
        from cnnc.training.resume import resume
    with told_how_to_go_on(), together(where, context) as group, watching(group=group) as report:
        result = resume(run, data.name, data_dir=data.folder, **options, group=group, report=report)
    show_end(result, group)


def _start(
    spec: str,
    overrides: Overrides,
    data: DataOptions,
    options: Mapping[str, Any],
    out: Path | None,
    seeds: str | None,
    where: Where,
    context: click.Context,
) -> None:
    """Train the network of a spec, once or for each seed; `options` are those of `cnnc.training.train.train`."""
    from cnnc.loading import find, load_spec

    net = load_spec(find(spec), overrides)
    name = data_named(data.name, net.recipe.data, f"cnnc train {spec}")
    with extra("train", "training"):
        from cnnc.cli.console.watch import watching
        from cnnc.training.seed_sweep import sweep_seeds
        from cnnc.training.train import train  # noqa: F401  # missing extras are reported before the work

    first = options.get("seed", net.recipe.seed)
    several = None if seeds is None else _seeds(seeds, first, is_listed_alone="seed" not in options)
    if several is not None and (where.distributed or where.coordinator is not None):
        raise click.UsageError("`--seeds` trains in one process: start a training for every seed")
    with told_how_to_go_on(), together(where, context) as group, watching(group=group) as report:

        def run(seed: int, folder: Path | None) -> TrainingResult:
            profile = options["profile"] and (several is None or seed == several[0])
            own = {**options, "seed": seed, "profile": profile, "out": folder, "group": group, "report": report}
            return _train_once(net, name, data, own)

        if several is None:
            result = run(first, out)
        else:
            sweep = sweep_seeds(net.name, several, run, out, report)
    if several is None:
        show_end(result, group)
    else:
        show_seeds(sweep, context)


def _train_once(net: Net, name: str, data: DataOptions, options: Mapping[str, Any]) -> TrainingResult:
    from cnnc.data.sources.parts import HELD_OUT
    from cnnc.runs.events import Message
    from cnnc.training.train import Origin, train

    data_set = data.load(name, options["seed"], lambda line: options["report"](Message(line)))
    origin = Origin(name, data.folder, data.held_out or HELD_OUT)
    return train(net, data_set, skip_corrupt=data.skip_corrupt, origin=origin, **options)


def _seeds(text: str, first: int, *, is_listed_alone: bool) -> tuple[int, ...]:
    """Raises UsageError for what is no number and no list of seeds, or a list beside `--seed`."""
    from cnnc.training.seed_sweep import parse_seeds

    if "," in text and not is_listed_alone:
        raise click.UsageError("`--seeds` lists the seeds, and `--seed` gives another")
    try:
        return parse_seeds(text, first)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--seeds") from error


def show_seeds(sweep: SeedSweep, context: click.Context) -> None:
    """Report the results of all seeds; exit status 1 if a training failed."""
    from cnnc.training.seed_sweep import TABLE, render_sweep

    echo("", *render_sweep(sweep).split("\n"), f"in {sweep.folder}: {TABLE}, and a run for each seed")
    for run in sweep.failures:
        assert run.error is not None
        echo("", f"seed {run.seed} failed:", err=True)
        print_error(run.error, context)
    if sweep.failures:
        context.exit(1)


def _require_alone(context: click.Context, patterns: list[str]) -> None:
    """Raises UsageError for what a run that goes on cannot be told."""
    given = [
        parameter
        for parameter in context.command.params
        if parameter.name is not None
        and parameter.name not in _WITH_RESUME
        and context.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT
    ]
    names = [p.opts[0] if isinstance(p, click.Option) else p.human_readable_name for p in given]
    names += [f"--lr {pattern}=X" for pattern in patterns]
    if names:
        raise click.UsageError(
            f"`--resume` goes on with what the run says, and takes no {' and no '.join(f'`{name}`' for name in names)}"
        )


class Stopped(click.ClickException):
    """A training that was ended from outside: status 130 after a Ctrl-C, 0 after a SIGTERM or SIGHUP."""

    def __init__(self, message: str, by: signal.Signals, folder: Path) -> None:
        super().__init__(message)
        self.by, self.folder = by, folder

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click only reads it
        return 130 if self.by == signal.SIGINT else 0

    def show(self, file: Any = None) -> None:
        echo("", self.message, f"go on with: cnnc train --resume {self.folder}", err=self.exit_code != 0)


@contextmanager
def told_how_to_go_on() -> Iterator[None]:
    """Within it a training that is stopped from outside says so, and how it goes on."""
    from cnnc.runs.interrupt import TrainingInterrupt

    try:
        yield
    except TrainingInterrupt as stop:
        raise Stopped(str(stop), stop.by, stop.folder) from None


def show_end(result: TrainingResult, group: ProcessGroup | None) -> None:
    """Report the result of a training, where to look and what to type next; the first of several processes does."""
    from cnnc.cli.console.watch import describe_best

    if group is not None and group.index:
        return
    echo(describe_best(result.best))
    show_next(result.folder)


def show_next(folder: Path) -> None:
    """Say where to look and what to type after a training."""
    echo("", f"in {folder}: report.html, results.csv, results.png, confusion_matrix.png, batch0.png, weights/")
    echo("next:")
    echo(f"  cnnc eval {folder}")
    echo(f"  cnnc predict {folder} PICTURE...")
