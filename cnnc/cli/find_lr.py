"""`cnnc find-lr`: which learning rate suits a spec, by a training of some steps at rates from low to high."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnc.cli.console.extras import extra
from cnnc.cli.console.terminal import echo, is_terminal
from cnnc.cli.options.common import OUTPUT_FOLDER, in_flags, spec_options, split_patterns
from cnnc.cli.options.training import data_named, data_options, setting_option, workers_option
from cnnc.diagnostics import CnnError
from cnnc.overrides import Overrides

if TYPE_CHECKING:
    from cnnc.recipe.settings import Precision
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
    data: str | None,
    data_dir: Path | None,
    held_out: float | None,
    skip_corrupt: bool,
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
    name = data_named(data, net.recipe.data, f"cnnc find-lr {spec}")
    with extra("train", "training"):
        from cnnc.data.sources.by_name import load_data
        from cnnc.data.sources.folder import Options
        from cnnc.data.sources.parts import HELD_OUT
        from cnnc.recipe.changes import apply_changes
        from cnnc.runs.events import Event, Message
        from cnnc.runs.folder import claim_folder
        from cnnc.runs.processes import local_cluster, make_ready
        from cnnc.training.initial_weights import initial_weights
        from cnnc.training.layer_groups import group_layers
        from cnnc.training.plots import draw_rates
        from cnnc.training.rate_finder import STEPS, find_rate, write_trials
        from cnnc.training.session import open_session

    recipe = apply_changes(
        net.recipe, batch=batch, seed=seed, precision=precision, weights=weights, freeze=split_patterns(freeze) or None
    )
    net = replace(net, recipe=recipe)

    def say(event: Event) -> None:
        if isinstance(event, Message):
            echo(event.text)

    make_ready(say)
    options = Options(HELD_OUT if held_out is None else held_out, recipe.seed, skip_corrupt)
    data_set = load_data(name, folder=data_dir, options=options, report=echo)
    # One that is named and taken is found out before the test, and one that is not named is not left empty.
    folder = None if out is None else claim_folder(net.name, "lr", out)
    first, notes = initial_weights(net, recipe.weights)
    for line in notes:
        echo(line)

    groups, cluster = group_layers(net), local_cluster()
    session = open_session(net, data_set, groups, cluster, skip_corrupt=skip_corrupt, workers=workers, report=say)
    with click.progressbar(length=1, label="trying rates", hidden=not is_terminal()) as bar:

        def move(step: int, count: int) -> None:
            bar.length = count
            bar.update(1)

        test = find_rate(session, first, steps=steps or STEPS, progress=move)
    if folder is None:
        folder = claim_folder(net.name, "lr")
    write_trials(folder / "lr.csv", test.trials)
    rates = _rates(test)
    draw_rates(folder / "lr.png", net.name, test.trials, [(label, rate) for label, rate, _ in rates])
    last = test.trials[-1].rate
    echo(f"{len(test.trials)} steps of {session.batch}, at rates from 1e-07 to {last:.2g}")
    for label, rate, what in rates:
        echo(f"  {label:<9} {rate:<8.2g} {what}")
    echo("", f"in {folder}: lr.png, lr.csv")
    if test.steepest is None:
        raise CnnError.of(
            "train",
            "the loss did not fall at any rate, and none can be recommended",
            help="look at the picture; more steps show more, --steps 300, and so do other first weights, --seed 1",
        )
    echo("next:")
    flags = {"data": name, "data-dir": data_dir, "split": held_out, "batch": batch, "seed": seed}
    flags |= {"precision": precision, "weights": weights, "freeze": ",".join(freeze) or None}
    given = [spec, *in_flags(overrides), *(f"--{flag}={value}" for flag, value in flags.items() if value is not None)]
    given += ["--skip-corrupt"] if skip_corrupt else []
    echo(f"  cnnc train {shlex.join(given)} --lr {test.steepest:.2g}")


def _rates(test: RangeTest) -> list[tuple[str, float, str]]:
    """The rates that a test comes to: what each is called, the rate, and what it is."""
    rates = [
        ("steepest", test.steepest, "where the loss falls the fastest"),
        ("lowest", test.lowest, "a tenth of the rate with the lowest loss"),
        ("limit", test.limit, "a tenth of the rate at which the loss is back where it began"),
    ]
    return [(label, rate, what) for label, rate, what in rates if rate is not None]
