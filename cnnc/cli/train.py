"""`cnnc train`: a spec and a data set to a run's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from cnnc.cli.extras import extra
from cnnc.cli.options import finite, spec_options, split_patterns
from cnnc.diagnostics import CnnError
from cnnc.overrides import Overrides

F = TypeVar("F", bound=Callable[..., Any])


def positive(text: str) -> float:
    """A finite number above 0."""
    number = finite(text)
    if number <= 0:
        raise click.BadParameter(f"`{text}` is not above 0")
    return number


def rate(text: str) -> tuple[str | None, float]:
    """`0.01`, or `head=0.01` for the layers that a pattern names."""
    pattern, equals, number = text.rpartition("=")
    if equals and not pattern.strip():
        raise click.BadParameter(f"`{text}` lacks a pattern: write head=0.01, or just a number")
    return pattern.strip() or None, positive(number)


def thaw(text: str) -> tuple[int, str]:
    """`5:features`."""
    epoch, _, pattern = text.partition(":")
    if not (epoch.isascii() and epoch.isdigit() and len(epoch) < 10 and pattern.strip()):
        raise click.BadParameter(f"`{text}` is not EPOCH:PATTERN: write 5:features")
    return int(epoch), pattern.strip()


def data_options(command: F) -> F:
    """Give a command `--data`, `--data-dir`, `--split` and `--skip-corrupt`."""
    options = [
        click.option(
            "--data",
            metavar="D",
            help="digits, mnist, fashion_mnist, cifar10, a folder {train,val}/<class>/*.jpg, or one of record files.",
        ),
        click.option(
            "--data-dir",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Where the files of a data set by name lie; without it they are downloaded once.",
        ),
        click.option(
            "--split",
            "held_out",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            metavar="X",
            help="Share of every class to hold out of a folder without val and test.  [default: 0.2]",
        ),
        click.option("--skip-corrupt", is_flag=True, help="Leave out and count pictures that cannot be decoded."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1, max=1024),
    metavar="N",
    help="Threads that read pictures; what comes out is the same.  [default: one a core]",
)


@click.command("train")
@spec_options
@data_options
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Passes over the data.")
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Pictures a step.")
@click.option(
    "--lr",
    "lrs",
    type=rate,
    multiple=True,
    metavar="X|PATTERN=X",
    help="The learning rate's peak; head=0.01 of a part.",
)
@click.option("--seed", type=click.IntRange(min=0, max=2**31 - 1), metavar="N", help="Of all that is random.")
@click.option("--precision", type=click.Choice(["f32", "bf16"]), help="What to compute in.")
@workers_option
@click.option(
    "--weights",
    type=click.Path(),
    metavar="FILE|RUN",
    help="What to start from; layers that it does not fit start anew.",
)
@click.option(
    "--freeze", multiple=True, metavar="PATTERN", help="Layers, labels or globs that do not learn; again for more."
)
@click.option(
    "--unfreeze", type=thaw, multiple=True, metavar="EPOCH:PATTERN", help="What of it learns from an epoch on."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The run's folder, new or empty.  [default: runs/<model>/exp<n>]",
)
def train(
    spec: str,
    overrides: Overrides,
    data: str | None,
    data_dir: Path | None,
    held_out: float | None,
    skip_corrupt: bool,
    epochs: int | None,
    batch: int | None,
    lrs: tuple[tuple[str | None, float], ...],
    seed: int | None,
    precision: Literal["f32", "bf16"] | None,
    workers: int | None,
    weights: str | None,
    freeze: tuple[str, ...],
    unfreeze: tuple[tuple[int, str], ...],
    out: Path | None,
) -> None:
    """Train the network of SPEC and leave weights, curves and numbers in a folder.

    The spec's train section says how; the options override it.
    """
    from cnnc.loading import find, load_spec

    peaks = [peak for pattern, peak in lrs if pattern is None]
    if len(peaks) > 1:
        raise click.UsageError("`--lr` gives the learning rate's peak twice: write PATTERN=X for that of some layers")
    net = load_spec(find(spec), overrides)
    name = data or net.recipe.data
    if name is None:
        raise CnnError.of(
            "data",
            "it is not said what to train on",
            help=f"cnnc train {spec} --data digits, or another set or folder; or a line `data` in the train section",
        )
    with extra("train", "training"):
        from cnnc.cli.watch import describe_best, watching
        from cnnc.data.folder import Options
        from cnnc.data.load import load_data
        from cnnc.training.events import Said
        from cnnc.training.interrupt import Interrupted
        from cnnc.training.run import Origin
        from cnnc.training.run import train as start

    seed_used = net.recipe.seed if seed is None else seed
    options = Options(0.2 if held_out is None else held_out, seed_used, skip_corrupt)
    with watching() as report:
        data_set = load_data(name, folder=data_dir, options=options, report=lambda line: report(Said(line)))
        try:
            trained = start(
                net,
                data_set,
                epochs=epochs,
                batch=batch,
                lr=peaks[0] if peaks else None,
                seed=seed,
                precision=precision,
                weights=weights,
                freeze=split_patterns(freeze) or None,
                unfreeze=unfreeze or None,
                rates={pattern: peak for pattern, peak in lrs if pattern is not None} or None,
                out=out,
                skip_corrupt=skip_corrupt,
                workers=workers,
                origin=Origin(name, data_dir, options.held_out),
                report=report,
            )
        except Interrupted as stop:
            raise Stopped(str(stop)) from None
    click.echo(describe_best(trained.best))
    show_next(trained.folder)


class Stopped(click.ClickException):
    """A training that its user ended: the exit status is that of a process that SIGINT ended."""

    exit_code = 130

    def show(self, file: Any = None) -> None:
        click.echo(f"\n{self.message}", err=True)


def show_next(folder: Path) -> None:
    """What to look at and to type after a training."""
    click.echo(f"\nin {folder}: results.csv, results.png, confusion_matrix.png, batch0.png, weights/")
    click.echo("next:")
    click.echo(f"  cnnc eval {folder}")
    click.echo(f"  cnnc predict {folder} PICTURE...")
