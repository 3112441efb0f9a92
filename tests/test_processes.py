"""Several processes: they meet or say why not, train as one does, and none outlives another that is gone."""

from __future__ import annotations

import csv
import hmac
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from cnnc.backends.jax.greeting import (
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
from cnnc.backends.jax.hub import listening
from cnnc.backends.jax.place import Place, address, detected, require_index
from cnnc.backends.jax.process_errors import require_same
from cnnc.backends.jax.processes import group_of
from cnnc.backends.jax.relay import relay
from cnnc.diagnostics import CnnError
from tests.calling import call
from tests.device_cases import LARGE, ROOT, SMALL, Training
from tests.process_cases import Ended, free_port, run_processes, wait_for

BOUND = 60.0
"""Seconds within which the others must have ended."""


@pytest.mark.parametrize("text", ["host", "host:", ":1234", "host:0", "host:65536", "host:x", ""])
def test_an_address_without_a_port_is_refused(text: str) -> None:
    with pytest.raises(CnnError, match=r"HOST:PORT|no port") as caught:
        address(text)
    assert "10.0.0.1:1234" in (caught.value.diagnostics[0].help or "")


def test_addresses_are_names_and_numbers_of_both_kinds() -> None:
    assert address("node1:1234") == ("node1", 1234)
    assert address("10.0.0.1:80") == ("10.0.0.1", 80)
    assert address("[::1]:1234") == ("::1", 1234)


def test_an_index_beyond_the_last_process_is_refused() -> None:
    require_index(3, 4)
    with pytest.raises(CnnError, match="there is no process 4 of 4") as caught:
        require_index(4, 4)
    assert "--process 3" in (caught.value.diagnostics[0].help or "")


def test_what_differs_is_named_with_who_says_it() -> None:
    require_same([{"seed": "0"}] * 3)
    with pytest.raises(CnnError, match="do not do the same") as caught:
        require_same([{"seed": "0", "x": "1"}, {"seed": "1", "x": "1"}, {"seed": "0", "x": "1"}, {"x": "1"}])
    assert caught.value.diagnostics[0].notes == (
        "seed is 0 in processes 0 and 2, 1 in process 1, nothing in process 3",
    )


def test_a_cluster_says_where_a_process_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"JOB_ID": "4097", "STEP_NODELIST": "node[007-009]", "NTASKS": "6", "PROCID": "3", "LOCALID": "1"}
    for name, value in said.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert detected() == Place("node007:61441", 6, 3, (1,))


def test_where_no_cluster_is_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_"))]:
        monkeypatch.delenv(name)
    with pytest.raises(CnnError, match="this is no cluster that is known") as caught:
        detected()
    assert "--coordinator HOST:PORT" in (caught.value.diagnostics[0].help or "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--coordinator", "a:1"], "--processes and --process missing"),
        (["--processes", "2"], "--coordinator and --process missing"),
        (["--coordinator", "a:1", "--processes", "2"], "--process missing"),
        (["--distributed", "--processes", "2"], "`--distributed` asks the cluster"),
        (["--coordinator", "a:1", "--processes", "2", "--process", "0", "--seeds", "2"], "`--seeds` trains in one"),
    ],
)
def test_options_of_processes_that_lack_others_are_refused(arguments: list[str], message: str) -> None:
    result = call("train", "mlp", "--data", "digits", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--coordinator", "a", "--processes", "2", "--process", "0"], "`a` has no port"),
        (["--coordinator", "a:1", "--processes", "2", "--process", "2"], "there is no process 2 of 2"),
        (["--mesh", "data=4"], "the mesh `data=4` wants 4 devices, and there is 1 device"),
    ],
)
def test_places_that_cannot_be_are_refused(arguments: list[str], message: str) -> None:
    result = call("train", "mlp", "--data", "digits", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr


def no_end(error: CnnError) -> NoReturn:
    raise AssertionError(error)


def enter(place: Place, seconds: float) -> None:
    with group_of(place, no_end, seconds):
        pass


def test_a_coordinator_that_is_not_there_is_waited_for_no_longer_than_said() -> None:
    began = time.monotonic()
    with pytest.raises(CnnError, match="process 0 was not there within 1 seconds"):
        enter(Place(f"localhost:{free_port()}", 2, 1), 1.0)
    assert time.monotonic() - began < 10


def test_a_machine_that_does_not_exist_is_named() -> None:
    with pytest.raises(CnnError, match=r"there is no machine `nowhere\.invalid`"):
        enter(Place("nowhere.invalid:1234", 2, 1), 1.0)


def test_a_port_that_is_taken_is_said() -> None:
    with listening("localhost", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CnnError, match=f"`localhost:{port}` cannot be had on this machine: address already in use"):
            enter(Place(f"localhost:{port}", 2, 0), 5.0)


def test_processes_that_do_not_come_are_named() -> None:
    with pytest.raises(CnnError, match="processes 1 and 2 did not come within 1 seconds"):
        enter(Place(f"localhost:{free_port()}", 3, 0), 1.0)


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
    command = [sys.executable, "-m", "cnnc.backends.jax.hub", "localhost", str(port), "3", "20"]
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
        pytest.raises(Mistrusted, match="has another secret"),
    ):
        greet(stranger, b"another secret, long enough", time.monotonic() + 20)
    with pytest.raises(CnnError, match="is not trusted: the training there has another secret") as caught:
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


@pytest.mark.fault("S4")
def test_a_flood_of_connections_does_not_keep_the_processes_out(hub: int) -> None:
    flood = [socket.create_connection(("localhost", hub)) for _ in range(200)]
    processes = [Joined(hub, index, 3) for index in range(3)]
    flood += [socket.create_connection(("localhost", hub)) for _ in range(200)]
    for process in processes:
        assert "start" in process.hear()
    # Of all of them the hub keeps so few that it can never want for files.
    closed = 0
    for connection in flood:
        connection.settimeout(0.0)
        with suppress(BlockingIOError):
            closed += connection.recv(HELLO) == b"" or connection.recv(1) == b""
        connection.close()
    assert closed >= 200


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
def test_only_the_named_address_is_listened_on() -> None:
    with listening("127.0.0.1", 0) as server:
        assert server.getsockname()[0] == "127.0.0.1"
    with pytest.raises(OSError, match=r"assign requested address"):
        listening("192.0.2.1", 0)
    with pytest.raises(CnnError, match=r"`192\.0\.2\.1:1234` cannot be had on this machine: cannot assign") as caught:
        enter(Place("192.0.2.1:1234", 2, 0), 5.0)
    assert "an address of this machine" in (caught.value.diagnostics[0].help or "")


def test_a_name_that_leads_to_the_loopback_is_said_where_nobody_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **named: real("127.0.0.1", *more, **named))
    monkeypatch.setattr("cnnc.backends.jax.processes._start_hub", lambda *_: None)
    with listening("127.0.0.1", 0) as server:

        def refuse() -> None:
            with server.accept()[0] as connection:
                said = hello()
                connection.sendall(said)
                connection.sendall(reply(secret(), said, connection.recv(64, socket.MSG_WAITALL)))
                connection.sendall(b'{"refused": "missing", "missing": [1], "seconds": 1}\n')
                connection.recv(1 << 16)

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(CnnError, match="process 1 did not come") as caught:
            enter(Place(f"node1:{server.getsockname()[1]}", 2, 0), 1.0)
        thread.join()
    assert (caught.value.diagnostics[0].help or "").startswith("`node1` is 127.0.0.1 on this machine")


@pytest.mark.fault("S11")
@pytest.mark.parametrize(("says", "message"), [(b"", "it says nothing"), (b"SSH-2.0-OpenSSH_9.6 " * 3, "no training")])
def test_a_server_that_is_no_hub_is_left_in_time(says: bytes, message: str) -> None:
    with listening("localhost", 0) as server:
        stop = threading.Event()

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.sendall(says)
                stop.wait(20)

        thread = threading.Thread(target=serve)
        thread.start()
        began = time.monotonic()
        with pytest.raises(CnnError, match=message):
            enter(Place(f"localhost:{server.getsockname()[1]}", 2, 1), 1.0)
        assert time.monotonic() - began < 10
        stop.set()
        thread.join()


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


def test_two_processes_follow_the_curve_of_one() -> None:
    one = Training(SMALL, None)
    losses, scores = one.losses_of(1), one.scores()
    ended = run_processes("curve", [["", "small", "1"]] * 2)
    for index, process in enumerate(ended):
        found = process.value
        np.testing.assert_allclose(found["losses"], losses, rtol=1e-4)
        assert found["part"] == [index, 2]
        assert found["scores"][0] == 359
        assert found["scores"][2:] == scores[2:]
    assert ended[0].value["losses"] == ended[1].value["losses"]
    assert ended[0].value["scores"] == ended[1].value["scores"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "devices", "mesh", "which"),
    [
        (4, 1, "", "small"),
        (2, 4, "data=8", "small"),
        (2, 2, "data=2,model=2", "large"),
        (4, 1, "data=2,model=2", "large"),
    ],
)
def test_processes_with_devices_follow_the_curve_of_one(count: int, devices: int, mesh: str, which: str) -> None:
    one = Training({"small": SMALL, "large": LARGE}[which], None)
    losses, scores = one.losses_of(2), one.scores()
    for process in run_processes("curve", [[mesh, which, "2"]] * count, devices):
        np.testing.assert_allclose(process.value["losses"], losses, rtol=2e-3, atol=1e-4)
        assert process.value["scores"][0] == 359
        np.testing.assert_allclose(process.value["scores"][1], scores[1], rtol=2e-3)


def test_all_processes_hear_of_a_wish_at_the_same_step() -> None:
    first, second = run_processes("vote", [[""], ["7"]])
    assert first.value == second.value == [0] * 7 + [1] * 13


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "kill"), [(0, "SIGKILL"), (1, "SIGKILL"), (2, "SIGSTOP")])
def test_a_process_that_is_gone_ends_the_others_by_its_name(victim: int, kill: str) -> None:
    ended = run_processes("die", [[kill if index == victim else ""] for index in range(4)], seconds=110)
    others = [process for index, process in enumerate(ended) if index != victim]
    how = "its connection closed" if kill == "SIGKILL" else "nothing was heard of it for 30 seconds"
    for process in others:
        assert process.code == 1, process.err
        assert re.search(rf"error\[process\]: process {victim} of 4 \(.*\) is gone: {how}", process.err), process.err
        assert "start all processes again with cnnc train --resume runs/small/exp1" in process.err
        assert "Traceback" not in process.err
        assert "stack trace" not in process.err
    assert max(process.seconds for process in others) - min(process.seconds for process in others) < 15


@pytest.mark.slow
def test_a_process_that_stops_says_why_to_the_others() -> None:
    first, second = run_processes("fail", [[""], ["the picture is broken"]])
    assert "error[data]: the picture is broken" in second.err
    assert re.search(r"error\[process\]: process 1 of 2 \(.*\) stopped", first.err)
    assert "it says: the picture is broken" in first.err
    assert (first.code, second.code) == (1, 1)


def start(folder: Path, port: int, index: int, count: int, *arguments: str) -> subprocess.Popen[str]:
    """A process of `cnnc train`."""
    where = ["--coordinator", f"localhost:{port}", "--processes", str(count), "--process", str(index)]
    command = [sys.executable, "-c", "from cnnc.cli import main; main()", "train", *arguments, *where]
    pipe, environment = subprocess.PIPE, {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=pipe, stderr=pipe)


def train(folder: Path, *arguments: str, count: int = 2, own: tuple[str, ...] = ("", "")) -> list[Ended]:
    """How `cnnc train` ends in processes, of which each may have arguments of its own."""
    (folder / "small.cnn").write_text(SMALL)
    port = free_port()
    return wait_for([start(folder, port, i, count, *arguments, *own[i].split()) for i in range(count)])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_command_line_trains_in_two_processes_and_goes_on_in_one_with_four_devices(tmp_path: Path) -> None:
    for process in train(tmp_path, "small.cnn", "--out", "two"):
        assert process.code == 0, process.err
    one = [sys.executable, "-c", "from cnnc.cli import main; main()", "train"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    subprocess.run([*one, "small.cnn", "--epochs", "3", "--out", "one"], cwd=tmp_path, env=environment, check=True)
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
    subprocess.run([*one, "--resume", "two", "--epochs", "3"], cwd=tmp_path, env=environment, check=True)
    wanted, found = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(found) == 3
    for figure in ("train_loss", "train_top1", "val_loss", "val_top1"):
        np.testing.assert_allclose(
            [float(row[figure]) for row in found], [float(row[figure]) for row in wanted], rtol=2e-3
        )


@pytest.mark.slow
def test_processes_that_disagree_all_stop_and_say_in_what(tmp_path: Path) -> None:
    for process in train(tmp_path, "small.cnn", "--out", "run", own=("--seed 0", "--seed 1")):
        assert process.code == 1
        assert "error[process]: the processes do not do the same" in process.err
        assert "`seed` is 0 in process 0, 1 in process 1" in process.err
    assert not (tmp_path / "run").exists()
    (tmp_path / "other.cnn").write_text(SMALL.replace("dropout(0.2)", "dropout(0.3)"))
    for process in train(tmp_path, "--out", "run", own=("small.cnn", "other.cnn")):
        assert process.code == 1
        assert "the network is small, whose graph has the hash" in process.err


@pytest.mark.slow
def test_sigterm_to_one_process_stops_all_after_the_same_step_and_they_go_on(tmp_path: Path) -> None:
    (tmp_path / "small.cnn").write_text(SMALL)
    port = free_port()
    running = [start(tmp_path, port, i, 2, "small.cnn", "--out", "run", "--epochs", "1000") for i in range(2)]

    def end_one() -> None:
        while not (tmp_path / "run" / "results.csv").exists() and running[1].poll() is None:
            time.sleep(0.1)
        running[1].send_signal(signal.SIGTERM)

    threading.Thread(target=end_one).start()
    first, second = wait_for(running)
    assert (first.code, second.code) == (0, 0), (first.err, second.err)
    assert re.search(r"stopped; saved up to epoch \d+.*\ngo on with: cnnc train --resume", first.out), first.out
    assert "stopped" not in second.out
    done = len(rows(tmp_path / "run"))
    for process in train(tmp_path, "--resume", "run", "--epochs", str(done + 1)):
        assert process.code == 0, process.err
    assert len(rows(tmp_path / "run")) == done + 1


@pytest.mark.slow
def test_where_the_machine_of_the_first_process_is_gone_the_others_end_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "small.cnn").write_text(SMALL)
    port = free_port()
    running = [start(tmp_path, port, i, 2, "small.cnn", "--out", "run", "--epochs", "1000") for i in range(2)]

    def end_the_hub_and_the_first() -> None:
        while not (tmp_path / "run" / "results.csv").exists() and running[1].poll() is None:
            time.sleep(0.1)
        pattern = f"cnnc.backends.jax.hub localhost {port} "
        found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True)
        os.kill(int(found.stdout), signal.SIGKILL)
        running[0].kill()

    threading.Thread(target=end_the_hub_and_the_first).start()
    _, second = wait_for(running)
    assert second.code == 1, second.err
    assert "error[process]: the machine of process 0 is gone, or the way to it" in second.err
    assert "cnnc train --resume" in second.err
    assert "stack trace" not in second.err
    assert "Traceback" not in second.err
