"""Broken specs and what is said of them: `golden/*.cnn`, and `main.cnn` of each folder there, beside `.out`.

A first line `# flags: --width 0` holds options for `cnnc check`. `pytest --update-golden` writes the `.out` files anew;
read every one that changes.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cnnc.cli import main
from tests.support.paths import ROOT

GOLDEN = ROOT / "tests/language/golden"
CASES = sorted(p.relative_to(GOLDEN).as_posix() for p in (*GOLDEN.glob("*.cnn"), *GOLDEN.glob("*/main.cnn")))


def flags(text: bytes) -> list[str]:
    """The options that the first line of a golden gives."""
    first = text.split(b"\n", 1)[0].decode(errors="replace")
    return shlex.split(first.removeprefix("# flags:")) if first.startswith("# flags:") else []


def check(path: Path, *options: str) -> Result:
    """A run of `cnnc check`, which ends by itself whatever the spec."""
    result = CliRunner().invoke(main, ["check", str(path), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def diagnostics(path: Path, *options: str) -> list[dict[str, Any]]:
    """What `cnnc check --format json` says of a spec."""
    found = json.loads(check(path, *options, "--format", "json").stdout)
    assert found["ok"] == (not found["diagnostics"])
    listed: list[dict[str, Any]] = found["diagnostics"]
    return listed


@pytest.mark.parametrize("case", CASES)
def test_a_broken_spec_gets_its_diagnostics(case: str, update_golden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    path = Path(case)
    result = check(path, *flags(path.read_bytes()))
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    expected = path.with_suffix(".out")
    if update_golden:
        expected.write_text(result.stderr, encoding="utf-8")
    assert result.stderr == expected.read_text(encoding="utf-8")


def test_what_is_said_is_said_of_a_spec_that_is_there() -> None:
    said = {p.relative_to(GOLDEN).with_suffix(".cnn").as_posix() for p in GOLDEN.rglob("*.out")}
    assert said == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_json_tells_the_same_as_the_text(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    path = Path(case)
    said = path.with_suffix(".out").read_text(encoding="utf-8")
    found = diagnostics(path, *flags(path.read_bytes()))
    heads = re.findall(r"^error\[(\w+)\]: (.*)$", said, re.MULTILINE)
    assert [(d["code"], d["message"]) for d in found] == heads
    places = re.findall(r"^ *--> (.*)$", said, re.MULTILINE)
    assert [f"{d['file']}:{d['line']}:{d['column']}" for d in found if d["file"]] == places
    for d in found:
        assert set(d) == {"code", "message", "file", "line", "column", "end_line", "end_column", "help", "notes"}
        if d["file"] is not None:
            assert (d["line"], d["column"]) <= (d["end_line"], d["end_column"])
        assert d["help"] is None or d["help"].split("\n")[0] in said


def test_the_diagnostic_of_the_design_reads_as_it_says() -> None:
    lines = (GOLDEN / "shape_residual.out").read_text(encoding="utf-8").splitlines()
    assert lines == [
        "error[shape]: the branches of add do not agree: 56x56x256 and 56x56x64",
        "  --> shape_residual.cnn:9:3",
        "   |",
        " 9 |   add {",
        "   |   ^^^",
        "10 |     conv(1x1, 256) | bn",
        "   |     ------------------- 56x56x256",
        "11 |     identity",
        "   |     -------- 56x56x64",
        "   = in resnet.0.0, expanded from shape_residual.cnn:4:11: [3, 4, 6, 3] x my_block",
        "   = help: project the shortcut: conv(1x1, 256) | bn",
    ]


PASTED = {
    "budget_params": ("params = 407051", "params = 407050"),
    "budget_macs_with_suffix": ("macs = 0.5M", "macs = 0.4M"),
    "budget_of_variant": ("params = 814000", "params = 814090"),
    "budget_relation": ("params > 10000", "params <= 10000"),
    "output_dead_end": ("dense(10)\n", "dense(10)\n  output head, side\n"),
    "output_dead_ends": ("output head", "output head, first, other"),
    "shape_1d_residual": ("identity", "conv(1, 16) | bn"),
    "shape_1d_valid_too_small": ("| conv(5, 16, padding=valid)", "| conv(5, 16, padding=same)"),
    "shape_3d_residual": ("identity", "conv(1x1x1, 8, stride=2) | bn"),
    "shape_3d_valid_too_small": ("padding=valid", "padding=same"),
    "shape_add_two_labels": ("add(left, right)", "fitted: right | conv(1x1, 64) | bn\nadd(left, fitted)"),
    "shape_concat_of_ranks": ("  conv(3x3, 8)", "  conv(3x3, 8) | flatten"),
    "shape_nested_calls": ("identity", "conv(1x1, 32) | bn"),
    "shape_residual": ("identity", "conv(1x1, 256) | bn"),
    "shape_residual_pool_and_channels": ("identity", "conv(1x1, 128, stride=2) | bn"),
    "shape_residual_stride": ("identity", "conv(1x1, 64, stride=2) | bn"),
    "syntax_equality": ("stride = 2", "stride == 2"),
    "syntax_size_with_blanks": ("224 x 224 x 3", "224x224x3"),
    "syntax_wrong_bracket": ("64]", "64)"),
    "train_output_without_loss": ("loss policy: cross_entropy", "loss policy: cross_entropy, value: mse"),
    "type_embedding_of_numbers": ("input 400", "input words 400 int"),
    "type_units_of_dims_in_block": ("kernel=3", "kernel: dims"),
}
"""What a help says to write, pasted into its golden in place of what stands there."""


@pytest.mark.parametrize("case", PASTED)
def test_a_help_that_is_pasted_mends_the_spec(case: str, tmp_path: Path) -> None:
    path = GOLDEN / f"{case}.cnn"
    broken, mended = PASTED[case]
    text = path.read_text(encoding="utf-8")
    assert broken in text
    spec = tmp_path / path.name
    spec.write_text(text.replace(broken, mended), encoding="utf-8")
    result = check(spec, *flags(path.read_bytes()))
    assert result.exit_code == 0, result.stderr


def _is_suggestion(diagnostic: dict[str, Any]) -> bool:
    return str(diagnostic["help"]).startswith("did you mean")


MISSPELT = [
    case
    for case in CASES
    if "/" not in case
    and re.findall("^error", (said := (GOLDEN / case).with_suffix(".out").read_text("utf-8")), re.M)
    and said.count("did you mean") == said.count("error[")
    and "--> --set" not in said
]
"""The goldens all of whose faults are misspelt names."""


@pytest.mark.parametrize("case", MISSPELT)
def test_the_name_that_was_meant_mends_the_spec(case: str, tmp_path: Path) -> None:
    lines = (GOLDEN / case).read_text(encoding="utf-8-sig").split("\n")
    for d in reversed(diagnostics(GOLDEN / case)):
        line, start, end = d["line"] - 1, d["column"] - 1, d["end_column"] - 1
        meant = re.fullmatch("did you mean `(.*)`\\?", d["help"])
        assert meant is not None
        lines[line] = lines[line][:start] + meant[1] + lines[line][end:]
    spec = tmp_path / case
    spec.write_text("\n".join(lines), encoding="utf-8")
    assert check(spec).exit_code == 0
