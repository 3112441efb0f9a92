"""Training in several processes: they train as one does, and none outlives another that is gone."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.device_cases import LARGE, SMALL, Training
from tests.support.paths import ROOT
from tests.support.process_cases import Ended, free_port, run_processes, wait_for

BOUND = 60.0
"""Seconds within which the others must have ended."""


@pytest.mark.slow
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
        pattern = f"cnnc.backends.jax.distributed.coordinator localhost {port} "
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
