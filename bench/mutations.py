"""TFLite files changed at random, through every command that takes one: a table of what each said.

    python -m bench.mutations [--count 20000] [--seed 0] [--workers 2] [--case N] [../shared]

Ten files: six that others published, and four that are compiled here of a network that is trained here. A mutation
changes bytes, or the tables that they stand for. Whatever it is, a command does what it is asked or says what is wrong:
a signal, a traceback or a warning of NumPy's is a fault of ours, and is listed with its number for `--case`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from click.testing import CliRunner

from bench.damage import MUTATIONS
from cnnc.backends.tflite.litert import process
from cnnc.cli import main as cnnc
from cnnc.tflite_file.read import read_file

SHARED: Final = Path(__file__).parents[2] / "shared"
THEIRS: Final = ("audio_pre_int8", "go_iris", "micro_speech", "mnist_lstm_int8", "seanet_conv0", "sup_dilated")
SPEC: Final = """\
model tiny(classes=10) {
  input 8x8x1
  stem: conv(3x3, 4) | bn | relu | maxpool(2x2)
  body: add {
    depthwise(3x3) | conv(1x1, 4) | relu6
    identity
  }
  head: globalpool | dense(classes) | softmax
}

train {
  batch  64
  epochs 1
}
"""
OURS: Final = {
    "float": ("tflite",),
    "int8": ("tflite-int8",),
    "int8_float": ("tflite-int8", "--io", "float32"),
    "edgetpu": ("tflite-int8", "--io", "int8"),
}
"""The files that are made here: the target and its options."""
COMMANDS: Final = ("predict", "eval", "activations", "diff", "import-weights", "check")
SECONDS: Final = 20
"""That LiteRT may take for a file: the ten take milliseconds."""


@dataclass(frozen=True)
class Outcome:
    """What a command said of a mutation: in a word, and its message."""

    number: int
    subject: str
    mutation: str
    command: str
    word: str
    message: str

    @property
    def is_fault(self) -> bool:
        """Whether it is a fault of ours."""
        return self.word in (TRACEBACK, SIGNAL)


TRACEBACK: Final = "**traceback**"
SIGNAL: Final = "**signal**"
_WORDS: Final = (
    ("did what it was asked", r"^$"),
    ("the file is damaged", r"\[tflite\].*(is damaged|is no TFLite file|is empty|holds no graph|be unpacked)"),
    ("LiteRT refuses it", r"\[tflite\].*(is refused by LiteRT|cannot be run)"),
    ("LiteRT crashed, and it is said", r"\[tflite\].*(LiteRT crashed|LiteRT was)"),
    ("other sizes than it says", r"\[tflite\].*(LiteRT makes it|says that they are|no fixed size|another size)"),
    ("of another network or type", r"\[(tflite|weights|shape)\]"),
    ("takes or gives something else", r"\[(data|labels|picture|argument|device)\]"),
    ("not for the Edge TPU", r"\[target\]"),
)
"""What a message comes to, the first pattern that matches."""


def main() -> None:
    """Print the table, and every fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--case", type=int, help="run this one alone, and show what it says")
    parser.add_argument("shared", nargs="?", type=Path, default=SHARED)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        subjects = prepare(root, arguments.shared)
        if arguments.case is not None:
            print(run(root, subjects, arguments.seed, arguments.case))
            return
        outcomes = run_all(root, subjects, arguments.seed, arguments.count, arguments.workers)
    print(table(outcomes))
    faults = [each for each in outcomes if each.is_fault]
    for each in faults[:50]:
        print(f"{each.number}: {each.subject}, {each.mutation}, {each.command}: {each.word}\n{each.message}")
    sys.exit(1 if faults else 0)


def prepare(root: Path, shared: Path) -> dict[str, bytes]:
    """The files by name; in the folder a run, its spec, and what to feed each file. Those of `shared` where it is."""
    from PIL import Image

    (root / "tiny.cnn").write_text(SPEC)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)).save(root / "picture.png")
    _call("train", root / "tiny.cnn", "--data", "digits", "--out", root / "run")
    subjects = {}
    for name, (target, *options) in OURS.items():
        path = root / f"{name}.tflite"
        calibration = ("--calibrate", "digits") if target != "tflite" else ()
        _call("compile", root / "run", "--target", target, *options, *calibration, "-o", path)
        subjects[name] = path.read_bytes()
    for name in THEIRS:
        if (path := shared / "field" / "tflite" / f"{name}.tflite").is_file():
            subjects[name] = path.read_bytes()
    for name, data in subjects.items():
        shape = read_file(data).main[read_file(data).main.inputs[0]].shape[1:]
        np.save(root / f"{name}.npy", np.random.default_rng(0).integers(0, 100, shape).astype(np.float32))
    return subjects


def _call(*arguments: object) -> None:
    done = CliRunner().invoke(cnnc, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output


def run_all(root: Path, subjects: Mapping[str, bytes], seed: int, count: int, workers: int) -> list[Outcome]:
    """Every case, in processes that are started again when a signal ends them."""
    started = time.time()
    context = multiprocessing.get_context("spawn")
    begun = {worker: worker for worker in range(workers)}
    running: dict[int, Any] = {}
    outcomes: list[Outcome] = []
    while begun:
        for worker, first in list(begun.items()):
            if worker in running and running[worker].is_alive():
                continue
            log = root / f"{worker}.log"
            lines = log.read_text().splitlines() if log.exists() else []
            if worker in running:
                running[worker].join()
                if running[worker].exitcode == 0:
                    del begun[worker]
                    continue
                died = first + workers * len(lines)
                lines.append(
                    json.dumps([died, *_drawn(subjects, seed, died)[:3], SIGNAL, str(running[worker].exitcode)])
                )
                log.write_text("".join(f"{line}\n" for line in lines))
            next_one = first + workers * len(lines)
            running[worker] = context.Process(
                target=_work, args=(root, dict(subjects), seed, range(next_one, count, workers), log)
            )
            running[worker].start()
        time.sleep(1)
    for worker in range(workers):
        outcomes += [Outcome(*json.loads(line)) for line in (root / f"{worker}.log").read_text().splitlines()]
    used = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
    print(f"{len(outcomes):,} mutations in {time.time() - started:.0f} s, {used:.0f} s of processor time\n")
    return sorted(outcomes, key=lambda each: each.number)


def _work(root: Path, subjects: Mapping[str, bytes], seed: int, cases: Sequence[int], log: Path) -> None:
    process.SECONDS = SECONDS  # type: ignore[misc]  # so that the table comes to an end
    with log.open("a") as file:
        for number in cases:
            found = run(root, subjects, seed, number)
            file.write(json.dumps(list(vars(found).values())) + "\n")
            file.flush()


def run(root: Path, subjects: Mapping[str, bytes], seed: int, number: int) -> Outcome:
    """What a command says of a mutation; all of it follows from the seed and the number."""
    name, mutation, command, data = _drawn(subjects, seed, number)
    folder = root / f"work{os.getpid()}"
    folder.mkdir(exist_ok=True)
    path = folder / "m.tflite"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        done = CliRunner().invoke(cnnc, _arguments(command, root, folder, path, name))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        lines = "".join(traceback.format_exception(done.exception))
        return Outcome(number, name, mutation, command, TRACEBACK, lines[-1500:])
    said = (
        ""
        if done.exit_code == 0
        else next((each for each in done.output.splitlines() if "error[" in each), done.output)
    )
    word = next((word for word, pattern in _WORDS if re.search(pattern, said)), TRACEBACK)
    return Outcome(number, name, mutation, command, word, said.replace(str(path), "m.tflite")[:300])


def _arguments(command: str, root: Path, folder: Path, path: Path, name: str) -> list[str]:
    fed = root / f"{name}.npy"
    given: tuple[object, ...] = {
        "predict": (path, root / "picture.png"),
        "eval": (path, "--data", "digits"),
        "activations": (path, fed, "-o", folder / "page"),
        "diff": (root / "run", path, "--samples", "4"),
        "import-weights": (root / "tiny.cnn", path, "-o", folder / "w.safetensors", "--verify", root / "picture.png"),
        "check": (path, "--target", "edgetpu"),
    }[command]
    return [command, *map(str, given)]


def _drawn(subjects: Mapping[str, bytes], seed: int, number: int) -> tuple[str, str, str, bytes]:
    """The file, the mutation and the command of a case, and the file's bytes."""
    rng = np.random.default_rng((seed, number))
    name = sorted(subjects)[int(rng.integers(len(subjects)))]
    mutation = [*MUTATIONS][int(rng.integers(len(MUTATIONS)))]
    return name, mutation, COMMANDS[number % len(COMMANDS)], MUTATIONS[mutation](subjects[name], rng)


def table(outcomes: Sequence[Outcome]) -> str:
    """How often each command said what, as markdown."""
    counts = Counter((each.word, each.command) for each in outcomes)
    words = [word for word, _ in _WORDS] + [TRACEBACK, SIGNAL]
    lines = [["", *COMMANDS], ["---", *["---:"] * len(COMMANDS)]]
    lines += [[word, *(f"{counts[word, command]:,}" for command in COMMANDS)] for word in words]
    totals = [f"{sum(each.command == command for each in outcomes):,}" for command in COMMANDS]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, ["all", *totals]]) + "\n"


if __name__ == "__main__":
    main()
