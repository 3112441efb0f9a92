"""What a build ships: every package, its data, and a wheel that works away from the repository."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cnnc
from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
MAPPED = {"cnnc.grammar": ROOT / "grammar", "cnnc.specs": ROOT / "specs", "cnnc.backends": ROOT / "backends"}


def _packages() -> set[str]:
    """The folders that hold modules, by the names that these are imported under."""
    found = set()
    for package, folder in {"cnnc": ROOT / "cnnc", **MAPPED}.items():
        for path in folder.rglob("*.py"):
            inside = path.parent.relative_to(folder).parts
            if package != "cnnc" or not (ROOT / "cnnc" / inside[0] if inside else ROOT).is_symlink():
                found.add(".".join([package, *inside]))
    return found


def test_every_folder_of_modules_is_packaged() -> None:
    assert set(SETUPTOOLS["packages"]) == _packages()


def test_links_and_package_map_agree() -> None:
    assert {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items() if name != "cnnc"} == MAPPED
    for name, folder in MAPPED.items():
        link = ROOT / name.replace(".", "/")
        assert link.is_symlink()
        assert link.resolve() == folder.resolve()


def test_every_data_file_is_packaged() -> None:
    for package, patterns in SETUPTOOLS["package-data"].items():
        folder = ROOT.joinpath("cnnc", *package.split(".")[1:])  # through the links
        files = {path for path in folder.iterdir() if path.is_file() and path.suffix not in (".py", ".pyc", ".md")}
        assert files == {path for pattern in patterns for path in folder.glob(pattern)}


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~;\[ ]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


TORCH = {"torch", "transformers"}
"""The extras that bring PyTorch, whose default build takes several gigabytes."""


def test_constraints_pin_what_is_asked_for_and_hold_no_address() -> None:
    lines = [
        line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = _names(PROJECT["project"]["dependencies"])
    wanted |= {name for extra, names in extras.items() if extra not in TORCH for name in _names(names)}
    assert wanted - _names(lines) == {"cnnc"}


def test_all_is_every_extra_but_torch() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    assert {*everything.removeprefix("cnnc[").removesuffix("]").split(",")} == {*extras} - {"all"} - TORCH


def test_the_version_is_stated_once() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert SETUPTOOLS["dynamic"]["version"] == {"attr": "cnnc.__version__"}


@pytest.mark.slow
def test_a_built_wheel_works_outside_the_repository(tmp_path: Path) -> None:
    source = tmp_path / "source"
    made = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")

    def ignored(folder: str, names: list[str]) -> set[str]:
        return made(folder, names) | ({"build", "dist", "runs", "tests", "docs"} if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    bin = tmp_path / "venv" / "bin"
    install = ["-m", "pip", "--disable-pip-version-check", "-q", "install", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([bin / "python", *install, wheel], check=True)

    def run(*arguments: str) -> str:
        done = subprocess.run([bin / "cnnc", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    assert run("--version") == f"cnnc {cnnc.__version__}\n"
    assert "25,557,032 parameters" in run("check", "resnet50")
    assert "efficientnet" in run("list")
    installed = subprocess.run(
        [bin / "python", "-c", "import cnnc; print(cnnc.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert installed.stdout.startswith(str(tmp_path))
