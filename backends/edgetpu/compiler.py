"""Google's edgetpu_compiler, run where it is installed: its outcome, set beside what was predicted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from cnnc.backends.edgetpu.compiler_log import Log, Row, parse_log
from cnnc.backends.edgetpu.prediction import Report
from cnnc.diagnostics import CnnError
from cnnc.frozen import dataclass
from cnnc.rendering.text_table import box
from cnnc.tflite_file.read import read_file
from cnnc.tflite_file.schema import OPERATORS
from cnnc.wording import reason_of

NAME: Final = "edgetpu_compiler"
TIMEOUT: Final = 300.0
"""Seconds. The compiler stops itself after 180 (version 16), earlier ones never."""
_LARGEST_LOG: Final = 8 * 2**20
_SHOWN_LINES: Final = 12


@dataclass(frozen=True)
class Outcome:
    """The compiler's result: the file it made and its log's figures, in bytes, as rounded as they are printed."""

    log: Log
    model: bytes
    text: str
    """All that it printed."""

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.log.rows


def find_compiler(given: Path | None = None) -> Path | None:
    """The compiler at a given path, else on the PATH; None where there is none.

    Raises:
        CnnError: `compiler`, when the given path is no program.
    """
    if given is None:
        found = shutil.which(NAME)
        return None if found is None else Path(found)
    found = shutil.which(str(given)) or shutil.which(str(given.absolute()))
    if found is None:
        raise CnnError.of("compiler", f"`{given}` is no program that can be run", help=how_to_get())
    return Path(found)


def how_to_get() -> str:
    """Where the compiler comes from."""
    return (
        f"{NAME} is Google's, and not open: a Debian package for Linux on x86-64\n"
        'echo "deb https://packages.cloud.google.com/apt coral-edgetpu-stable main" | '
        "sudo tee /etc/apt/sources.list.d/coral-edgetpu.list\n"
        "curl https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo apt-key add -\n"
        "sudo apt-get update && sudo apt-get install edgetpu-compiler\n"
        "elsewhere run it in a container or in Google Colab on the int8 file"
    )


def missing_message(model: str) -> str:
    """Advice where there is no compiler: what is missing, how to get it, and what to do then."""
    return (
        f"{NAME} is not on the PATH: the int8 model is made, and not compiled for the Edge TPU\n{how_to_get()}\n"
        f"then: {NAME} -s {model}"
    )


def run_compiler(model: bytes, compiler: Path, timeout: float = TIMEOUT) -> Outcome:
    """Compile an int8 model, in a folder that is removed, within a time.

    Args:
        model: the bytes of a TFLite file.
        compiler: the program, of `find_compiler`.
        timeout: seconds after which it and all that it started is killed.

    Raises:
        CnnError: `compiler`, when it cannot be run, fails, takes too long, or prints or writes what was not expected;
            the message holds what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="cnnc-edgetpu-") as name:
        folder = Path(name)
        source = folder / "model.tflite"
        source.write_bytes(model)
        code, text = _run([str(compiler), "-s", "-o", str(folder), str(source)], folder, timeout)
        log = parse_log(text)
        if code != 0 or log.failure is not None:
            raise _failed(code, log, text)
        if not log.rows:
            written = folder / "model_edgetpu.log"
            table = _read(written) if written.is_file() else ""
            log = parse_log(f"{text}\n{table}") if table else log
        if not log.succeeded or log.subgraphs is None:
            raise _unexpected("it ended without an error, and its log has no figures", text)
        compiled = folder / "model_edgetpu.tflite"
        if not compiled.is_file():
            raise _unexpected("it says that it succeeded, and wrote no `model_edgetpu.tflite`", text)
        data = compiled.read_bytes()
        try:
            read_file(data, compiled.name)
        except CnnError as error:
            raise _unexpected(f"what it wrote is no model: {error.diagnostics[0].message}", text) from None
        return Outcome(log, data, text)


def _run(command: list[str], folder: Path, timeout: float) -> tuple[int, str]:
    """The exit status and all output of a command, which gets no input, and is killed with its children if late."""
    output = folder / "output.txt"
    with output.open("wb") as stream:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            reason = reason_of(error)
            raise CnnError.of("compiler", f"`{command[0]}` cannot be run: {reason}", help=how_to_get()) from None
        try:
            reason_to_stop = _watch(process, output, timeout)
        finally:
            _kill(process)
    text = _read(output)
    if reason_to_stop is not None:
        raise CnnError.of(
            "compiler",
            f"{NAME} {reason_to_stop}",
            notes=_last_lines(text),
            help="a smaller input or fewer layers compile faster; a hanging compiler is a fault of its own",
        )
    return process.returncode, text


def _watch(process: subprocess.Popen[bytes], output: Path, timeout: float) -> str | None:
    """Wait for the end; why it has to be stopped before, or None."""
    end = monotonic() + timeout
    pause = 0.005
    while process.poll() is None:
        if monotonic() > end:
            return f"did not end within {timeout:g} s"
        if output.stat().st_size > _LARGEST_LOG:
            return f"printed more than {_LARGEST_LOG >> 20} MiB"
        sleep(pause)
        pause = min(2 * pause, 0.1)
    return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the compiler and what it started: it forks a child that compiles."""
    with suppress(ProcessLookupError, PermissionError):  # when all of the group have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(_LARGEST_LOG).decode("utf-8", "replace")


def _failed(code: int, log: Log, text: str) -> CnnError:
    if log.failure is not None:
        said = f"{NAME} failed: {log.failure}"
    elif code < 0:
        said = f"{NAME} was ended by {_signal(-code)}"
    else:
        said = f"{NAME} failed with exit status {code}"
    return CnnError.of("compiler", said, notes=_last_lines(text), help=_remedy(log.failure or ""))


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_REMEDIES: Final = (
    ("large activation", "use a smaller input: the chip has 3 MiB for activations"),
    ("Didn't find op", "write the operator in an older version: `cnnc check` names it"),
    ("static-sized", "convert the model for inputs of a fixed size"),
    ("not quantized", "quantise the whole model to 8 bits"),
    ("custom op", "build the layer from TFLite's own operators"),
    ("out of range", "build the layer from operators that TensorFlow 2.5 has"),
)


def _remedy(failure: str) -> str:
    for part, remedy in _REMEDIES:
        if part in failure:
            return remedy
    return "`cnnc check` on the int8 model may say why; version 16 of the compiler gives the best messages"


def _unexpected(reason: str, text: str) -> CnnError:
    return CnnError.of(
        "compiler",
        f"{NAME} did what was not expected: {reason}",
        notes=_last_lines(text),
        help="is it Google's edgetpu_compiler, of version 2 to 16?",
    )


def _last_lines(text: str) -> tuple[str, ...]:
    """The end of what was printed, for a message."""
    lines = [line.rstrip()[:200] for line in text.splitlines() if line.strip()]
    shown = ["".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line) for line in lines]
    return ("it printed nothing",) if not shown else tuple(f"it printed: {line}" for line in shown[-_SHOWN_LINES:])


@dataclass(frozen=True)
class Pairing:
    """Operators of a kind: how many were predicted on the Edge TPU and on the CPU, and how many are."""

    op: str
    predicted: tuple[int, int]
    actual: tuple[int, int]


@dataclass(frozen=True)
class Comparison:
    """A prediction beside the outcome. `bytes` are (predicted, actual) of cached and of streamed parameters."""

    pairings: tuple[Pairing, ...]
    cached_bytes: tuple[int | None, int | None]
    streamed_bytes: tuple[int | None, int | None]
    subgraphs: int | None

    @property
    def agrees(self) -> bool:
        """Whether each kind has as many operators on the Edge TPU and on the CPU as predicted."""
        return all(pairing.predicted == pairing.actual for pairing in self.pairings)


def compare(report: Report, outcome: Outcome) -> Comparison:
    """Set what was predicted and what the compiler did side by side. Custom operators are one kind to the compiler."""
    predicted: Counter[tuple[str, bool]] = Counter()
    for verdict in report.operators:
        predicted[verdict.op if verdict.op in OPERATORS else "CUSTOM", verdict.mapped] += 1
    actual: Counter[tuple[str, bool]] = Counter()
    for row in outcome.rows:
        actual[row.op, row.mapped] += row.count
    kinds = sorted({op for op, _ in (*predicted, *actual)})
    pairings = tuple(
        Pairing(op, (predicted[op, True], predicted[op, False]), (actual[op, True], actual[op, False])) for op in kinds
    )
    log, held = outcome.log, report.cost.parameters if report.cost else None
    return Comparison(
        pairings,
        (held.cached if held else None, log.cached_bytes),
        (held.streamed if held else None, log.streamed_bytes),
        log.subgraphs,
    )


def render_comparison(comparison: Comparison) -> str:
    """The comparison as text: a row for each kind of operator, then memory."""
    rows = [
        [each.op, *map(str, (*each.predicted, *each.actual)), "" if each.predicted == each.actual else "differs"]
        for each in comparison.pairings
    ]
    head = ["operator", "predicted TPU", "CPU", "compiled TPU", "CPU", ""]
    lines = [box(head, [rows], right=(1, 2, 3, 4))]
    for name, (predicted, actual) in (("cached", comparison.cached_bytes), ("streamed", comparison.streamed_bytes)):
        lines.append(f"{name} parameters: predicted {_mebibytes(predicted)}, compiled {_mebibytes(actual)}")
    verdict = "the prediction held" if comparison.agrees else "the prediction did not hold for all operators"
    return "\n".join([*lines, f"{verdict}; {comparison.subgraphs} Edge TPU subgraph(s)"]) + "\n"


def _mebibytes(count: int | None) -> str:
    return "nothing" if count is None else f"{count / 2**20:.2f} MiB"
