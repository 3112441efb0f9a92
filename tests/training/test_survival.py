"""A training that is killed, again and again, ends as one that never was."""

from __future__ import annotations

import csv
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cnnc.runs.checkpoint import Checkpoints
from tests.support.paths import ROOT
from tests.support.pictures import make_tree

RESUMED = "cnnc train --resume"
FEW, MANY = 4, 80
"""Epochs of a training that is stopped once, and of one that is stopped again and again."""


class Case:
    """A run's folder, its data and the log of its batches."""

    def __init__(self, folder: Path, data: Path, epochs: int = FEW) -> None:
        self.epochs = epochs
        self.run, self.log, self.data = folder / "run", folder / "log", data
        folder.mkdir()

    def start(self) -> subprocess.Popen[str]:
        """Begin, or go on where there is something to go on from."""
        more = ["--resume"] if (self.run / "args.yaml").exists() else []
        if not more and self.run.exists():
            shutil.rmtree(self.run)  # it was killed before it noted what it is
        script = [
            sys.executable,
            "-m",
            "tests.support.training_process",
            str(self.run),
            str(self.data),
            str(self.log),
            str(self.epochs),
            *more,
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            script, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(self) -> None:
        process = self.start()
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, out + errors

    @property
    def batches(self) -> dict[str, set[str]]:
        """What every step of every epoch was given, as often as it was taken."""
        found: dict[str, set[str]] = {}
        for line in self.log.read_text().splitlines():
            epoch, step, *rest = line.split()
            found.setdefault(f"{epoch} {step}", set()).add(" ".join(rest))
        return found

    @property
    def rows(self) -> list[dict[str, str]]:
        """The lines of results.csv, but for the seconds that they took."""
        with (self.run / "results.csv").open() as file:
            return [{name: value for name, value in row.items() if name != "time"} for row in csv.DictReader(file)]

    def weights(self, which: str) -> bytes:
        return (self.run / f"weights/{which}.safetensors").read_bytes()

    def state(self) -> dict[str, bytes]:
        """Every array of the last checkpoint."""
        import orbax.checkpoint as orbax  # type: ignore[import-untyped]  # ships no types

        saved, told = Checkpoints(self.run / "checkpoints").newest()
        assert saved is not None
        assert not told
        with orbax.StandardCheckpointer() as checkpointer:
            arrays = checkpointer.restore((saved.path / "arrays").resolve())
        return {name: np.asarray(array).tobytes() for name, array in arrays.items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(
        tmp_path_factory.mktemp("data"), {"train/dark": 30, "train/light": 29, "val/dark": 5, "val/light": 6}
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Case:
    case = Case(tmp_path_factory.mktemp("undisturbed") / "case", data)
    case.finish()
    return case


@pytest.fixture(scope="module")
def long_undisturbed(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Case:
    case = Case(tmp_path_factory.mktemp("undisturbed") / "case", data, MANY)
    case.finish()
    return case


def require_same(case: Case, undisturbed: Case) -> None:
    assert case.batches == undisturbed.batches
    assert all(len(given) == 1 for given in case.batches.values())
    assert case.rows == undisturbed.rows
    assert case.weights("last") == undisturbed.weights("last")
    assert case.weights("best") == undisturbed.weights("best")
    assert case.state() == undisturbed.state()


def kill_at_random(case: Case, times: int, chance: random.Random) -> None:
    """Kill the training so often, at a random moment of its start, its steps, its evaluations or its writing."""
    for time_left in reversed(range(times)):
        before = case.log.stat().st_size if case.log.exists() else 0
        process = case.start()
        if chance.random() < 0.8:
            while process.poll() is None and (not case.log.exists() or case.log.stat().st_size == before):
                time.sleep(0.005)
            time.sleep(chance.random() * 0.4)
        else:
            time.sleep(chance.random() * 4)
        process.send_signal(signal.SIGKILL)
        out, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it ended with {time_left} kills to come: {out}{errors}"


def test_a_killed_training_ends_in_the_same_bits(tmp_path: Path, data: Path, undisturbed: Case) -> None:
    case = Case(tmp_path / "case", data)
    kill_at_random(case, 1, random.Random(1))
    case.finish()
    require_same(case, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_a_training_killed_twenty_times_ends_in_the_same_bits(
    seed: int, tmp_path: Path, data: Path, long_undisturbed: Case
) -> None:
    case = Case(tmp_path / "case", data, MANY)
    kill_at_random(case, 20, random.Random(seed))
    case.finish()
    require_same(case, long_undisturbed)


@pytest.mark.fault("S11")
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_sigterm_or_a_hangup_saves_and_exits_with_success(
    number: signal.Signals, tmp_path: Path, data: Path, undisturbed: Case
) -> None:
    case = Case(tmp_path / "case", data)
    process = case.start()
    while process.poll() is None and (not case.log.exists() or len(case.log.read_text().splitlines()) < 25):
        time.sleep(0.005)
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert re.search(r"stopped; saved up to epoch \d+(, step \d+)?\n", out), out
    assert f"go on with: {RESUMED} {case.run}\n" in out
    case.finish()
    require_same(case, undisturbed)


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="only root can make a small disk")
@pytest.mark.slow
def test_a_full_disk_ends_it_with_advice_and_it_goes_on_once_there_is_room(
    tmp_path: Path, data: Path, long_undisturbed: Case
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=420k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        case = Case(disk / "case", data, MANY)
        case.log = tmp_path / "log"
        process = case.start()
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        assert re.search(r"error\[run\]: cannot write .*no space left on device", errors, re.IGNORECASE), errors
        assert "make room on that disk" in errors
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        case.finish()
        require_same(case, long_undisturbed)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
