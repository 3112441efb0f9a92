"""The meeting point of a training's processes: who is there, what each says, and who is gone.

`python -m cnnc.backends.jax.hub PORT COUNT SECONDS` runs beside process 0, which starts it, in a process of its own:
so it outlives every one of them to tell the others. It also runs jax's coordination service, whose clients abort with a
stack trace where it ends before them, and which tells nobody of a process that ends for a reason.

Messages are JSON objects, a line each, over one connection a process. A process sends `join`, then `say` with a value
for a round in which all say something, `stop` with its reason before it ends by an error, `leave` at its end, and a
`beat` every few seconds. It gets `start`, `said`, `gone` or `refused`, and beats.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

BEAT_SECONDS: Final = 3.0
SILENT_SECONDS: Final = 30.0
"""Who has sent nothing for so long is gone: its machine, or the network to it."""
_LONGEST: Final = 1 << 20
"""Bytes of a message, beyond which the sender is none of ours."""


@dataclass(eq=False)
class Peer:
    """A connection; `index` is None until it has joined."""

    connection: socket.socket
    index: int | None = None
    place: str = ""
    received: bytes = b""
    heard: float = field(default_factory=time.monotonic)
    stopped: str | None = None


class Hub:
    """The state of a meeting. `start` is called once all are there and returns the port of jax's service."""

    def __init__(self, server: socket.socket, count: int, seconds: float, start: Callable[[], int]) -> None:
        self.server, self.count, self.start = server, count, start
        self.deadline = time.monotonic() + seconds
        self.seconds = seconds
        self.selector = selectors.DefaultSelector()
        self.selector.register(server, selectors.EVENT_READ)
        self.peers: dict[int, Peer] = {}
        self.strangers: set[Peer] = set()
        self.rounds: dict[int, dict[int, Any]] = {}
        self.started = False
        self.closing = False

    def run(self) -> None:
        """Until every process has left or is gone, or not all came in time."""
        beaten = time.monotonic()
        while not self.closing or self.peers:
            for key, _ in self.selector.select(timeout=1.0):
                if key.fileobj is self.server:
                    self._accept()
                else:
                    self._receive(key.data)
            now = time.monotonic()
            if now - beaten >= BEAT_SECONDS:
                beaten = now
                self._tell({"beat": 0})
            for peer in [*self.peers.values(), *self.strangers]:
                if now - peer.heard > SILENT_SECONDS:
                    self._lose(peer, f"nothing was heard of it for {SILENT_SECONDS:.0f} seconds")
            if not self.started and now > self.deadline:
                missing = [index for index in range(self.count) if index not in self.peers]
                self._tell({"refused": "missing", "missing": missing, "seconds": self.seconds})
                return

    def _accept(self) -> None:
        connection, _ = self.server.accept()
        connection.settimeout(SILENT_SECONDS)
        peer = Peer(connection)
        self.strangers.add(peer)
        self.selector.register(connection, selectors.EVENT_READ, peer)

    def _receive(self, peer: Peer) -> None:
        try:
            data = peer.connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._lose(peer, "its connection closed")
            return
        peer.heard = time.monotonic()
        *lines, peer.received = (peer.received + data).split(b"\n")
        for line in lines:
            if peer.connection.fileno() < 0:  # dropped at the line before
                return
            try:
                self._handle(peer, _read(line))
            except (ValueError, KeyError, TypeError):
                self._lose(peer, "it sent what is no message")
                return
        if len(peer.received) > _LONGEST:
            self._lose(peer, "it sent what is no message")

    def _handle(self, peer: Peer, message: Mapping[str, Any]) -> None:
        if "join" in message:
            self._join(peer, message)
        elif peer.index is None or "beat" in message:
            return
        elif "say" in message:
            said = self.rounds.setdefault(int(message["round"]), {})
            said[peer.index] = message["say"]
            if len(said) == self.count:
                values = [said[index] for index in range(self.count)]
                self._tell({"said": values, "round": message["round"]})
                del self.rounds[int(message["round"])]
        elif "stop" in message:
            peer.stopped = str(message["stop"])
            self._lose(peer, "it stopped")
        elif "leave" in message:
            self._drop(peer)

    def _join(self, peer: Peer, message: Mapping[str, Any]) -> None:
        index, count, place = int(message["join"]), int(message["of"]), str(message["place"])
        if not 0 <= index < count:
            raise ValueError(index)
        refused = None
        if count != self.count:
            refused = {"refused": "count", "count": self.count}
        elif index in self.peers:
            refused = {"refused": "taken", "place": self.peers[index].place}
        elif self.started or self.closing:
            refused = {"refused": "late"}
        if refused is not None:
            _send(peer, refused)
            self._drop(peer)
            return
        self.strangers.discard(peer)
        peer.index, peer.place = index, place
        self.peers[index] = peer
        if len(self.peers) == self.count:
            self.started = True
            self._tell({"start": self.start(), "places": [self.peers[i].place for i in range(self.count)]})

    def _lose(self, peer: Peer, how: str) -> None:
        """A peer that did not take its leave: the others hear who and why."""
        self._drop(peer)
        if peer.index is not None:
            self._tell({"gone": peer.index, "place": peer.place, "how": how, "stopped": peer.stopped})

    def _drop(self, peer: Peer) -> None:
        self.selector.unregister(peer.connection)
        peer.connection.close()
        self.strangers.discard(peer)
        if peer.index is not None:
            del self.peers[peer.index]
            self.closing = True

    def _tell(self, message: Mapping[str, Any]) -> None:
        for peer in list(self.peers.values()):
            _send(peer, message)


def serve(port: int, count: int, seconds: float) -> None:
    """Meet on a port of all addresses. Prints `ready`, or why the port cannot be had."""
    # Whoever ends the training ends its processes; this one must see them go.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        server = listening(port)
    except OSError as error:
        sys.stdout.buffer.write(f"{error.strerror or error}\n".encode())
        return
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.buffer.flush()
    services: list[Any] = []

    def start() -> int:
        with listening(0) as free:
            chosen = int(free.getsockname()[1])
        services.append(_service(chosen, count))
        return chosen

    Hub(server, count, seconds, start).run()
    # The service would wait for clients that are gone.
    os._exit(0)


def listening(port: int) -> socket.socket:
    """A server on all addresses. Raises OSError where the port is taken."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _service(port: int, count: int) -> Any:
    """The coordination service of jax. It is patient: who is gone is told by the hub, long before it would notice."""
    from jax._src.lib import _jax  # type: ignore[attr-defined]  # there is no public way to it

    # It warns of what is meant here, and reports every end of a client once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    return _jax.get_distributed_runtime_service(
        f"[::]:{port}" if socket.has_dualstack_ipv6() else f"0.0.0.0:{port}",
        count,
        heartbeat_timeout=PATIENCE_SECONDS,
        shutdown_timeout=1,
        recoverable=True,
    )


PATIENCE_SECONDS: Final = 600
"""After so long jax's own service and its clients believe a process dead."""


def _send(peer: Peer, message: Mapping[str, Any]) -> None:
    try:
        peer.connection.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        # Its end is told where it is read, which happens next.
        return


def _read(line: bytes) -> Mapping[str, Any]:
    """Raises ValueError for what is no message."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError(line)
    return message


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
