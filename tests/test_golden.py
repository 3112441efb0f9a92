"""Broken specs and what is said of them: `tests/golden/*.cnn`, and `main.cnn` of each folder there, beside `.out`.

A first line `# flags: --width 0` holds options for `cnnc check`. `pytest --update-golden` writes the `.out` files anew;
read every one that changes.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from cnnc.cli import main

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(p.relative_to(GOLDEN).as_posix() for p in (*GOLDEN.glob("*.cnn"), *GOLDEN.glob("*/main.cnn")))


def flags(text: bytes) -> list[str]:
    """The options that the first line of a golden gives."""
    first = text.split(b"\n", 1)[0].decode(errors="replace")
    return shlex.split(first.removeprefix("# flags:")) if first.startswith("# flags:") else []


def check(path: Path, *options: str) -> str:
    """What `cnnc check` says of a broken spec."""
    result = CliRunner().invoke(main, ["check", str(path), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize("case", CASES)
def test_a_broken_spec_gets_its_diagnostics(case: str, update_golden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    path = Path(case)
    said = check(path, *flags(path.read_bytes()))
    expected = path.with_suffix(".out")
    if update_golden:
        expected.write_text(said, encoding="utf-8")
    assert said == expected.read_text(encoding="utf-8")
