"""Ctrl-C, SIGTERM and SIGHUP that wait for a good moment: no step is cut in two, so there is always a state to save."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType


class StopRequest(Exception):
    """The user wants to stop, and nothing is half done."""


class TrainingInterrupt(KeyboardInterrupt):
    """A training was stopped from outside; `folder` holds all that it needs to go on, done up to `position`.

    `by` is the signal: SIGINT for a Ctrl-C, SIGTERM as schedulers send it, SIGHUP as of a terminal that is closed.
    """

    def __init__(self, folder: Path, position: str, by: signal.Signals = signal.SIGINT) -> None:
        super().__init__(f"stopped; saved up to {position}")
        self.folder = folder
        self.by = by


@dataclass
class Stop:
    """Whether a training is to stop, and which signal said so."""

    by: signal.Signals | None = None

    def __call__(self) -> bool:
        return self.by is not None


_HANGUP = getattr(signal, "SIGHUP", None)
_SIGNALS = tuple(each for each in (signal.SIGINT, signal.SIGTERM, _HANGUP) if each is not None)


def _leave_terminal() -> None:
    """Have what is printed on a terminal that is gone lead nowhere, so that it does not end the training."""
    import termios

    for stream in (1, 2):
        try:
            termios.tcgetattr(stream)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


@contextmanager
def deferred_interrupt() -> Iterator[Stop]:
    """Within it the first signal only makes the yielded predicate true; a second Ctrl-C interrupts as ever.

    Further SIGTERMs change nothing: schedulers repeat them before they kill. A SIGHUP that is ignored, as under nohup,
    stays so. Elsewhere than in the main thread Python delivers no signals, and the predicate stays false.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    if previous.get(_HANGUP) == signal.SIG_IGN:
        del previous[_HANGUP]

    def note(number: int, frame: FrameType | None) -> None:
        stop.by = stop.by or signal.Signals(number)
        if number == _HANGUP:
            _leave_terminal()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, previous[signal.SIGINT])

    for number in previous:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
