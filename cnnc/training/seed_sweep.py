"""A training by several seeds: a run each, and the mean and spread of what they came to.

One run says little of a recipe: the same network may end a point apart from itself by another seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import fmean, stdev
from typing import Final

from cnnc.diagnostics import CnnError
from cnnc.rendering.text_table import box
from cnnc.runs.events import Message, Report, Row
from cnnc.runs.folder import claim_folder, write_table
from cnnc.training.loop import TrainingResult

TABLE: Final = "seeds.csv"
_MOST: Final = 1000
_FIGURES: Final = (("best", "val_top1"), ("best", "val_loss"), ("last", "val_top1"), ("last", "val_loss"))
"""The epoch, and a figure of its row."""


@dataclass(frozen=True)
class SeedRun:
    """The run of a seed: its best row and its last, or why there are none."""

    seed: int
    folder: Path
    best: Row | None = None
    last: Row | None = None
    error: CnnError | None = None


@dataclass(frozen=True)
class SeedSweep:
    """The runs of all seeds, in the order in which they were asked for."""

    folder: Path
    runs: tuple[SeedRun, ...]

    @property
    def failures(self) -> tuple[SeedRun, ...]:
        return tuple(run for run in self.runs if run.error is not None)


def sweep_seeds(
    model: str, seeds: Sequence[int], train: Callable[[int, Path], TrainingResult], out: Path | None, report: Report
) -> SeedSweep:
    """Train once for every seed, one after the other, into folders of their own below one.

    A training that fails is said and the others go on; the table is written after each.

    Args:
        model: the network's name.
        seeds: all different.
        train: trains by a seed into a folder.
        out: the folder for all of them, new or empty; by default the next free `runs/<model>/exp<n>`.
        report: is told which seed is next and why one failed.

    Raises:
        CnnError: the folder cannot be made.
    """
    assert len(set(seeds)) == len(seeds), seeds
    folder = claim_folder(model, "exp", out)
    runs: list[SeedRun] = []
    for number, seed in enumerate(seeds, 1):
        if number > 1:
            report(Message(""))
        report(Message(f"seed {seed} ({number} of {len(seeds)})"))
        own = folder / f"seed{seed}"
        try:
            result = train(seed, own)
        except CnnError as error:
            report(Message(f"seed {seed} failed: {error.diagnostics[0].message}"))
            runs.append(SeedRun(seed, own, error=error))
        else:
            runs.append(SeedRun(seed, own, result.best, result.rows[-1]))
        write_seeds(folder / TABLE, runs)
    return SeedSweep(folder, tuple(runs))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (of n - 1); nan where there are too few."""
    return (fmean(values) if values else nan, stdev(values) if len(values) > 1 else nan)


def write_seeds(path: Path, runs: Sequence[SeedRun]) -> None:
    """`seeds.csv`: a line a seed, then the mean and the standard deviation."""
    lines = [["seed", "best_epoch", *(f"{which}_{figure}" for which, figure in _FIGURES), "error"]]
    for run in runs:
        epoch = "" if run.best is None else str(run.best.epoch)
        figures = [_number(_figure(run, which, figure)) for which, figure in _FIGURES]
        lines.append([str(run.seed), epoch, *figures, run.error.diagnostics[0].message if run.error else ""])
    columns = [spread(_values(runs, which, figure)) for which, figure in _FIGURES]
    for i, name in enumerate(("mean", "standard deviation")):
        lines.append([name, "", *(_number(column[i]) for column in columns), ""])
    write_table(path, lines)


def render_sweep(sweep: SeedSweep) -> str:
    """The table: a line a seed, mean and standard deviation below."""
    has_top1 = any(run.best is not None and run.best.val_top1 is not None for run in sweep.runs)
    figures = [(which, figure) for which, figure in _FIGURES if has_top1 or figure == "val_loss"]
    head = [
        "seed",
        *(f"{which} {figure.replace('val_', '').replace('top1', 'top-1')}" for which, figure in figures),
        "epoch",
    ]
    lines = []
    for run in sweep.runs:
        cells = [_cell(figure, _figure(run, which, figure)) for which, figure in figures]
        lines.append([f"{run.seed}", *cells, "failed" if run.best is None else f"{run.best.epoch}"])
    columns = [(figure, spread(_values(sweep.runs, which, figure))) for which, figure in figures]
    spreads = [
        [name, *(_cell(figure, column[i]) for figure, column in columns), ""]
        for i, name in enumerate(("mean", "deviation"))
    ]
    return box(head, [lines, spreads], right=range(1, len(head)))


def parse_seeds(text: str, first: int) -> tuple[int, ...]:
    """`3` for so many from `first` on, or `0,5,7`.

    Raises:
        ValueError: it is neither, or names one twice. The message says so.
    """
    words = [word.strip() for word in text.removesuffix(",").split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) < 2**31 for word in words):
        raise ValueError(f"`{text}` is neither a number of seeds nor a list of them: write 3, or 0,5,7")
    numbers = [int(word) for word in words]
    if "," not in text:
        if not 1 <= numbers[0] <= _MOST:
            raise ValueError(f"`{text}` is not from 1 to {_MOST:,} seeds; a list of one is written {text},")
        return tuple(range(first, first + numbers[0]))
    if repeated := [number for i, number in enumerate(numbers) if number in numbers[:i]]:
        raise ValueError(f"`{text}` has the seed {repeated[0]} twice")
    return tuple(numbers)


def _figure(run: SeedRun, which: str, figure: str) -> float | None:
    row = run.best if which == "best" else run.last
    value: float | None = getattr(row, figure) if row is not None else None
    return value


def _values(runs: Sequence[SeedRun], which: str, figure: str) -> list[float]:
    return [value for run in runs if (value := _figure(run, which, figure)) is not None]


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.6g}"


def _cell(figure: str, value: float | None) -> str:
    if value is None or value != value:
        return "-"
    return f"{100 * value:.2f} %" if figure == "val_top1" else f"{value:.4f}"
