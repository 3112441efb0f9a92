"""docs/importing.md is true: its commands print what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc.weights.importing.matching.align import Evidence
from tests.support import weight_sources as made
from tests.support.calling import call
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "importing.md"
BLOCKS = re.compile(r"^```(cnn|text|console)(?: (\S+))?\n((?s:.*?))^```$", re.MULTILINE)

TORCHVISION = {
    "stem.conv1": "conv1",
    "stem.bn1": "bn1",
    "body.conv1": "layer1.conv1",
    "body.bn1": "layer1.bn1",
    "body.conv2": "layer1.conv2",
    "body.bn2": "layer1.bn2",
    "body.conv3": "layer1.downsample.0",
    "body.bn3": "layer1.downsample.1",
    "head.dense1": "fc",
}
KERAS = {
    "stem.conv1": "stem_conv",
    "stem.bn1": "stem_bn",
    "body.conv1": "block_2_conv",
    "body.bn1": "block_2_bn",
    "body.conv2": "block_3_conv",
    "body.bn2": "block_3_bn",
    "body.conv3": "block_0_conv",
    "body.bn3": "block_0_bn",
    "head.dense1": "predictions",
}
TORCH_WORDS = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the page speaks of."""
    from safetensors.numpy import save_file

    for _, name, text in BLOCKS.findall(PAGE.read_text(encoding="utf-8")):
        if name:
            (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    weights = made.noise(cnnc.load("tiny.cnn").graph, 0)
    theirs = {}
    for node, arrays in weights.items():
        for short, array in arrays.items():
            if short == "kernel":
                array = np.moveaxis(array, (-1, -2), (0, 1))
            word = "weight" if short == "kernel" else TORCH_WORDS.get(short, short)
            theirs[f"{TORCHVISION[node]}.{word}"] = np.ascontiguousarray(array)
    save_file(theirs, "theirs.safetensors")
    words = {"mean": "moving_mean", "variance": "moving_variance"}
    keras = {
        f"{KERAS[node]}/{words.get(short, short)}": array
        for node, arrays in weights.items()
        for short, array in arrays.items()
    }
    np.savez("unclear.npz", **keras)  # type: ignore[arg-type]  # arrays by name
    return tmp_path


def test_the_commands_print_what_the_page_shows(folder: Path, update_golden: bool) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for kind, _, text in BLOCKS.findall(page):
        if kind != "console":
            continue
        (command,) = re.findall(r"^\$ cnnc (.*)$", text, re.MULTILINE)
        result = call(*command.split())
        assert result.exit_code == (1 if "error[" in result.output else 0), result.output
        shown = f"$ cnnc {command}\n" + "".join(f"{line.rstrip()}\n" for line in result.output.splitlines())
        if update_golden:
            page = page.replace(text, shown)
        else:
            assert shown == text
    if update_golden:
        PAGE.write_text(page, encoding="utf-8")


def test_both_files_give_the_same_weights(folder: Path) -> None:
    graph = cnnc.load("tiny.cnn").graph
    for arguments in ("theirs.safetensors", "unclear.npz --map map.txt"):
        result = call("import-weights", "tiny.cnn", *arguments.split(), "-o", "ours.safetensors")
        assert result.exit_code == 0, result.output
        from cnnc.weights.weights_file import load_weights

        weights, facts = load_weights(folder / "ours.safetensors", graph)
        assert facts["source"] == arguments.split()[0]
        for node, arrays in made.noise(graph, 0).items():
            for short, array in arrays.items():
                np.testing.assert_array_equal(weights[node][short], array, f"{node}.{short}")


def test_all_evidence_is_explained() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for word in Evidence.__args__:  # type: ignore[attr-defined]  # a Literal's words
        assert f"| `{word}` |" in page


def test_all_options_are_explained() -> None:
    from cnnc.cli.import_weights import import_weights
    from cnnc.cli.show import show

    page = PAGE.read_text(encoding="utf-8")
    of_specs = {name for parameter in show.params for name in parameter.opts}
    for parameter in import_weights.params:
        for name in parameter.opts:
            if name.startswith("--") and name not in of_specs - {"--format", "--out"}:
                assert f"`{name}" in page, name


def test_lines_are_no_longer_than_elsewhere() -> None:
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        assert len(line) <= 120 or line.startswith(("|", "  = ", "at first values"))
