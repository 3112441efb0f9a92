"""A run's figures as TensorBoard's events, beside `results.csv`: every epoch's, and some steps' between.

All are counted in steps from the start of the training, so a training that goes on continues its curves: its first
event tells TensorBoard to forget what an earlier process wrote of the same steps and later ones.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Final

from cnnc.diagnostics import CnnError
from cnnc.runs.events import EpochEnd, Event, Progress, Report, TrainingStart
from cnnc.wording import reason_of

FOLDER: Final = "tensorboard"
"""Where the events of a run lie, in its folder."""
EVERY: Final = 20
"""Steps that a point of the steps' curves is the mean of."""
_FLUSHED_SECONDS: Final = 10.0
"""Events are on the disk after so long at most, and at the end of every epoch."""


class Curves:
    """An open file of events. Writing is done by whoever calls: no thread is left behind, and no error unseen.

    (`tensorboardX.SummaryWriter` writes by a thread that dies of a full disk, after which its caller waits for ever.)
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        """Open a file of its own in a folder, which may hold those of earlier processes.

        Args:
            folder: is made if it is not there.
            first_step: what is written next. What the folder has of it and of later ones is void.
        """
        # It takes a second where torch is installed, so it is not done before there is something to write.
        try:
            from tensorboardX.event_file_writer import EventsWriter
        except ModuleNotFoundError as error:
            raise CnnError.of(
                "install",
                f"writing TensorBoard's events needs the package `{error.name}`, which is not installed",
                help='pip install "cnnc[train]"',
            ) from error

        self.folder = folder
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            earlier = len(list(folder.iterdir()))
            # The library names files by the second, so two processes of one second would share one.
            self._file = EventsWriter(os.path.join(folder, "events"), f".{os.getpid()}.{earlier}")
            self._flushed = time.monotonic()
            if earlier:
                self._start(first_step)

    def write(self, step: int, figures: Mapping[str, float | None]) -> None:
        """Add a point to each of the curves; there is none for a figure that is None."""
        from tensorboardX.proto.event_pb2 import Event as Written
        from tensorboardX.summary import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in figures.items() if value is not None]
        with self._writing():
            self._file.write_event(Written(step=step, wall_time=time.time(), summary=Summary(value=values)))
        if time.monotonic() - self._flushed > _FLUSHED_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Put what was written on the disk."""
        with self._writing():
            self._file.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush and close the file."""
        with self._writing():
            self._file.close()

    def _start(self, step: int) -> None:
        """Tell TensorBoard that what it has read of `step` and later steps is void, as `purge_step` does."""
        from tensorboardX.proto.event_pb2 import Event as Written
        from tensorboardX.proto.event_pb2 import SessionLog

        log = SessionLog(status=SessionLog.START)
        self._file.write_event(Written(step=step, wall_time=time.time(), session_log=log))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = reason_of(error)
            raise CnnError.of("run", f"cannot write to `{self.folder}`: {reason}") from error


@contextmanager
def record_curves(clock: Callable[[], float] = time.monotonic) -> Iterator[Report]:
    """A report that writes its events into `tensorboard/` of the run's folder, once that is known."""
    record = _Record(clock)
    try:
        yield record
    finally:
        if record.curves is not None:
            record.curves.close()


class _Record:
    """From events to points."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.curves: Curves | None = None
        self.steps = self.batch = 0
        self.since: list[Progress] = []
        """Steps since the last point, or since the first of the epoch."""
        self.at: float | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case TrainingStart():
                self.steps, self.batch = event.steps, event.batch
                first_step = (event.epoch - 1) * event.steps + event.step + 1
                self.curves = Curves(event.folder / FOLDER, first_step)
            case Progress():
                self._step(event)
            case EpochEnd():
                self._epoch(event)

    def _step(self, event: Progress) -> None:
        now = self.clock()
        if self.at is None:
            # The first step of an epoch waited for compilation, or for the evaluation before it.
            self.at = now
            return
        self.since.append(event)
        if len(self.since) >= EVERY and self.curves is not None:
            figures = {
                "step/loss": _mean([each.own_loss for each in self.since]),
                "step/gradient_norm": _mean([each.norm for each in self.since]),
                "step/pictures_per_second": len(self.since) * self.batch / max(now - self.at, 1e-9),
            }
            self.curves.write((event.epoch - 1) * self.steps + event.step, figures)
            self.since, self.at = [], now

    def _epoch(self, event: EpochEnd) -> None:
        row = event.row
        self.since, self.at = [], None
        if self.curves is None:
            return
        figures = {
            "train/loss": row.train_loss,
            "train/top1": row.train_top1,
            "val/loss": row.val_loss,
            "val/top1": row.val_top1,
            "val/top5": row.val_top5,
            "lr": row.lr,
            "time": row.time,
        }
        for label, loss, top1 in row.outputs:
            figures |= {f"val/{label}/loss": loss, f"val/{label}/top1": top1}
        self.curves.write(row.epoch * self.steps, figures)
        self.curves.flush()


def _mean(values: Sequence[float | None]) -> float | None:
    """Of those that are finite numbers; steps that were left out are not."""
    finite = [value for value in values if value is not None and isfinite(value)]
    return fmean(finite) if finite else None
