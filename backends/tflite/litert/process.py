"""A file on LiteRT in a process of its own, where a crash, a hang or a flood of memory is an error and nothing more.

One server a program, started with its first file, forks them: a file costs a few milliseconds, and only the first one
the tenth of a second in which NumPy and LiteRT are imported.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from threading import Lock
from typing import Any, Final, NoReturn

import numpy as np

from cnnc.backends.tflite.litert import interpreter
from cnnc.backends.tflite.litert.interpreter import Array, Options, Refusal, Session, receive, send
from cnnc.tflite_file.flatbuffer import shortened

SECONDS: Final = 300
"""That loading a file, or one run of it, may take."""
_NOTES: Final = 3
"""So many lines of what LiteRT wrote last are shown of a crash."""
_GARBLED: Final = (EOFError, ConnectionError, ValueError, TypeError, KeyError, RecursionError)
"""Exceptions of an answer that is cut off, or that comes from a process whose memory is no longer its own."""
_FAULTS: Final = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
"""Signals that a process gets for what it did itself; all others are sent by another one."""
_CHATTER: Final = ("INFO:", "WARNING:", "W0000", "I0000")


class Crash(Refusal):
    """That LiteRT ended its process, of itself and not for its time or memory."""


def open_session(data: bytes, options: Options) -> Session | Remote:
    """A file in a process of its own; in this one where the system cannot fork.

    Raises:
        Refusal: as `Session`.
        Crash: loading ended the process.
    """
    return Remote(data, options) if hasattr(os, "fork") else Session(data, options)


class Remote:
    """As `Session`, of which it is the far end; a run that ends the process is a Crash."""

    def __init__(self, data: bytes, options: Options) -> None:
        self.what = options.what
        self._ended: Refusal | None = None
        self._connection, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # open for as long as the process is
        weakref.finalize(self, _close, self._connection, self._log)
        with theirs:
            self._process = _server(os.getpid()).fork(theirs, self._log.fileno())
        header = {
            "options": asdict(options),
            "path": sys.path,
            "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "seconds": SECONDS,
        }
        self._ask("loading", header, [np.frombuffer(data, np.uint8)])

    def run(self, inputs: Mapping[int, Array], outputs: Sequence[int]) -> list[Array]:
        """As `Session.run`."""
        request = {"do": "run", "inputs": list(inputs), "outputs": list(outputs)}
        found = self._ask("running", request, list(inputs.values()))[1]
        return found if len(found) == len(outputs) else self._fail("running")

    def time(self) -> float:
        """As `Session.time`, without the way there and back."""
        seconds = self._ask("running", {"do": "time"}, ())[0].get("seconds")
        return seconds if isinstance(seconds, float) else self._fail("running")

    def _ask(
        self, doing: str, request: Mapping[str, Any], arrays: Sequence[Array]
    ) -> tuple[dict[str, Any], list[Array]]:
        if self._ended is not None:
            raise self._ended
        try:
            send(self._connection, request, arrays)
            header, found = receive(self._connection)
            refusal = Refusal(**header["refusal"]) if "refusal" in header else None
        except _GARBLED:
            self._fail(doing)
        if refusal is not None:
            raise refusal
        return header, found

    def _fail(self, doing: str) -> NoReturn:
        """Raise for the process that ended, or that says what nobody asked."""
        self._connection.close()
        status = _server(os.getpid()).wait(self._process)
        if os.waitstatus_to_exitcode(status) == -signal.SIGINT:
            raise KeyboardInterrupt  # which a terminal sends to both
        self._log.seek(0)
        lines = [" ".join(line.split()) for line in self._log.read().decode("utf-8", "replace").splitlines()]
        said = [line for line in lines if line and not line.startswith(_CHATTER)]
        self._ended = _ending(status, self.what, doing, said[-_NOTES:])
        raise self._ended


def first_crash(data: bytes, options: Options, operators: int, inputs: Mapping[int, Array] | None) -> int | None:
    """The first of a file's operators with which it crashes LiteRT, or None where it does not crash again.

    Found by halving, each time in a new process. `inputs` are those of a run, None where the file is loaded alone.
    """

    def crashes(count: int) -> bool:
        part = shortened(data, "Model", ("subgraphs", 0, "operators"), count, options.what)
        try:
            session = Remote(part, options)
            if inputs is not None:
                session.run(inputs, ())
        except Crash:
            return True
        except Refusal:
            return False
        return False

    if operators == 0 or not crashes(operators):
        return None
    below, above = 0, operators
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if crashes(middle) else (middle, above)
    return above - 1


def _ending(status: int, what: str, doing: str, notes: Sequence[str]) -> Refusal:
    """How a process ended, and what to do."""
    number = os.waitstatus_to_exitcode(status)
    if number == -signal.SIGALRM:
        message = f"LiteRT was stopped: {doing} `{what}` took more than {SECONDS} s"
        return Refusal("tflite", message, notes, "the file is damaged, or far too large for this machine")
    name = {each.value: each.name for each in signal.Signals}.get(-number, f"signal {-number}")
    if name == "SIGKILL":
        message = f"LiteRT was killed while {doing} `{what}`, by the system for lack of memory or by a user"
        return Refusal("tflite", message, notes, "run it again, or on a machine with more memory")
    if number < 0 and name not in _FAULTS:
        message = f"LiteRT was ended from outside while {doing} `{what}` ({name})"
        return Refusal("tflite", message, notes, "run it again")
    how = name if number < 0 else f"exit status {number}"
    help = "the file is damaged, or LiteRT has a fault: make the file again, or with another version of its converter"
    return Crash("tflite", f"LiteRT crashed while {doing} `{what}` ({how})", notes, help)


def _close(connection: socket.socket, log: Any) -> None:
    connection.close()
    log.close()


@dataclass(frozen=True, eq=False)
class _Server:
    """The process that forks others, and the socket to ask it."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    lock: Lock

    def fork(self, connection: socket.socket, log: int) -> int:
        """The number of a new process, which serves a socket."""
        return self._ask(0, [connection.fileno(), log])

    def wait(self, process: int) -> int:
        """The status of a process that has ended or is about to."""
        return self._ask(process, [])

    def _ask(self, number: int, descriptors: list[int]) -> int:
        with self.lock:
            try:
                socket.send_fds(self.control, [struct.pack("<i", number)], descriptors)
                answer = self.control.recv(4, socket.MSG_WAITALL)
            except ConnectionError:
                answer = b""
        if len(answer) < 4:
            _server.cache_clear()
            raise Refusal("tflite", "the process that runs LiteRT does not start, or was ended from outside")
        return int(struct.unpack("<i", answer)[0])

    def stop(self) -> None:
        """End it, and with it what still waits for requests."""
        self.control.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)


@cache
def _server(process: int) -> _Server:
    """The server of this process, by its number: one that was forked off has its own."""
    control, theirs = socket.socketpair()
    path = os.pathsep.join(part for part in sys.path if part)
    with theirs:
        started = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", interpreter.__file__, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        )
    server = _Server(started, control, Lock())
    atexit.register(server.stop)
    return server
