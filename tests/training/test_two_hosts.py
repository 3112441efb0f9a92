"""Two hosts train together while a third speaks nonsense, floods, and comes with another secret.

The hosts are network namespaces of this machine, with private addresses, on a bridge in a fourth.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.paths import ROOT
from tests.support.process_cases import Ended, wait_for

HOSTS = {"one": "10.213.7.1", "two": "10.213.7.2", "three": "10.213.7.3"}
PORT = 23457
SECRET = "of the two hosts, and long enough"
THIRD = """
import itertools, socket, sys, time
from cnnc.backends.jax.distributed.authentication import Mistrusted, greet
targets = [target.split(":") for target in sys.argv[1].split(",")]
ends = time.monotonic() + float(sys.argv[2])
nonsense = [b"[" * 200_000, b'{"join": Infinity, "of": 2, "place": "x"}\\n' * 4, b"GET / HTTP/1.1\\r\\n\\r\\n" * 9,
    b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" * 4, bytes(1 << 20)]
held, tried = [], 0
for turn in itertools.count():
    if time.monotonic() > ends:
        break
    try:
        host, port = targets[turn // 15 % len(targets)]
        connection = socket.create_connection((host, int(port)), timeout=1)
    except OSError:
        time.sleep(0.05)
        continue
    tried += 1
    try:
        if turn % 3 == 0:
            greet(connection, b"another secret, long enough", time.monotonic() + 1)
        elif turn % 3 == 1:
            connection.sendall(nonsense[turn // 3 % len(nonsense)])
        held.append(connection)
    except (Mistrusted, OSError):
        connection.close()
    if len(held) > 300:
        held.pop(0).close()
    time.sleep(0.002)
print(tried)
"""
"""What the third host does, for so many seconds: at most 500 connections a second, of which 300 stay open."""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, str]]:
    """The namespace of each host."""
    if shutil.which("ip") is None or os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root makes network namespaces, by `ip`")
    names = {host: f"cnnc{os.getpid()}{host}" for host in (*HOSTS, "bridge")}
    try:
        try:
            for name in names.values():
                _ip("netns", "add", name)
            bridge = names["bridge"]
            _ip("-n", bridge, "link", "add", "br0", "type", "bridge")
            _ip("-n", bridge, "link", "set", "br0", "up")
            for number, (host, address) in enumerate(HOSTS.items()):
                own, inner = names[host], f"port{number}"
                _ip("-n", own, "link", "add", "eth0", "type", "veth", "peer", "name", inner, "netns", bridge)
                _ip("-n", bridge, "link", "set", inner, "master", "br0", "up")
                _ip("-n", own, "addr", "add", f"{address}/24", "dev", "eth0")
                for link in ("lo", "eth0"):
                    _ip("-n", own, "link", "set", link, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
        yield names
    finally:
        for name in names.values():
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)


def start(namespace: str, *command: str, secret: str = SECRET) -> subprocess.Popen[str]:
    """A Python process on a host."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1", "CNNC_SECRET": secret}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.Popen(
        ["ip", "netns", "exec", namespace, sys.executable, *command],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def case(hosts: dict[str, str], index: int, name: str, *arguments: str, secret: str = SECRET) -> subprocess.Popen[str]:
    """A process of a case of `process_cases`, on the host of its number; the first is the coordinator's."""
    where = f"{HOSTS['one']}:{PORT}"
    host = hosts[[*HOSTS][index]]
    return start(host, "-m", "tests.support.process_cases", where, "2", str(index), name, *arguments, secret=secret)


@pytest.mark.slow
@pytest.mark.fault("S4")
def test_two_hosts_end_with_equal_weights_whatever_a_third_sends(hosts: dict[str, str]) -> None:
    third = start(hosts["three"], "-c", THIRD, f"{HOSTS['one']}:{PORT}", "40")
    ended: list[Ended] = wait_for([*(case(hosts, index, "weights", "1") for index in range(2)), third])
    first, second, other = ended
    assert first.value["weights"] == second.value["weights"]
    assert first.value["losses"] == second.value["losses"]
    assert all(loss == loss for loss in first.value["losses"])
    assert int(other.out) > 100, other.err


@pytest.mark.slow
@pytest.mark.fault("S4")
def test_each_host_listens_on_the_address_by_which_they_meet_alone(hosts: dict[str, str]) -> None:
    if shutil.which("ss") is None:
        pytest.skip("there is no `ss`")
    running = [case(hosts, index, "weights", "40") for index in range(2)]
    seen: list[str] = []
    while any(process.poll() is None for process in running) and not any(HOSTS["two"] in place for place in seen):
        commands = [["ip", "netns", "exec", hosts[host], "ss", "-ltnH"] for host in ("one", "two")]
        tables = [subprocess.run(each, capture_output=True, text=True, check=True).stdout for each in commands]
        seen = [line.split()[3] for table in tables for line in table.splitlines() if line.strip()]
        time.sleep(0.2)
    open_places = [place for place in seen if "127.0.0.1" not in place]
    third = start(hosts["three"], "-c", THIRD, ",".join(open_places), "15")
    first, second, other = wait_for([*running, third])
    assert {place.rsplit(":", 1)[0] for place in open_places} == {HOSTS["one"], HOSTS["two"]}, seen
    assert f"{HOSTS['one']}:{PORT}" in open_places
    # What comes to the ports of the collectives, which know no secret, ends no training either.
    assert first.value["weights"] == second.value["weights"]
    assert int(other.out) > 20, other.err


@pytest.mark.slow
@pytest.mark.fault("S4")
def test_a_process_with_another_secret_is_told_so_and_ends_no_training(hosts: dict[str, str]) -> None:
    running = [case(hosts, 0, "weights", "1"), case(hosts, 1, "weights", "1", secret="another one, and long enough")]
    stranger = wait_for(running[1:])[0]
    assert stranger.code == 1
    assert f"`{HOSTS['one']}:{PORT}` is not trusted: the training there has a different secret" in stranger.err
    assert "Traceback" not in stranger.err
    first, second = wait_for([running[0], case(hosts, 1, "weights", "1")])
    assert first.value["weights"] == second.value["weights"]
