"""Ctrl-C and SIGTERM that wait for a good moment: a step is never cut in two, so there is always a state to save."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType


class StopRequested(Exception):
    """The user wants to stop, and nothing is half done."""


class Interrupted(KeyboardInterrupt):
    """A training was stopped from outside; `folder` holds all that it needs to go on, done up to `where`.

    `by` is the signal: SIGINT for a Ctrl-C, SIGTERM as schedulers send it.
    """

    def __init__(self, folder: Path, where: str, by: signal.Signals = signal.SIGINT) -> None:
        super().__init__(f"stopped; saved up to {where}")
        self.folder = folder
        self.by = by


@dataclass
class Stop:
    """Whether a training is to stop, and which signal said so."""

    by: signal.Signals | None = None

    def __call__(self) -> bool:
        return self.by is not None


@contextmanager
def deferred_interrupt() -> Iterator[Stop]:
    """Within it the first Ctrl-C or SIGTERM only makes the yielded predicate true; a second Ctrl-C interrupts as ever.

    Further SIGTERMs change nothing: schedulers repeat them before they kill. Elsewhere than in the main thread Python
    delivers no signals, and the predicate stays false.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        stop.by = stop.by or signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, previous[signal.SIGINT])

    for number in previous:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
