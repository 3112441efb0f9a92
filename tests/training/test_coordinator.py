"""The hub at which processes of a training meet: who is let in, what is handed round, and what a stranger can do."""

from __future__ import annotations

import hmac
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cnnc.backends.jax.distributed.authentication import (
    HELLO,
    NO_PROOF,
    Mistrusted,
    greet,
    hello,
    is_known,
    reply,
    secret,
    user_file,
)
from cnnc.backends.jax.distributed.coordinator import listening
from cnnc.backends.jax.distributed.coordinator_relay import relay
from cnnc.backends.jax.distributed.process_address import Place
from cnnc.diagnostics import CnnError
from tests.support.paths import ROOT
from tests.support.process_cases import enter, free_port


class Joined:
    """A process that joins a hub and does nothing else."""

    def __init__(self, port: int, index: int, count: int) -> None:
        self.connection = socket.create_connection(("localhost", port), timeout=20)
        greet(self.connection, SECRET, time.monotonic() + 20)
        self.connection.settimeout(20)
        self.lines = self.connection.makefile("rb")
        OPEN.append(self)
        self.send({"join": index, "of": count, "place": f"test {index}"})

    def close(self) -> None:
        self.lines.close()
        self.connection.close()

    def send(self, message: dict[str, Any]) -> None:
        self.connection.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        """The next message that is no beat."""
        while True:
            message: dict[str, Any] = json.loads(self.lines.readline())
            if "beat" not in message:
                return message


OPEN: list[Joined] = []


SECRET = b"of the tests, and long enough"


@pytest.fixture
def hub(hub_process: tuple[int, int]) -> int:
    """The port of a hub for three."""
    return hub_process[0]


@pytest.fixture
def hub_process() -> Iterator[tuple[int, int]]:
    """The port of a hub for three, and the number of its process."""
    port = free_port()
    command = [sys.executable, "-m", "cnnc.backends.jax.distributed.coordinator", "localhost", str(port), "3", "20"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(SECRET)
        process.stdin.close()
        assert process.stdout.readline() == b"ready\n"
        yield port, process.pid
        while OPEN:
            OPEN.pop().close()
        process.kill()


def test_the_hub_refuses_an_index_twice_and_another_count(hub: int) -> None:
    first = Joined(hub, 0, 3)
    assert Joined(hub, 0, 3).hear() == {"refused": "taken", "place": "test 0"}
    assert Joined(hub, 1, 4).hear() == {"refused": "count", "count": 3}
    others = [Joined(hub, 1, 3), Joined(hub, 2, 3)]
    for process in (first, *others):
        assert process.hear()["places"] == ["test 0", "test 1", "test 2"]
    assert Joined(hub, 1, 3).hear()["refused"] == "taken"


def _heard(connection: socket.socket) -> bytes:
    """All that comes until the other end closes."""
    connection.settimeout(20)
    data = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            data += part
    return data


NONSENSE = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n\r\n",
    "JSON": b'{"join": 0, "of": 3, "place": "x", "and": "so on, long enough for an answer"}\n',
    "infinity": b'{"join": Infinity, "of": 2, "place": "x"}\n' * 3,
    "brackets": b"[" * 200_000,
    "zeros": bytes(1 << 20),
}


@pytest.mark.fault("S4")
def test_the_hub_tells_who_has_no_secret_nothing(hub: int) -> None:
    for kind, nonsense in NONSENSE.items():
        with socket.create_connection(("localhost", hub)) as stranger:
            with suppress(ConnectionError):
                stranger.sendall(nonsense)
            heard = _heard(stranger)
        assert heard[HELLO:] in (b"", NO_PROOF), kind
    processes = [Joined(hub, index, 3) for index in range(3)]
    for process in processes:
        assert "start" in process.hear()


@pytest.mark.fault("S4")
def test_the_hub_and_a_process_of_another_secret_do_not_trust_each_other(hub: int) -> None:
    with (
        socket.create_connection(("localhost", hub)) as stranger,
        pytest.raises(Mistrusted, match="has a different secret"),
    ):
        greet(stranger, b"another secret, long enough", time.monotonic() + 20)
    with pytest.raises(CnnError, match="is not trusted: the training there has a different secret") as caught:
        enter(Place(f"localhost:{hub}", 3, 1), 5.0)
    assert "CNNC_SECRET" in (caught.value.diagnostics[0].help or "")


@pytest.mark.fault("S4")
def test_an_answer_that_was_overheard_is_none_to_another_hello() -> None:
    first, second, number = hello(), hello(), b"n" * 32
    answer = number + hmac.digest(SECRET, b"process" + first + number, "sha256")
    assert is_known(SECRET, first, answer)
    assert not is_known(SECRET, second, answer)
    # What a hub proves is no proof of a process: nobody can have one hub answer another.
    assert not is_known(SECRET, first, number + reply(SECRET, first, answer))


def is_closed(connection: socket.socket) -> bool:
    """Whether the other end has closed a connection, once all that it said is read."""
    connection.settimeout(0.0)
    with suppress(BlockingIOError):
        while connection.recv(HELLO):
            pass
        return True
    return False


@pytest.mark.fault("S4")
def test_a_flood_of_connections_does_not_keep_the_processes_out(hub: int) -> None:
    flood = [socket.create_connection(("localhost", hub)) for _ in range(200)]
    processes = [Joined(hub, index, 3) for index in range(3)]
    flood += [socket.create_connection(("localhost", hub)) for _ in range(200)]
    for process in processes:
        assert "start" in process.hear()
    # Of all of them the hub keeps so few that it can never want for files.
    waits, until = [*flood], time.monotonic() + 30
    while len(waits) > 200 and time.monotonic() < until:
        waits = [connection for connection in waits if not is_closed(connection)]
    for connection in flood:
        connection.close()
    assert len(waits) <= 200


@pytest.mark.fault("S4")
def test_a_stranger_who_speaks_while_another_pushes_it_out_does_not_end_the_hub(hub_process: tuple[int, int]) -> None:
    hub, number = hub_process
    strangers = [socket.create_connection(("localhost", hub), timeout=20) for _ in range(64)]
    for stranger in strangers:
        assert stranger.recv(HELLO)
    os.kill(number, signal.SIGSTOP)  # so that it meets all of this at once, the new one first
    strangers.append(socket.create_connection(("localhost", hub), timeout=20))
    for stranger in strangers[:-1]:
        stranger.sendall(b"x")
    os.kill(number, signal.SIGCONT)
    processes = [Joined(hub, index, 3) for index in range(3)]
    for process in processes:
        assert "start" in process.hear()
    for stranger in strangers:
        stranger.close()


@pytest.mark.fault("S4")
def test_the_hub_outlives_messages_that_are_none(hub: int) -> None:
    for line in (
        b'{"join": Infinity, "of": 3, "place": "x"}',
        b'{"join": 1e400, "of": 3, "place": "x"}',
        b'{"join": true, "of": 3, "place": "x"}',
        b'{"join": -1, "of": 3, "place": "x"}',
        b'{"join": "x"}',
        b'{"join": 0, "of": 3, "place": "%s"}' % (b"x" * 1000),
        b'{"service": true}',
        b"[" * 200_000,
        b"[]",
        b"1",
        b"\xff",
        b"",
    ):
        with socket.create_connection(("localhost", hub)) as process:
            greet(process, SECRET, time.monotonic() + 20)
            process.sendall(line + b"\n")
            assert _heard(process) == b"", line[:80]
    assert Joined(hub, 0, 4).hear() == {"refused": "count", "count": 3}


@pytest.mark.fault("S4")
def test_jax_is_reached_by_those_alone_who_have_the_secret(hub: int) -> None:
    processes = [Joined(hub, index, 3) for index in range(3)]
    for process in processes:
        process.hear()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    with socket.create_connection(("localhost", hub)) as known:
        greet(known, SECRET, time.monotonic() + 20)
        known.settimeout(20)
        known.sendall(b'{"service": true}\n' + preface)
        assert known.recv(9)[3] == 4  # the settings of an HTTP/2 server, which gRPC is
    with socket.create_connection(("localhost", hub)) as stranger:
        stranger.sendall(preface * 4)
        assert _heard(stranger)[HELLO:] in (b"", NO_PROOF)


@pytest.mark.fault("S4")
def test_the_way_to_jax_within_a_process_is_no_port_that_others_reach(tmp_path: Path) -> None:
    with listening("localhost", 0) as service:
        relay(tmp_path / "jax", lambda: socket.create_connection(service.getsockname()[:2], timeout=20))
        with socket.socket(socket.AF_UNIX) as near:
            near.settimeout(20)
            near.connect(str(tmp_path / "jax"))
            with service.accept()[0] as far:
                near.sendall(b"there")
                assert far.recv(5, socket.MSG_WAITALL) == b"there"
                far.sendall(b"back")
                assert near.recv(4, socket.MSG_WAITALL) == b"back"
    assert stat.S_ISSOCK((tmp_path / "jax").stat().st_mode)


@pytest.mark.fault("S4")
def test_a_secret_is_made_once_and_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("CNNC_SECRET", raising=False)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: secret(), range(16)))
    assert len(found) == 1
    assert stat.S_IMODE(user_file().stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "cnnc") == ["secret"]
    user_file().chmod(0o644)
    with pytest.raises(CnnError, match="others may read") as caught:
        secret()
    assert caught.value.diagnostics[0].help == f"chmod 600 {user_file()}"
    user_file().write_text("")
    user_file().chmod(0o600)
    with pytest.raises(CnnError, match="holds no secret"):
        secret()
    monkeypatch.setenv("CNNC_SECRET", "short")
    with pytest.raises(CnnError, match="`CNNC_SECRET` has 5 characters, and at least 16 are wanted"):
        secret()
    monkeypatch.setenv("CNNC_SECRET", "of the tests, and long enough")
    assert secret() == SECRET


def test_the_hub_hands_round_what_is_said_and_tells_who_is_gone(hub: int) -> None:
    processes = [Joined(hub, index, 3) for index in range(3)]
    for process in processes:
        process.hear()
    for index in (2, 0, 1):
        processes[index].send({"say": index * 10, "round": 0})
    for process in processes:
        assert process.hear() == {"said": [0, 10, 20], "round": 0}
    processes[1].send({"stop": "no disk"})
    for index in (0, 2):
        heard = processes[index].hear()
        assert (heard["gone"], heard["stopped"]) == (1, "no disk")
    processes[2].close()
    heard = processes[0].hear()
    assert (heard["gone"], heard["how"], heard["stopped"]) == (2, "its connection closed", None)
