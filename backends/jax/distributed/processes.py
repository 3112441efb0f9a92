"""A training in several processes, on one machine or many: how they meet, agree, and learn that one is gone.

jax's own start aborts with a stack trace where anything fails. So the processes meet at a coordinator first, which
process 0 starts beside itself; jax starts when all are there. From then on a thread of every process listens to the
coordinator. When a process is gone, the others cannot go on: they end within seconds, whatever they were waiting for.
"""

from __future__ import annotations

import atexit
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from typing import Any, Final, NoReturn

import jax
from jax._src.lib import _jax  # type: ignore[attr-defined]  # there is no public way to what it has

from cnnc.backends.jax.distributed.authentication import SWITCH, Mistrusted, greet, secret, user_file
from cnnc.backends.jax.distributed.coordinator import BEAT_SECONDS, PATIENCE_SECONDS, SILENT_SECONDS
from cnnc.backends.jax.distributed.coordinator_relay import relay
from cnnc.backends.jax.distributed.process_address import Place, address, require_index
from cnnc.backends.jax.distributed.process_errors import gone, late, refused, require_same
from cnnc.backends.jax.distributed.socket_folder import make_socket_folder
from cnnc.diagnostics import CnnError
from cnnc.wording import reason_of

START_SECONDS: Final = 300.0
"""How long the processes wait for each other, unless told otherwise."""
_GRACE_SECONDS: Final = 5.0
"""A process that waits for one that is gone is ended after so long."""


class Group:
    """The processes of a training, as one of them sees them."""

    def __init__(self, place: Place, connection: socket.socket, end: Callable[[CnnError], NoReturn]) -> None:
        self.index, self.count = place.index, place.count
        self.address: str = connection.getsockname()[0]
        """This machine's, as the others reach it."""
        self.places: tuple[str, ...] = ()
        self.resume: str | None = None
        """The command that goes on from the last checkpoint, once there is one."""
        self._connection = connection
        self._end = end
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._said: dict[int, list[Any]] = {}
        self._running = False
        self._lost: CnnError | None = None
        self._rounds = 0
        self._left = False
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._listen, self._beat)]

    def gather(self, value: Any) -> list[Any]:
        """The values of every process, in order: each a value that JSON has. All must call it at the same places.

        Raises:
            CnnError: of code `process` when one of them is gone.
        """
        number, self._rounds = self._rounds, self._rounds + 1
        self._send({"say": value, "round": number})
        with self._changed:
            self._changed.wait_for(lambda: self._lost is not None or number in self._said)
            if number not in self._said:
                assert self._lost is not None
                raise self._lost
            return self._said.pop(number)

    def share(self, value: Any) -> Any:
        """The value of process 0, in every process."""
        return self.gather(value if self.index == 0 else None)[0]

    def wait_for_all(self) -> None:
        """Returns when every process has come here."""
        self.gather(None)

    def agree(self, facts: Mapping[str, str]) -> None:
        """Raises CnnError of code `process`, in every process, when they do not all say the same of each name."""
        require_same(self.gather(dict(facts)))

    def lost(self, seconds: float) -> CnnError | None:
        """Which process is gone, if that becomes known within so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._lost is not None, timeout=seconds)
            return self._lost

    def leave(self) -> None:
        """Say that this process has ended as it should."""
        self._left = True
        self._send({"leave": True})

    def stop(self, reason: str) -> None:
        """Say to the others why this process is about to end."""
        self._left = True
        self._send({"stop": reason})

    def close(self) -> None:
        """Hear no more."""
        self._left = True
        with suppress(OSError):  # closed by the other end
            self._connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._connection.close()

    def listen(self) -> None:
        """Start to hear what the hub says, and to be heard."""
        for thread in self._threads:
            thread.start()

    def wait_for_start(self, seconds: float) -> None:
        """Returns when all are there. Raises CnnError when that takes longer, or cannot be."""
        with self._changed:
            # The hub says who is missing, and has a moment for it.
            self._changed.wait_for(lambda: self._lost is not None or self._running, timeout=seconds + _GRACE_SECONDS)
            if not self._running:
                raise self._lost or late(range(self.count), seconds)

    def _listen(self) -> None:
        """Read the hub's messages until it or this process is gone."""
        how = "its connection closed"
        try:
            with self._connection.makefile("rb") as lines:
                for line in lines:
                    self._heard(json.loads(line))
        except TimeoutError:
            how = f"nothing was heard of it for {SILENT_SECONDS:.0f} seconds"
        except OSError as error:
            how = error.strerror or str(error)
        if not self._left:
            self._lose(
                CnnError.of("process", f"the machine of process 0 is gone, or the way to it: {how}", help=self._help())
            )

    def _heard(self, message: Mapping[str, Any]) -> None:
        if "start" in message:
            with self._changed:
                self.places, self._running = tuple(message["places"]), True
                self._changed.notify_all()
        elif "said" in message:
            with self._changed:
                self._said[int(message["round"])] = message["said"]
                self._changed.notify_all()
        elif "gone" in message:
            self._lose(gone(message, self.count, self._help()))
        elif "refused" in message:
            self._lose(refused(message, self.index, self.count))

    def _lose(self, error: CnnError) -> None:
        with self._changed:
            if self._lost is not None or self._left:
                return
            self._lost = error
            self._changed.notify_all()
            running = self._running
        if running:
            # What waits for a device does not look here, and cannot be interrupted.
            time.sleep(_GRACE_SECONDS)
            self._end(error)

    def _beat(self) -> None:
        beaten = -BEAT_SECONDS
        while not self._left:
            if time.monotonic() - beaten > BEAT_SECONDS:
                beaten = time.monotonic()
                self._send({"beat": 0})
            time.sleep(0.2)

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            with self._sending:
                self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            # That the hub is gone is told where it is listened to.
            return

    def _help(self) -> str | None:
        return None if self.resume is None else f"start all processes again with {self.resume}"


@contextmanager
def group_of(place: Place, end: Callable[[CnnError], NoReturn], seconds: float = START_SECONDS) -> Iterator[Group]:
    """The processes of a training, all of them there and jax started. Nothing may have used jax's devices before.

    Args:
        place: which process this is.
        end: tells the user of an error and ends the process at once; it may be called in any thread.
        seconds: how long to wait for the others.

    Raises:
        CnnError: of code `process` when the processes cannot meet, or one of them is gone.
    """
    group = _start_group(place, end, seconds)
    try:
        yield group
    except CnnError as error:
        # A checkpoint that cannot be written may be one that another process is gone from.
        lost = group.lost(1.0) if error.diagnostics[0].code == "run" else None
        group.stop(error.diagnostics[0].message)
        end(lost or error)
    except (RuntimeError, ValueError, OSError) as error:
        # What a collective raises when its other end is gone; the hub knows whose that is.
        lost = group.lost(SILENT_SECONDS + _GRACE_SECONDS)
        if lost is None:
            group.stop(f"{type(error).__name__}: {error}")
            raise
        end(lost)
    except BaseException as error:
        group.stop("it was interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}")
        raise
    group.wait_for_all()
    jax.distributed.shutdown()  # type: ignore[no-untyped-call]
    # Last, as the hub ends after the last, and jax's service with it.
    group.leave()
    group.close()


def _start_group(place: Place, end: Callable[[CnnError], NoReturn], seconds: float) -> Group:
    """The processes when all of them are there and jax is started."""
    shared = secret()
    group = _met(place, shared, end, seconds)
    try:
        group.wait_for_start(seconds)
    except CnnError as error:
        group.close()
        hint = _hidden(place, group.address)
        raise CnnError([replace(each, help=each.help or hint) for each in error.diagnostics]) from error
    _start_jax(place, shared, group.address)
    return group


def _met(place: Place, shared: bytes, end: Callable[[CnnError], NoReturn], seconds: float) -> Group:
    host, port = address(place.coordinator)
    require_index(place.index, place.count)
    if place.index == 0:
        _start_hub(host, port, place.count, seconds, shared)
    connection = _connected(host, port, shared, seconds)
    connection.settimeout(SILENT_SECONDS)
    group = Group(place, connection, end)
    group._send({"join": place.index, "of": place.count, "place": f"{platform.node()}, process {os.getpid()}"})
    group.listen()
    return group


def _hidden(place: Place, own: str) -> str | None:
    """Advice where the machine's own name leads to its loopback, as Debian has it: nobody else comes there."""
    host, _ = address(place.coordinator)
    if place.index or host in ("localhost", own) or not ip_address(own.partition("%")[0]).is_loopback:
        return None
    return f"`{host}` is {own} on this machine, where no other machine comes: name the address that the others reach"


def _start_hub(host: str, port: int, count: int, seconds: float, shared: bytes) -> None:
    arguments = [
        sys.executable,
        "-m",
        "cnnc.backends.jax.distributed.coordinator",
        host,
        str(port),
        str(count),
        str(seconds),
    ]
    # A session of its own: Ctrl-C in the terminal is for the training.
    hub = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert hub.stdout is not None
    assert hub.stdin is not None
    # Not on the command line, which every user of the machine can read.
    with suppress(BrokenPipeError), hub.stdin as stdin:
        stdin.write(shared)
    with hub.stdout as stdout:
        said = stdout.readline().decode(errors="replace").strip()
    # It ends by itself, after this process; nobody waits for it, which Python would warn of.
    hub.returncode = 0
    if said != "ready":
        raise CnnError.of(
            "process",
            f"`{host}:{port}` cannot be had on this machine: {said.lower() or 'the hub did not start'}",
            help="name an address of this machine that the others reach; where another training has the port, end it,"
            " or give all processes another",
        )


def _connected(host: str, port: int, shared: bytes, seconds: float) -> socket.socket:
    """A connection to the hub, which may not be there yet, and which has the same secret."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return _opened(host, port, shared, deadline)
        except socket.gaierror as error:
            raise CnnError.of("process", f"there is no machine `{host}`: {reason_of(error)}") from error
        except Mistrusted as error:
            raise CnnError.of(
                "process",
                f"`{host}:{port}` is not trusted: {error}",
                help=f"give all processes the same secret: export {SWITCH}=..., or the same file `{user_file()}`",
            ) from error
        except OSError as error:
            if time.monotonic() > deadline:
                reason = "it says nothing" if isinstance(error, TimeoutError) else reason_of(error)
                raise CnnError.of(
                    "process",
                    f"process 0 was not there within {seconds:.0f} seconds: `{host}:{port}`: {reason}",
                    help="start process 0 on that machine, and let its firewall take connections of the others",
                ) from error
        time.sleep(0.2)


def _opened(host: str, port: int, shared: bytes, deadline: float) -> socket.socket:
    """A connection to the hub. Raises OSError where that is not to be had, Mistrusted where it is another's."""
    connection = socket.create_connection((host, port), timeout=max(0.1, min(10.0, deadline - time.monotonic())))
    try:
        greet(connection, shared, deadline)
    except BaseException:
        connection.close()
        raise
    return connection


def _start_jax(place: Place, shared: bytes, own: str) -> None:
    """Start jax, whose service is reached by way of the hub, and whose processes meet at their `own` addresses."""
    host, port = address(place.coordinator)

    def service() -> socket.socket:
        try:
            connection = _opened(host, port, shared, time.monotonic() + SILENT_SECONDS)
        except Mistrusted as error:
            raise ConnectionError(str(error)) from error
        connection.sendall(b'{"service": true}\n')
        return connection

    # jax would take SIGTERM for itself, and end every process where one does.
    for name, value in (("jax_enable_preemption_service", False), ("jax_cpu_collectives_implementation", "gloo")):
        jax.config.update(name, value)  # type: ignore[no-untyped-call]
    # jax would listen wherever the machine's name leads, and has no setting for it.
    _jax.make_gloo_tcp_collectives = partial(_jax.make_gloo_tcp_collectives, hostname=own)
    folder = make_socket_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    relay(folder / "jax", service)
    jax.distributed.initialize(
        f"unix:{folder / 'jax'}",
        place.count,
        place.index,
        None if place.local is None else list(place.local),
        # Process 0 would start a second service, which nobody asks: the hub's is in use.
        coordinator_bind_address=f"unix:{folder / 'own'}",
        heartbeat_timeout_seconds=PATIENCE_SECONDS,
        shutdown_timeout_seconds=5,
    )
