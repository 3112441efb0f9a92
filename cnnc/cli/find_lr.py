"""`cnnc find-lr`: which learning rate suits a spec, by a training of some steps at rates from low to high."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnc.cli.console.extras import extra
from cnnc.cli.console.terminal import echo, is_terminal
from cnnc.cli.options.common import OUTPUT_FOLDER, in_flags, spec_options, split_patterns
from cnnc.cli.options.training import DataOptions, data_named, data_options, setting_option, workers_option
from cnnc.diagnostics import CnnError
from cnnc.overrides import Overrides

if TYPE_CHECKING:
    from cnnc.data.sources.data_set import DataSet
    from cnnc.net import Net
    from cnnc.recipe.settings import Precision
    from cnnc.runs.events import Event
    from cnnc.training.rate_finder import RangeTest


@click.command("find-lr")
@spec_options
@data_options
@setting_option("batch")
@click.option("--steps", type=click.IntRange(min=1, max=100_000), metavar="N", help="Rates to try.  [default: 100]")
@setting_option("seed")
@setting_option("precision")
@workers_option
@setting_option("weights")
@setting_option("freeze")
@click.option(
    "--out",
    type=OUTPUT_FOLDER,
    metavar="DIR",
    help="Where lr.png and lr.csv go, new or empty.  [default: runs/<model>/lr<n>]",
)
def find_lr(
    spec: str,
    overrides: Overrides,
    data: DataOptions,
    batch: int | None,
    steps: int | None,
    seed: int | None,
    precision: Precision | None,
    workers: int | None,
    weights: str | None,
    freeze: tuple[str, ...],
    out: Path | None,
) -> None:
    """Find a learning rate for SPEC by trying rates from low to high.

    The rate rises from 1e-7 to 10 over some steps of a training as the spec's train section describes it (Smith 2017).
    It is good where the loss falls, best where it falls the fastest, and too high where the loss rises.
    """
    from cnnc.loading import find, load_spec

    net = load_spec(find(spec), overrides)
    name = data_named(data.name, net.recipe.data, f"cnnc find-lr {spec}")
    with extra("train", "training"):
        from cnnc.recipe.changes import apply_changes
        from cnnc.runs.folder import claim_folder
        from cnnc.runs.processes import make_ready
        from cnnc.training.plots import draw_rates  # noqa: F401  # missing extras are reported before the work
        from cnnc.training.session import open_session  # noqa: F401

    changes: dict[str, Any] = {"batch": batch, "seed": seed, "precision": precision, "weights": weights}
    net = replace(net, recipe=apply_changes(net.recipe, **changes, freeze=split_patterns(freeze) or None))
    make_ready(_print_message)
    data_set = data.load(name, net.recipe.seed, echo)
    # One that is named and taken is found out before the test, and one that is not named is not left empty.
    folder = None if out is None else claim_folder(net.name, "lr", out)
    test, size = _test_rates(net, data_set, steps, skip_corrupt=data.skip_corrupt, workers=workers)
    steepest = _report(test, size, net.name, folder or claim_folder(net.name, "lr"))
    flags = {"data": name, "data-dir": data.folder, "split": data.held_out, **changes}
    flags["freeze"] = ",".join(freeze) or None
    _show_next(spec, overrides, flags, data.skip_corrupt, steepest)


def _print_message(event: Event) -> None:
    from cnnc.runs.events import Message

    if isinstance(event, Message):
        echo(event.text)


def _test_rates(
    net: Net, data_set: DataSet, steps: int | None, *, skip_corrupt: bool, workers: int | None
) -> tuple[RangeTest, int]:
    """The test of a network's rates, and its examples a step."""
    from cnnc.runs.processes import local_cluster
    from cnnc.training.initial_weights import initial_weights
    from cnnc.training.layer_groups import group_layers
    from cnnc.training.rate_finder import STEPS, find_rate
    from cnnc.training.session import open_session

    first, notes = initial_weights(net, net.recipe.weights)
    for line in notes:
        echo(line)
    groups, cluster = group_layers(net), local_cluster()
    session = open_session(
        net, data_set, groups, cluster, skip_corrupt=skip_corrupt, workers=workers, report=_print_message
    )
    with click.progressbar(length=1, label="trying rates", hidden=not is_terminal()) as bar:

        def move(step: int, count: int) -> None:
            bar.length = count
            bar.update(1)

        return find_rate(session, first, steps=steps or STEPS, progress=move), session.batch


def _report(test: RangeTest, size: int, name: str, folder: Path) -> float:
    """Write and print a test's rates. The steepest; raises CnnError where there is none."""
    from cnnc.training.plots import draw_rates
    from cnnc.training.rate_finder import write_trials

    write_trials(folder / "lr.csv", test.trials)
    rates = _rates(test)
    draw_rates(folder / "lr.png", name, test.trials, [(label, rate) for label, rate, _ in rates])
    echo(f"{len(test.trials)} steps of {size}, at rates from 1e-07 to {test.trials[-1].rate:.2g}")
    for label, rate, what in rates:
        echo(f"  {label:<9} {rate:<8.2g} {what}")
    echo("", f"in {folder}: lr.png, lr.csv")
    if test.steepest is None:
        raise CnnError.of(
            "train",
            "the loss did not fall at any rate, and none can be recommended",
            help="look at the picture; more steps show more, --steps 300, and so do other first weights, --seed 1",
        )
    return test.steepest


def _show_next(spec: str, overrides: Overrides, flags: Mapping[str, object], skip_corrupt: bool, rate: float) -> None:
    words = [spec, *in_flags(overrides), *(f"--{flag}={value}" for flag, value in flags.items() if value is not None)]
    words += ["--skip-corrupt"] if skip_corrupt else []
    echo("next:", f"  cnnc train {shlex.join(words)} --lr {rate:.2g}")


def _rates(test: RangeTest) -> list[tuple[str, float, str]]:
    """The rates that a test comes to: what each is called, the rate, and what it is."""
    rates = [
        ("steepest", test.steepest, "where the loss falls the fastest"),
        ("lowest", test.lowest, "a tenth of the rate with the lowest loss"),
        ("limit", test.limit, "a tenth of the rate at which the loss is back where it began"),
    ]
    return [(label, rate, what) for label, rate, what in rates if rate is not None]
