"""The meeting point of a training's processes: who is there, what each says, and who is gone.

`python -m cnnc.backends.jax.distributed.coordinator HOST PORT COUNT SECONDS` runs beside process 0, which starts it, in
a process of its own: so it outlives every one of them to tell the others. It also runs jax's coordination service,
whose clients abort with a stack trace where it ends before them, and which tells nobody of a process that ends for a
reason.

It listens on the address that the training names alone, and hears only who has the secret (`authentication`), which
comes by its standard input. Others have a few seconds, a few bytes and a few connections.

Messages are JSON objects, a line each, over one connection a process. A process sends `join`, then `say` with a value
for a round in which all say something, `stop` with its reason before it ends by an error, `leave` at its end, and a
`beat` every few seconds. It gets `start`, `said`, `gone` or `refused`, and beats. A connection whose first message is
`service` leads to jax's service from then on, which knows no secret and is reached in no other way.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cnnc.backends.jax.distributed import authentication
from cnnc.backends.jax.distributed.coordinator_relay import forward
from cnnc.backends.jax.distributed.socket_folder import make_socket_folder

BEAT_SECONDS: Final = 3.0
SILENT_SECONDS: Final = 30.0
"""Who has sent nothing for so long is gone: its machine, or the network to it."""
_LONGEST: Final = 1 << 20
"""Bytes of a message, beyond which the sender is none of ours."""
_GREETING_SECONDS: Final = 10.0
"""Who has not joined so long after it connected is none of ours."""
_MOST_STRANGERS: Final = 64
"""Connections that have not joined; of more, the oldest goes from where most of them come."""
_LONGEST_PLACE: Final = 300


@dataclass(eq=False)
class Peer:
    """A connection; `known` once it has proved that it has the secret, `index` None until it has joined."""

    connection: socket.socket
    address: str = ""
    hello: bytes = field(default_factory=authentication.hello)
    since: float = field(default_factory=time.monotonic)
    known: bool = False
    index: int | None = None
    place: str = ""
    received: bytes = b""
    heard: float = field(default_factory=time.monotonic)
    stopped: str | None = None


class Hub:
    """The state of a meeting. `start` is called once all are there; `service` connects to what it has started."""

    def __init__(
        self,
        server: socket.socket,
        secret: bytes,
        count: int,
        seconds: float,
        start: Callable[[], None],
        service: Callable[[], socket.socket],
    ) -> None:
        self.server, self.secret, self.count = server, secret, count
        self.start, self.service = start, service
        self.deadline = time.monotonic() + seconds
        self.seconds = seconds
        self.selector = selectors.DefaultSelector()
        self.selector.register(server, selectors.EVENT_READ)
        self.peers: dict[int, Peer] = {}
        self.strangers: dict[Peer, None] = {}
        """In the order in which they came."""
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
                elif self._is_here(key.data):  # what was done for one may have dropped another
                    self._receive(key.data)
            now = time.monotonic()
            if now - beaten >= BEAT_SECONDS:
                beaten = now
                self._tell({"beat": 0})
            for peer in [*self.peers.values()]:
                if now - peer.heard > SILENT_SECONDS:
                    self._lose(peer, f"nothing was heard of it for {SILENT_SECONDS:.0f} seconds")
            for peer in [*self.strangers]:
                if now - peer.since > _GREETING_SECONDS:
                    self._drop(peer)
            if not self.started and now > self.deadline:
                missing = [index for index in range(self.count) if index not in self.peers]
                self._tell({"refused": "missing", "missing": missing, "seconds": self.seconds})
                return

    def _is_here(self, peer: Peer) -> bool:
        return peer in self.strangers or (peer.index is not None and self.peers.get(peer.index) is peer)

    def _accept(self) -> None:
        try:
            connection, address = self.server.accept()
        except OSError:  # it is gone already
            return
        connection.settimeout(SILENT_SECONDS)
        peer = Peer(connection, str(address[0]))
        self.strangers[peer] = None
        self.selector.register(connection, selectors.EVENT_READ, peer)
        _write(peer, peer.hello)
        if len(self.strangers) > _MOST_STRANGERS:
            crowd, _ = Counter(each.address for each in self.strangers).most_common(1)[0]
            self._drop(next(each for each in self.strangers if each.address == crowd))

    def _receive(self, peer: Peer) -> None:
        try:
            data = peer.connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._lose(peer, "its connection closed")
            return
        peer.heard = time.monotonic()
        peer.received += data
        if not peer.known and not self._recognise(peer):
            return
        while b"\n" in peer.received:
            line, peer.received = peer.received.split(b"\n", 1)
            try:
                self._handle(peer, _read(line))
            except ValueError:
                self._lose(peer, "it sent what is no message")
            if not self._is_here(peer):
                return
        if len(peer.received) > _LONGEST:
            self._lose(peer, "it sent what is no message")

    def _recognise(self, peer: Peer) -> bool:
        """Whether a connection has proved by now that it has the secret. Who proves another's is told, and dropped."""
        if len(peer.received) < authentication.ANSWER:
            return False
        answer, peer.received = peer.received[: authentication.ANSWER], peer.received[authentication.ANSWER :]
        peer.known = authentication.is_known(self.secret, peer.hello, answer)
        _write(peer, authentication.reply(self.secret, peer.hello, answer) if peer.known else authentication.NO_PROOF)
        if not peer.known:
            self._drop(peer)
        return peer.known

    def _handle(self, peer: Peer, message: Mapping[str, Any]) -> None:
        if peer.index is None:
            if "service" in message:
                self._connect(peer)
            else:
                self._join(peer, message)
        elif "say" in message:
            number = _whole(message, "round")
            said = self.rounds.setdefault(number, {})
            said[peer.index] = message["say"]
            if len(said) == self.count:
                values = [said[index] for index in range(self.count)]
                self._tell({"said": values, "round": number})
                del self.rounds[number]
        elif "stop" in message:
            peer.stopped = str(message["stop"])
            self._lose(peer, "it stopped")
        elif "leave" in message:
            self._drop(peer)

    def _join(self, peer: Peer, message: Mapping[str, Any]) -> None:
        index, count, place = _whole(message, "join"), _whole(message, "of"), str(message.get("place", ""))
        if not index < count or len(place) > _LONGEST_PLACE:
            raise ValueError(message)
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
        self.strangers.pop(peer, None)
        peer.index, peer.place = index, place
        self.peers[index] = peer
        if len(self.peers) == self.count:
            self.start()
            self.started = True
            self._tell({"start": True, "places": [self.peers[i].place for i in range(self.count)]})

    def _connect(self, peer: Peer) -> None:
        """Join a connection to jax's service; threads do the rest."""
        if not self.started:
            raise ValueError("service")
        self.selector.unregister(peer.connection)
        self.strangers.pop(peer, None)
        peer.connection.settimeout(None)
        try:
            far = self.service()
            far.sendall(peer.received)
        except OSError:
            peer.connection.close()
            return
        for ends in ((peer.connection, far), (far, peer.connection)):
            threading.Thread(target=forward, args=(*ends, True), daemon=True).start()

    def _lose(self, peer: Peer, how: str) -> None:
        """A peer that did not take its leave: the others hear who and why."""
        self._drop(peer)
        if peer.index is not None:
            self._tell({"gone": peer.index, "place": peer.place, "how": how, "stopped": peer.stopped})

    def _drop(self, peer: Peer) -> None:
        self.selector.unregister(peer.connection)
        peer.connection.close()
        self.strangers.pop(peer, None)
        if peer.index is not None:
            del self.peers[peer.index]
            self.closing = True

    def _tell(self, message: Mapping[str, Any]) -> None:
        for peer in list(self.peers.values()):
            _send(peer, message)


def serve(host: str, port: int, count: int, seconds: float, secret: bytes) -> None:
    """Meet on a port of an address. Prints `ready`, or why the port cannot be had."""
    # Whoever ends the training ends its processes; this one must see them go.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        server = listening(host, port)
    except OSError as error:
        sys.stdout.buffer.write(f"{error.strerror or error}\n".encode())
        return
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.buffer.flush()
    # A socket in a folder that is this user's alone: jax's service asks nobody who it is.
    folder = make_socket_folder()
    services: list[Any] = []

    def start() -> None:
        services.append(_service(folder / "jax", count))

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(folder / "jax"))
        return connection

    try:
        Hub(server, secret, count, seconds, start, connect).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        sys.stderr.flush()
        # The service would wait for clients that are gone.
        os._exit(0)


def listening(host: str, port: int) -> socket.socket:
    """A server on the first address of a host. Raises OSError where that is not this machine's or the port is taken."""
    family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(place[:2], family=family, backlog=512)


def _service(place: Path, count: int) -> Any:
    """The coordination service of jax. It is patient: who is gone is told by the hub, long before it would notice."""
    from jax._src.lib import _jax  # type: ignore[attr-defined]  # there is no public way to it

    # It warns of what is meant here, and reports every end of a client once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    return _jax.get_distributed_runtime_service(
        f"unix:{place}",
        count,
        heartbeat_timeout=PATIENCE_SECONDS,
        shutdown_timeout=1,
        recoverable=True,
    )


PATIENCE_SECONDS: Final = 600
"""After so long jax's own service and its clients believe a process dead."""


def _send(peer: Peer, message: Mapping[str, Any]) -> None:
    _write(peer, json.dumps(message).encode() + b"\n")


def _write(peer: Peer, data: bytes) -> None:
    try:
        peer.connection.sendall(data)
    except OSError:
        # Its end is told where it is read, which happens next.
        return


def _read(line: bytes) -> Mapping[str, Any]:
    """Raises ValueError for what is no message."""
    try:
        message = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(message, dict):
        raise ValueError(line)
    return message


def _whole(message: Mapping[str, Any], name: str) -> int:
    """A field that is a whole number, 0 or more. Raises ValueError where it is not."""
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise ValueError(message)
    return value


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.stdin.buffer.read())
