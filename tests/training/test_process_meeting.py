"""Where processes of a training meet: addresses, the options that name them, and what is said where nobody comes."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from cnnc.backends.jax.distributed.authentication import hello, reply, secret
from cnnc.backends.jax.distributed.coordinator import listening
from cnnc.backends.jax.distributed.process_address import Place, address, detected, require_index
from cnnc.backends.jax.distributed.process_errors import require_same
from cnnc.diagnostics import CnnError
from tests.support.calling import call
from tests.support.process_cases import enter, free_port


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
    monkeypatch.setattr("cnnc.backends.jax.distributed.processes._start_hub", lambda *_: None)
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
@pytest.mark.parametrize(
    ("says", "message"), [(b"", "it says nothing"), (b"SSH-2.0-OpenSSH_9.6 " * 3, "not a training")]
)
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
