"""What the README shows is true: its specs check, its commands run, its Python runs, its pictures are the tool's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnc import CnnError, load_text
from tests.support.calling import call
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(tag: str) -> list[str]:
    """The fenced blocks whose first line is the tag."""
    return re.findall(rf"^```{re.escape(tag)}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_resnet50_takes_eight_lines_and_meets_its_budget() -> None:
    (text,) = blocks("cnn")
    assert len([line for line in text.splitlines() if line]) <= 8
    assert load_text(text).graph.trainable_count == 25_557_032


def test_the_commands_run_in_the_order_they_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.cnn").write_text(blocks("cnn mine.cnn")[0])
    lines = [line.split("#")[0].split() for line in blocks("sh")[0].splitlines()]
    assert [line[1] for line in lines] == ["check", "show", "show", "train", "eval", "train"]
    for _, *arguments in lines:
        fewer = ["--epochs", "1"] if arguments[:2] == ["train", "mine.cnn"] else []
        result = call(*arguments, *fewer)
        assert result.exit_code == 0, result.output
    assert Path("runs/mine/exp1/results.png").is_file()
    compiled(blocks("sh")[1])


def compiled(commands: str) -> None:
    """Run the commands that compile the network that was trained; what does not depend on weights is as it is shown."""
    said: dict[str, str] = {}
    for line in commands.splitlines():
        arguments = line.split("#")[0].split()[1:]
        result = call(*arguments)
        assert result.exit_code == 0, result.output
        said.setdefault(arguments[0], result.stdout)
    (shown,) = (text for text in blocks("text") if "CONV_2D" in text)
    sure = [
        line for line in shown.splitlines() if not line.lstrip().startswith(("ranges", "chosen", "signal", "top-1"))
    ]
    printed = said["compile"].splitlines()
    assert [line for line in sure if line not in printed] == []
    assert [line[:7] for line in shown.splitlines()] == [line[:7] for line in printed][: len(shown.splitlines())]
    assert Path("mine.safetensors").is_file()


def test_the_python_runs() -> None:
    (code,) = blocks("python")
    names: dict[str, Any] = {"pictures": np.zeros((2, 32, 32, 3), np.float32)}
    exec(compile(code, "README.md", "exec"), names)
    assert names["probabilities"].shape == (2, 10)


MISFIT = """model mine {
  input 56x56x64

  resnet: [3, 4, 6, 3] x my_block
}

block my_block {
  # a shortcut that does not fit
  add {
    conv(1x1, 256) | bn
    identity
  }
}
"""


def test_the_message_is_what_check_says() -> None:
    with pytest.raises(CnnError) as caught:
        load_text(MISFIT, "mine.cnn")
    assert str(caught.value) + "\n" in blocks("text")


def test_every_command_is_in_the_table() -> None:
    from cnnc.cli import COMMANDS

    for name in COMMANDS:
        assert f"| `cnnc {name}" in README, name


def test_the_drawing_is_what_show_draws(tmp_path: Path) -> None:
    drawn = tmp_path / "resnet50.svg"
    assert call("show", "resnet50", "--graph", str(drawn)).exit_code == 0
    assert drawn.read_text() == (ROOT / "docs" / "resnet50.svg").read_text()
