"""docs/compiling.md names the options that there are, shows what check prints, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

from bench.tables import rows
from cnnc import specs
from tests.support.calling import call
from tests.support.paths import ROOT
from tests.support.small_runs import ELU


def test_the_manual_names_options_that_there_are() -> None:
    manual = (ROOT / "docs" / "compiling.md").read_text(encoding="utf-8")
    helps = "".join(call(command, "-h").stdout for command in ("compile", "check", "predict", "eval", "bench", "diff"))
    for option in sorted(set(re.findall(r"`(--?[a-z-]+)", manual))):
        assert option in helps, option
    for option in re.findall(r"^  (?:-o, )?(--[a-z-]+)", call("compile", "-h").stdout, re.MULTILINE):
        if option not in ("--variant", "--phi", "--width", "--depth", "--resolution", "--input", "--set"):
            assert option in manual, option


def test_the_manual_shows_what_check_prints(empty: Path) -> None:
    manual = (ROOT / "docs" / "compiling.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```console\n(.*?)^```", manual, re.MULTILINE | re.DOTALL)
    Path("net.cnn").write_text(ELU)
    command, *lines = shown.splitlines()
    result = call(*command.removeprefix("$ cnnc ").split())
    assert lines[0] in result.stdout.splitlines()
    assert result.stderr.splitlines() == lines[1:]


def test_links_of_the_manual_lead_somewhere() -> None:
    manual = (ROOT / "docs" / "compiling.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^#)]+)", manual):
        assert (ROOT / "docs" / target).exists(), target


def test_the_table_of_int8_has_every_spec_and_says_why_a_figure_is_low() -> None:
    manual = (ROOT / "docs" / "compiling.md").read_text(encoding="utf-8")
    figures = {name.strip("`"): [float(cell) for cell in cells] for name, _, *cells in rows(manual, "int8")}
    after = manual.partition("<!-- /int8 -->")[2].partition("\n## ")[0]
    for name in specs.names():
        assert any(each.startswith(name) for each in figures) or f"`{name}`" in after, name
    for name, (from_bytes, from_floats) in figures.items():
        assert from_bytes >= from_floats - 1, name
        assert from_bytes >= 12 or f"`{name}`" in after, name
