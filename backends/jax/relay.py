"""A port of this process that leads to jax's coordination service, and stays open when the service is gone.

Where its service closes a connection, jax's client aborts the process with a stack trace, before anything else can say
what happened. Behind a relay it waits for an answer, while the process is ended as the hub's listener has it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress


def relay(connect: Callable[[], socket.socket]) -> int:
    """The port, on this machine's loopback, of a relay to what `connect` opens. It runs as long as the process."""
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(server, connect), daemon=True).start()
    return int(server.getsockname()[1])


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
        for connection in (near, far):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
