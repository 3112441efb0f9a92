"""A socket of this process that leads to jax's coordination service, and stays open when the service is gone.

Where its service closes a connection, jax's client aborts the process with a stack trace, before anything else can say
what happened. Behind a relay it waits for an answer, while the process is ended as the hub's listener has it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def relay(place: Path, connect: Callable[[], socket.socket]) -> None:
    """Lead a socket in the file system to what `connect` opens, as long as the process runs.

    It asks nobody who it is: whoever may open the place comes through, and so its folder must be this user's alone.
    """
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(place))
    server.listen()
    threading.Thread(target=_accept, args=(server, connect), daemon=True).start()


def _accept(server: socket.socket, connect: Callable[[], socket.socket]) -> None:
    while True:
        near, _ = server.accept()
        try:
            far = connect()
        except OSError:
            # The client tries again, as it would without the relay.
            near.close()
            continue
        far.settimeout(None)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=forward, args=(near, far, True), daemon=True).start()
        threading.Thread(target=forward, args=(far, near, False), daemon=True).start()


def forward(source: socket.socket, sink: socket.socket, ends: bool) -> None:
    """Hand on what comes until one side is gone; then close the other if that is to know of it."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    if ends:
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
