"""What the tool says and writes while its modules move: digests from before the first move. Goes with the last one.

`python -m tests.project.test_moves` writes them anew.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from cnnc.cli import COMMANDS
from tests.support.bundled import all_names
from tests.support.calling import call
from tests.support.paths import ROOT

PINS = Path(__file__).with_name("moves.json")
SMALL = ("mlp", "mnist_cnn", "cifar_cnn", "mobilenet_v2_w35", "shufflenet_v2_x05", "squeezenet_v11", "voxnet")
COMPILED = (
    *("mlp", "mnist_cnn", "cifar_cnn", "resnet_cifar"),
    *("mobilenet_v1_w25", "mobilenet_v2_w35", "mobilenet_v3_small", "shufflenet_v2_x05", "squeezenet_v11", "resnet18"),
)
TARGETS = {"tflite": ".tflite", "tflite-int8": ".tflite", "edgetpu": ".tflite", "jax": ".py", "stablehlo": ".mlir"}


def digest(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


def helps() -> dict[str, str]:
    return {name: digest(call(*name.split(), "-h").stdout) for name in ("", *COMMANDS)}


def shown(names: Iterable[str]) -> dict[str, str]:
    return {name: digest(call("show", name, "--format", "json").stdout) for name in names}


def compiled(names: Iterable[str], targets: Iterable[str]) -> dict[str, str]:
    """The digests of files with random weights; what LiteRT measures for these differs from processor to processor."""
    return {f"{name} {target}": _compiled(name, target) for name in names for target in targets}


def _compiled(name: str, target: str) -> str:
    options = [] if name in SMALL[:3] else ["--input", "64x64x3"]
    if target in ("tflite-int8", "edgetpu"):
        options += ["--samples", "2", "--ranges", "minmax"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"net{TARGETS[target]}"
        result = call("compile", name, "--random-weights", "--target", target, "-o", path, *options)
        assert result.exit_code == 0, result.output
        return digest(b"".join(each.read_bytes() for each in sorted(Path(folder).iterdir())))


def names_of_tests() -> list[str]:
    """The names of all tests, slow ones too, without the module and what they are run with."""
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", "tests"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = {line.split("[")[0].rpartition("::")[2] for line in said.splitlines() if "::" in line}
    return sorted(hashlib.sha256(name.encode()).hexdigest()[:8] for name in names)


def pins() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(PINS.read_text())
    return found


def test_helps_are_as_they_were() -> None:
    assert helps() == pins()["helps"]


@pytest.mark.parametrize("names", [SMALL, pytest.param(tuple(all_names()), marks=pytest.mark.slow)], ids=["few", "all"])
def test_graphs_are_as_they_were(names: tuple[str, ...]) -> None:
    kept = pins()["shown"]
    assert shown(names) == {name: kept[name] for name in names}


@pytest.mark.slow
def test_files_are_as_they_were() -> None:
    assert compiled(COMPILED, TARGETS) == pins()["compiled"]


@pytest.mark.slow
def test_no_test_is_lost() -> None:
    assert set(json.loads(PINS.read_text())["tests"]) <= set(names_of_tests())


if __name__ == "__main__":
    found = {"helps": helps(), "shown": shown(all_names()), "compiled": compiled(COMPILED, TARGETS)}
    PINS.write_text(json.dumps({**found, "tests": names_of_tests()}, indent=1) + "\n")
