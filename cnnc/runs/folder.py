"""A run's folder: `runs/<model>/exp1` and so on. Every file in it is written atomically."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from cnnc.diagnostics import CnnError
from cnnc.files import require_folder, write_atomically
from cnnc.runs.events import Row

RUNS = Path("runs")


@dataclass(frozen=True)
class RunFolder:
    """Where the files of a run lie."""

    path: Path

    @property
    def spec(self) -> Path:
        return self.path / "spec.cnn"

    @property
    def graph(self) -> Path:
        return self.path / "graph.txt"

    @property
    def args(self) -> Path:
        return self.path / "args.yaml"

    @property
    def results(self) -> Path:
        return self.path / "results.csv"

    @property
    def curves(self) -> Path:
        return self.path / "results.png"

    @property
    def confusion(self) -> Path:
        return self.path / "confusion_matrix.png"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def first_batch(self) -> Path:
        return self.path / "batch0.png"

    @property
    def calibration(self) -> Path:
        """Some of the arrays that were trained on, for int8 ranges."""
        return self.path / "calibration.npz"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def bad_batch(self) -> Path:
        """The examples of the step in which a training diverged."""
        return self.path / "bad_batch.txt"

    @property
    def best(self) -> Path:
        return self.path / "weights" / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "weights" / "last.safetensors"


def claim(model: str, out: Path | None = None) -> RunFolder:
    """A folder that no other run has: `out`, or the next free `runs/<model>/exp<n>`.

    Raises:
        CnnError: `out` holds something already, or no folder can be made.
    """
    require_text(out or RUNS)
    path = claim_folder(model, "exp", out)
    with _making(path):
        (path / "weights").mkdir()
    return RunFolder(path)


def require_text(folder: Path) -> None:
    """Raises CnnError where a run's folder is called by bytes that are no text: checkpoints cannot be written there."""
    place = folder.absolute()
    try:
        str(place).encode()
    except UnicodeEncodeError:
        raise CnnError.of(
            "run", f"a run cannot be in `{place}`, whose name is no UTF-8 text", help="give a folder of another name"
        ) from None


def claim_folder(model: str, kind: str, out: Path | None = None) -> Path:
    """A folder that is new or empty: `out`, or the next free `runs/<model>/<kind><n>`.

    Raises:
        CnnError: `out` holds something already, or no folder can be made.
    """
    with _making(out or RUNS / model):
        return _claim_next(RUNS / model, kind) if out is None else _claim_given(out)


def write_rows(folder: RunFolder, rows: Sequence[Row]) -> None:
    """`results.csv` as a whole: a line an epoch, empty where a network has no such figure."""
    names = [f.name for f in fields(Row) if f.name != "outputs"]
    of_outputs = [f"{label}.{figure}" for label, _, _ in rows[0].outputs for figure in ("val_loss", "val_top1")]
    lines: list[list[str]] = [[*names, *of_outputs]]
    for row in rows:
        figures = [getattr(row, name) for name in names]
        lines.append([_cell(figure) for figure in (*figures, *(x for _, *own in row.outputs for x in own))])
    write_table(folder.results, lines)


def write_table(path: Path, lines: Iterable[Sequence[object]]) -> None:
    """Write a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    write_atomically(path, text.getvalue())


@contextmanager
def _making(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CnnError.of("run", f"cannot make a run folder in `{place}`: {(error.strerror or '').lower()}") from error


def _claim_next(parent: Path, kind: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    taken = [int(m[1]) for p in parent.iterdir() if (m := re.fullmatch(rf"{kind}(\d+)", p.name))]
    number = max(taken, default=0) + 1
    while True:
        # Two runs may start at once; making the folder is what decides between them.
        try:
            (parent / f"{kind}{number}").mkdir()
            return parent / f"{kind}{number}"
        except FileExistsError:
            number += 1


def _claim_given(out: Path) -> Path:
    require_folder(out)
    if out.is_dir() and any(out.iterdir()):
        raise CnnError.of(
            "run", f"`{out}` is not empty, and a run overwrites nothing", help="give another folder, or remove that one"
        )
    out.mkdir(parents=True, exist_ok=True)
    return out


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
