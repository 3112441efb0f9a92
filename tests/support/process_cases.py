"""Trainings in several processes, for tests: `python -m tests.support.process_cases [HOST:]PORT COUNT INDEX CASE ...`.

Every process has as many devices as XLA_FLAGS says, and prints a JSON value of what its case found.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from cnnc.backends.jax.distributed.process_address import Place
from cnnc.backends.jax.distributed.processes import group_of
from cnnc.diagnostics import CnnError
from tests.support.device_cases import LARGE, SMALL, Training
from tests.support.paths import ROOT


@dataclass(frozen=True)
class Ended:
    """How a process ended, and how many seconds after the first of them began."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def value(self) -> Any:
        """What its case found."""
        assert self.code == 0, self.err
        return json.loads(self.out.splitlines()[-1])


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


def run_processes(case: str, arguments: Sequence[Sequence[str]], devices: int = 1, seconds: float = 240) -> list[Ended]:
    """How the processes of a case end, one for every list of arguments."""
    count, port = len(arguments), free_port()
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    running = []
    for index, own in enumerate(arguments):
        command = [sys.executable, "-m", "tests.support.process_cases", str(port), str(count), str(index), case, *own]
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=pipe, stderr=pipe))
    return wait_for(running, seconds)


def wait_for(running: Sequence[subprocess.Popen[str]], seconds: float = 240) -> list[Ended]:
    """How each ends. All are killed after so many seconds, which `Ended.code` then shows."""
    began, at = time.monotonic(), dict[int, float]()
    while len(at) < len(running) and time.monotonic() - began < seconds:
        for i, process in enumerate(running):
            if i not in at and process.poll() is not None:
                at[i] = time.monotonic() - began
        time.sleep(0.05)
    for process in running:
        if process.poll() is None:
            process.kill()
    found = [process.communicate() for process in running]
    return [
        Ended(process.returncode, out, err, at.get(i, seconds))
        for i, (process, (out, err)) in enumerate(zip(running, found, strict=True))
    ]


def curve(mesh: str, which: str, epochs: str) -> Any:
    """The losses of a training, its scores, and what this process reads."""
    training = Training({"small": SMALL, "large": LARGE}[which], mesh or "model=1")
    return {"losses": training.losses_of(int(epochs)), "scores": training.scores(), "part": training.devices.part}


def weights(epochs: str, seconds: str = "0") -> Any:
    """The losses of a training and a digest of all that it ends with; it then stays for some seconds."""
    import jax

    training = Training(SMALL, "model=1")
    losses = training.losses_of(int(epochs))
    leaves = [np.asarray(leaf.addressable_data(0)) for leaf in jax.tree.leaves(training.state)]
    time.sleep(float(seconds))
    return {"losses": losses, "weights": hashlib.sha256(b"".join(map(np.ndarray.tobytes, leaves))).hexdigest()}


def agree(facts: str) -> Any:
    """What is said when processes state facts."""
    GROUP[0].agree(json.loads(facts))
    return GROUP[0].share(facts)


def fail(when: str) -> Any:
    """One process stops for a reason of its own while the others train."""
    training = Training(SMALL, "model=1")
    training.losses_of(1)
    if when:
        raise CnnError.of("data", when)
    return training.losses_of(20)


def die(when: str) -> Any:
    """One process is killed while the others train, or hangs."""
    training = Training(SMALL, "model=1")
    training.losses_of(1)
    GROUP[0].resume = "cnnc train --resume runs/small/exp1"
    if when:
        os.kill(os.getpid(), getattr(signal, when))
    return training.losses_of(200)


def vote(stop: str) -> Any:
    """After how many steps every process sees that one of them wants to stop."""
    training = Training(SMALL, "model=1")
    votes = []
    for i in range(20):
        votes.append(training.devices.greatest(int(stop != "" and i >= int(stop))))
    return [int(each) for each in votes]


GROUP: list[Any] = []
CASES: Mapping[str, Callable[..., Any]] = {case.__name__: case for case in (curve, weights, agree, fail, die, vote)}


def end(error: CnnError) -> NoReturn:
    """Tell of an error, and end at once."""
    sys.stderr.write(str(error) + "\n")
    sys.stderr.flush()
    os._exit(1)


def main(port: str, count: str, index: str, case: str, *arguments: str) -> None:
    """Run a case as one process of several."""
    try:
        coordinator, seconds = (port, 120.0) if ":" in port else (f"localhost:{port}", 20.0)
        with group_of(Place(coordinator, int(count), int(index)), end, seconds) as group:
            GROUP.append(group)
            found = CASES[case](*arguments)
    except CnnError as error:
        end(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])


def enter(place: Place, seconds: float) -> None:
    """Meet the other processes at a place, and part from them."""

    def refuse_end(error: CnnError) -> NoReturn:
        raise AssertionError(error)

    with group_of(place, refuse_end, seconds):
        pass
