"""The driver of edgetpu_compiler: recorded logs of the real one, and scripts that stand for it and misbehave.

The logs are those that users posted; the number is the issue of google-coral/edgetpu.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from time import monotonic, sleep

import pytest

from cnnc.backends.edgetpu.compiler import (
    compare,
    find_compiler,
    how_to_get,
    missing_message,
    render_comparison,
    run_compiler,
)
from cnnc.backends.edgetpu.compiler_log import Row, parse_log
from cnnc.backends.edgetpu.prediction import check
from cnnc.diagnostics import CnnError
from cnnc.tflite_file.program import File
from cnnc.tflite_file.write import write_file
from tests.support.tflite_programs import one_operator, tensor

pytestmark = pytest.mark.skipif(os.name != "posix", reason="stands for a program by shell scripts")

SIXTEEN = """\
Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 542 ms.

Input model: quantized_model.tflite
Input size: 4.04MiB
Output model: quantized_model_edgetpu.tflite
Output size: 4.13MiB
On-chip memory used for caching model parameters: 604.50KiB
On-chip memory remaining for caching model parameters: 511.50KiB
Off-chip memory used for streaming uncached model parameters: 3.45MiB
Number of Edge TPU subgraphs: 1
Total number of operations: 50
Operation log: quantized_model_edgetpu.log
See the operation log file for individual operation details.
Compilation child process completed within timeout period.
Compilation succeeded!
"""
"""572."""

TABLE = """
Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will \
instead run on the CPU, which is slower. If possible, consider updating your model to use only operations supported by \
the Edge TPU. For details, visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: 261
Number of operations that will run on CPU: 6

Operator                       Count      Status

DEQUANTIZE                     2          Operation is working on an unsupported data type
DEPTHWISE_CONV_2D              80         Mapped to Edge TPU
LOGISTIC                       1          Operation is otherwise supported, but not mapped due to some unspecified \
limitation
CONCATENATION                  1          Mapped to Edge TPU
CONCATENATION                  1          More than one subgraph is not supported
Compilation child process completed within timeout period.
Compilation succeeded!
"""
"""490."""

OLD = """\
Edge TPU Compiler version 2.1.302470888

Model compiled successfully in 12264 ms.

Input model: model2.tflite
Input size: 8.11MiB
Output model: model2_edgetpu.tflite
Output size: 9.47MiB
On-chip memory used for caching model parameters: 6.86MiB
On-chip memory remaining for caching model parameters: 7.75KiB
Off-chip memory used for streaming uncached model parameters: 1.22MiB
Number of Edge TPU subgraphs: 1
Total number of operations: 93
Operation log: model2_edgetpu.log
"""
"""60."""

FAILURES = {
    "large activation tensors": """\
Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
ERROR: Restored original execution plan after delegate application failure.
Compilation failed: Compilation failed due to large activation tensors in model.
Compilation child process completed within timeout period.
Compilation failed!\x20
""",  # 439
    "only supports static-sized tensors": """\
Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has dynamic-sized tensors.
Compilation failed: Model failed in Tflite interpreter. Please ensure model can be loaded/run in Tflite interpreter.
Compilation child process completed within timeout period.
Compilation failed!\x20
""",  # 829
    "Didn't find op for builtin opcode 'TRANSPOSE_CONV' version '4'": """\
Edge TPU Compiler version 16.0.384591198
ERROR: Didn't find op for builtin opcode 'TRANSPOSE_CONV' version '4'. An older version of this builtin might be \
supported. Are you using an old TFLite binary with a newer model?

ERROR: Registration failed.

Invalid model: model_full_integer_quant.tflite
Model could not be parsed
""",  # 845
    "Model not quantized": """\
Edge TPU Compiler version 14.1.317412892
Invalid model: my_mnist_quant.tflite
Model not quantized
""",  # 168
    "Internal compiler error. Aborting": """\
Edge TPU Compiler version 14.1.317412892

Internal compiler error. Aborting!\x20
""",  # 211
    "Compilation failed": """\
Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
Compilation child process completed within timeout period.
Compilation failed!\x20
""",  # 800
}


def test_figures_of_version_16() -> None:
    log = parse_log(SIXTEEN)
    assert log.succeeded
    assert (log.version, log.milliseconds, log.subgraphs, log.operations) == ("16.0.384591198", 542, 1, 50)
    assert (log.cached_bytes, log.remaining_bytes) == (619_008, 523_776)
    assert log.streamed_bytes == round(3.45 * 2**20)
    assert log.output_bytes == round(4.13 * 2**20)
    assert log.rows == ()


def test_figures_of_version_2() -> None:
    log = parse_log(OLD)
    assert log.succeeded
    assert (log.version, log.milliseconds, log.subgraphs) == ("2.1.302470888", 12264, 1)
    assert log.cached_bytes == round(6.86 * 2**20)


def test_the_table_of_operators() -> None:
    rows = parse_log(SIXTEEN + TABLE).rows
    assert [(row.op, row.count) for row in rows if row.mapped] == [("DEPTHWISE_CONV_2D", 80), ("CONCATENATION", 1)]
    assert rows[0] == Row("DEQUANTIZE", 2, "Operation is working on an unsupported data type")
    assert len(rows) == 5


@pytest.mark.parametrize("reason", FAILURES)
def test_failures_are_read_out_of_logs(reason: str) -> None:
    log = parse_log(FAILURES[reason])
    assert not log.succeeded
    assert log.failure is not None
    assert reason in log.failure


def test_a_search_that_succeeds_at_last_has_succeeded() -> None:
    """`-d`, as in 608 and 671."""
    log = parse_log(FAILURES["large activation tensors"] + "Try to compile segment with 533 ops\n" + SIXTEEN)
    assert log.succeeded
    assert log.milliseconds == 542


@pytest.mark.parametrize(("digits", "known"), [(12, True), (13, False)])
def test_figures_of_twelve_digits_are_read(digits: int, known: bool) -> None:
    """Longer ones are no figures of a compiler's, and Python takes a long time over them."""
    figure = "9" * digits
    log = parse_log(
        f"Model compiled successfully in {figure} ms\nNumber of Edge TPU subgraphs: {figure}\n"
        f"Total number of operations: {figure}\nOutput size: {figure}KiB\n"
    )
    number = int(figure) if known else None
    assert (log.milliseconds, log.subgraphs, log.operations) == (number,) * 3
    assert log.output_bytes == (int(figure) * 1024 if known else None)


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("7B", 7),
        ("1.5KiB", 1536),
        ("2.25MiB", 2_359_296),
        ("1GiB", 2**30),
        ("1.123456KiB", 1150),
        ("1.1234567KiB", None),
    ],
)
def test_sizes_have_units(size: str, count: int | None) -> None:
    assert parse_log(f"Output size: {size}\n").output_bytes == count


@pytest.mark.parametrize("text", ["", "hello\n", "\x00\xff" * 50, "Operator Count Status\n", "Output size: 9" * 99])
def test_any_text_is_a_log_that_says_little(text: str) -> None:
    assert not parse_log(text).succeeded


MODEL = write_file(File((one_operator("RELU", [tensor("x", (1, 8), "INT8", 0.5)], tensor("y", (1, 8), "INT8", 0.5)),)))
RELU_TABLE = "\nOperator                       Count      Status\n\nRELU                           1          {}\n"


def script(folder: Path, body: str) -> Path:
    """A program at a path: `$2`, of `-s -o FOLDER MODEL`, is `-o`."""
    path = folder / "edgetpu_compiler"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def printing(text: str) -> str:
    return f"printf '%s' {shlex.quote(text)}"


def test_a_success_gives_the_compiled_model(tmp_path: Path) -> None:
    body = 'test "$1 $2" = "-s -o" || exit 9; cp "$4" "$3/model_edgetpu.tflite"\n'
    compiler = script(tmp_path, body + printing(SIXTEEN + RELU_TABLE.format("Mapped to Edge TPU")))
    outcome = run_compiler(MODEL, compiler)
    assert outcome.model == MODEL
    assert outcome.rows == (Row("RELU", 1, "Mapped to Edge TPU"),)


def test_the_table_may_be_in_the_log_file(tmp_path: Path) -> None:
    table = printing(RELU_TABLE.format("Mapped to Edge TPU"))
    body = f'cp "$4" "$3/model_edgetpu.tflite"; {table} > "$3/model_edgetpu.log"\n'
    assert len(run_compiler(MODEL, script(tmp_path, body + printing(SIXTEEN))).rows) == 1


@pytest.mark.parametrize("reason", FAILURES)
@pytest.mark.parametrize("status", [0, 1])
def test_a_failure_says_what_the_compiler_said(tmp_path: Path, reason: str, status: int) -> None:
    compiler = script(tmp_path, f"{printing(FAILURES[reason])}; exit {status}")
    with pytest.raises(CnnError) as caught:
        run_compiler(MODEL, compiler)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "compiler"
    assert reason in diagnostic.message
    assert any("Edge TPU Compiler version" in note for note in diagnostic.notes)
    assert diagnostic.help


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("exit 3", "failed with exit status 3"),
        ("kill -SEGV $$", "was ended by SIGSEGV"),
        ("echo hello", "its log has no figures"),
        ("head -c 5000 /dev/urandom", "its log has no figures"),
        (printing(SIXTEEN), "wrote no `model_edgetpu.tflite`"),
        (f"{printing(SIXTEEN)}; echo nonsense > $3/model_edgetpu.tflite", "what it wrote is no model"),
        (f"{printing(SIXTEEN)}; : > $3/model_edgetpu.tflite", "what it wrote is no model"),
        pytest.param("yes", "printed more than 8 MiB", marks=pytest.mark.slow),
    ],
)
def test_what_no_one_expected_is_told(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(CnnError) as caught:
        run_compiler(MODEL, script(tmp_path, body))
    assert message in caught.value.diagnostics[0].message
    assert len(str(caught.value)) < 5000


def test_the_last_twelve_lines_are_told(tmp_path: Path) -> None:
    lines = [f"line {i} {'x' * 300}" for i in range(14)]
    with pytest.raises(CnnError) as caught:
        run_compiler(MODEL, script(tmp_path, printing("\n\n".join(lines))))
    assert list(caught.value.diagnostics[0].notes) == [f"it printed: {line[:200]}" for line in lines[2:]]


@pytest.mark.parametrize(
    ("failure", "help"),
    [
        ("large activation tensors", "smaller input"),
        ("Didn't find op", "older version"),
        ("Op builtin_code out of range", "TensorFlow 2.5"),
        ("static-sized", "fixed size"),
        ("not quantized", "8 bits"),
        ("custom op", "own operators"),
        ("Internal compiler error", "version 16"),
    ],
)
def test_a_failure_comes_with_its_remedy(tmp_path: Path, failure: str, help: str) -> None:
    text = next((text for text in FAILURES.values() if failure in text), f"ERROR: {failure}\n")
    with pytest.raises(CnnError) as caught:
        run_compiler(MODEL, script(tmp_path, f"{printing(text)}; exit 1"))
    assert help in str(caught.value.diagnostics[0].help)


def test_a_compiler_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    compiler = script(tmp_path, f"(while :; do echo . >> {shlex.quote(str(alive))}; sleep 0.05; done) & sleep 1000")
    started = monotonic()
    with pytest.raises(CnnError) as caught:
        run_compiler(MODEL, compiler, timeout=0.5)
    assert monotonic() - started < 20
    assert "did not end within 0.5 s" in caught.value.diagnostics[0].message
    size = alive.stat().st_size
    sleep(0.3)
    assert alive.stat().st_size == size


def test_a_child_that_outlives_the_compiler_does_not_hold_us_up(tmp_path: Path) -> None:
    started = monotonic()
    with pytest.raises(CnnError):
        run_compiler(MODEL, script(tmp_path, "sleep 1000 & exit 1"))
    assert monotonic() - started < 20


def test_a_file_that_is_no_program_cannot_be_run(tmp_path: Path) -> None:
    path = tmp_path / "edgetpu_compiler"
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    with pytest.raises(CnnError) as caught:
        run_compiler(MODEL, path)
    assert "cannot be run" in caught.value.diagnostics[0].message


def test_the_compiler_is_looked_for_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_compiler() is None
    compiler = script(tmp_path, "exit 0")
    assert find_compiler() == compiler
    assert find_compiler(compiler) == compiler
    with pytest.raises(CnnError) as caught:
        find_compiler(tmp_path / "none")
    assert "is no program that can be run" in caught.value.diagnostics[0].message


def test_a_missing_compiler_is_explained() -> None:
    text = missing_message("model.tflite")
    assert "edgetpu_compiler is not on the PATH" in text
    assert "coral-edgetpu-stable" in how_to_get()
    assert "x86-64" in text
    assert "edgetpu_compiler -s model.tflite" in text


@pytest.mark.parametrize("status", ["Mapped to Edge TPU", "Operation not supported"])
def test_prediction_and_outcome_stand_side_by_side(tmp_path: Path, status: str) -> None:
    body = f'cp "$4" "$3/model_edgetpu.tflite"\n{printing(SIXTEEN + RELU_TABLE.format(status))}'
    outcome = run_compiler(MODEL, script(tmp_path, body))
    report = check(File((one_operator("RELU", [tensor("x", (1, 8), "INT8", 0.5)], tensor("y", (1, 8), "INT8", 0.5)),)))
    comparison = compare(report, outcome)
    assert comparison.agrees is (status == "Mapped to Edge TPU")
    assert comparison.cached_bytes == (0, 619_008)
    text = render_comparison(comparison)
    assert ("differs" in text) is not comparison.agrees
    counts = ("1", "0") if comparison.agrees else ("0", "1")
    assert f"│ RELU     │             1 │   0 │ {counts[0]:>12} │   {counts[1]} │" in text
