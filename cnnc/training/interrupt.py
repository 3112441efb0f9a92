"""Ctrl-C that waits for a good moment: a step is never cut in two, so there are always whole weights to save."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class StopRequested(Exception):
    """The user wants to stop, and nothing is half done."""


class Interrupted(KeyboardInterrupt):
    """A training was stopped by the user; what it had learnt is in `weights`."""

    def __init__(self, weights: Path, epoch: int) -> None:
        super().__init__(f"stopped in epoch {epoch}; the weights are in {weights}")
        self.weights = weights
        self.epoch = epoch


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Within it the first Ctrl-C only makes the yielded predicate true; a second one interrupts as ever.

    Elsewhere than in the main thread Python delivers no signals, and the predicate stays false.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = threading.Event()
    previous = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, previous)
