"""Google's edgetpu_compiler run by compile: beside the prediction, missing, or failing in every way."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from cnnc.backends.edgetpu import compiler
from tests.support.calling import call, good, refused
from tests.support.small_runs import CONVOLUTIONS, train_small


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of two classes, and a run trained on them."""
    return train_small(tmp_path_factory.mktemp("made"), CONVOLUTIONS)


def fake(path: Path, rows: Mapping[str, str], *, after: str = "") -> Path:
    """A program that stands for edgetpu_compiler 16: it maps the operators of its rows, and copies the model."""
    table = "\n".join(f"{op:<30} {status}" for op, status in rows.items())
    path.write_text(
        f"""#!/bin/sh
/bin/cp "$4" "$3/model_edgetpu.tflite"
/bin/cat <<END
Edge TPU Compiler version 16.0.384591198
Model compiled successfully in 42 ms.

On-chip memory used for caching model parameters: 1.25KiB
On-chip memory remaining for caching model parameters: 7.90MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1

Operator                       Count      Status

{table}
END
{after}
"""
    )
    path.chmod(0o755)
    return path


MAPPED = "Mapped to Edge TPU"
ROWS = {
    "QUANTIZE": f"2          {MAPPED}",
    "CONV_2D": f"1          {MAPPED}",
    "MAX_POOL_2D": f"1          {MAPPED}",
    "RESHAPE": f"1          {MAPPED}",
    "FULLY_CONNECTED": f"1          {MAPPED}",
    "SOFTMAX": f"1          {MAPPED}",
}
needs_shell = pytest.mark.skipif(os.name != "posix", reason="stands for a program by shell scripts")


@needs_shell
def test_the_compiler_on_the_path_is_run_and_its_outcome_set_beside_the_prediction(
    made: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty / "bin").mkdir()
    fake(empty / "bin/edgetpu_compiler", ROWS)
    monkeypatch.setenv("PATH", str(empty / "bin"))
    command = ("compile", made / "run", "--target", "edgetpu", "-o", "tiny.tflite")
    found = good(*command)["compiler"]
    assert (found["found"], found["as_predicted"], found["version"]) == (True, True, "16.0.384591198")
    assert (found["output"], found["subgraphs"]) == ("tiny_edgetpu.tflite", 1)
    assert Path("tiny_edgetpu.tflite").read_bytes() == Path("tiny.tflite").read_bytes()
    text = call(*command).stdout
    assert "the prediction held" in text
    assert text.endswith(f"wrote tiny_edgetpu.tflite, {found['bytes']:,} bytes\n")


@needs_shell
def test_what_was_not_predicted_is_told(made: Path, empty: Path) -> None:
    rows = {
        **ROWS,
        "SOFTMAX": "1          Operation is otherwise supported, but not mapped due to some unspecified limitation",
    }
    program = fake(empty / "other", rows)
    command = ("compile", made / "run", "--target", "edgetpu", "-o", "tiny.tflite", "--edgetpu-compiler", program)
    found = good(*command)["compiler"]
    assert found["as_predicted"] is False
    differing = [each["op"] for each in found["operators"] if each["predicted"] != each["actual"]]
    assert differing == ["SOFTMAX"]
    assert "the prediction did not hold for all operators" in call(*command).stdout


def test_without_the_compiler_it_says_how_to_get_it(made: Path, empty: Path) -> None:
    result = call("compile", made / "run", "--target", "edgetpu", "-o", "tiny.tflite")
    assert result.exit_code == 0
    assert "edgetpu_compiler is not on the PATH" in result.stdout
    assert "apt-get install edgetpu-compiler" in result.stdout
    assert result.stdout.endswith("then: edgetpu_compiler -s tiny.tflite\n")


@needs_shell
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'ERROR: no luck'; exit 3", "edgetpu_compiler failed"),
        ("kill -SEGV $$", "edgetpu_compiler was ended by SIGSEGV"),
        ("echo bananas", "edgetpu_compiler did what was not expected"),
        ("while :; do :; done", "edgetpu_compiler did not end within 0.3 s"),
        (None, "cannot be run: exec format error"),
    ],
)
def test_a_compiler_that_fails_leaves_the_int8_file(
    made: Path, empty: Path, script: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "run_compiler", partial(compiler.run_compiler, timeout=0.3))
    Path("fake").write_text("no program\n" if script is None else f"#!/bin/sh\n{script}\n")
    Path("fake").chmod(0o755)
    command = ("compile", made / "run", "--target", "edgetpu", "--ranges", "minmax", "-o", "tiny.tflite")
    said = refused("compiler", *command, "--edgetpu-compiler", "fake")
    assert message in said
    assert "= the int8 file is written: tiny.tflite" in said
    assert sorted(os.listdir()) == ["fake", "tiny.tflite"]


def test_what_is_no_program_is_told_before_the_work(made: Path, empty: Path) -> None:
    Path("text").write_text("no program\n")
    for name in ("gone", "text", "."):
        command = ("compile", made / "run", "--target", "edgetpu", "-o", "a.tflite", "--edgetpu-compiler", name)
        assert f"`{name}` is no program that can be run" in refused("compiler", *command)
    assert os.listdir() == ["text"]
