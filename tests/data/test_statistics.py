"""`cnnc data`: what it counts and measures is what the files hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnc.data.sources.data_set import DataSet, Examples
from cnnc.data.sources.folder import load_folder
from cnnc.data.statistics import inspect, normalize_line, unbalanced
from cnnc.diagnostics import CnnError
from cnnc.loading import load_text
from tests.support.calling import call
from tests.support.paths import SHARED
from tests.support.pictures import make_tree, noise, truncate


def run(*arguments: str, status: int = 0) -> str:
    done = call("data", *arguments)
    assert done.exit_code == status, done.output
    return done.stdout


def in_json(*arguments: str, status: int = 0) -> Any:
    return json.loads(run(*arguments, "--format", "json", status=status))


def tree(root: Path, sizes: Sequence[tuple[int, int]] = ((8, 8),)) -> Path:
    """A folder with parts; a train picture of every size more."""
    make_tree(root, {"train/a": 6, "train/b": 3, "val/a": 2, "val/b": 2})
    for i, size in enumerate(sizes):
        Image.fromarray(noise(*size, 3, seed=50 + i)).save(root / "train" / "a" / f"more{i}.png")
    return root


def test_statistics_are_those_of_all_pixels(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", [(4, 10), (20, 6)])
    (train, val), repeated = inspect(load_folder(root))
    pixels = [np.asarray(Image.open(path)).reshape(-1, 3) for path in sorted((root / "train").rglob("*.png"))]
    everything = np.concatenate(pixels)
    assert train.mean == pytest.approx(everything.mean(axis=0))
    assert train.deviation == pytest.approx(everything.std(axis=0))
    assert (train.part, train.count, train.counts) == ("train", 11, (8, 3))
    assert (val.part, val.count, val.counts) == ("val", 4, (2, 2))
    found = {(size.width, size.height, size.channels): size.count for size in train.sizes}
    assert found == {(8, 8, 3): 9, (10, 4, 3): 1, (6, 20, 3): 1}
    assert train.bytes == sum(path.stat().st_size for path in (root / "train").rglob("*.png"))
    assert repeated == []
    assert unbalanced(train.counts) == pytest.approx(8 / 3)


def test_a_large_picture_counts_by_its_size(tmp_path: Path) -> None:
    for name, shape, level in (("train/a/x.png", (1200, 700), 200), ("train/b/y.png", (300, 200), 20)):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(np.full((*shape, 3), level, np.uint8)).save(tmp_path / name)
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    (train, _), repeated = inspect(load_folder(tmp_path))
    assert train.mean[0] == pytest.approx((1200 * 700 * 200 + 300 * 200 * 20) / (1200 * 700 + 300 * 200), rel=1e-3)
    assert len(repeated) == 2


def test_the_line_normalizes(tmp_path: Path) -> None:
    (train, _), _ = inspect(load_folder(tree(tmp_path / "set")))
    net = load_text(f"model m {{\n input 8x8x3\n {normalize_line(train)} | relu\n}}\n")
    assert len(net.graph.nodes) == 3
    flat = Examples((np.full((4, 2, 2, 1), 7, np.uint8),), (np.arange(4),))
    assert normalize_line(inspect(DataSet("flat", flat, flat, flat))[0][0]) == "normalize(mean=[7.0], std=[1.0])"


@pytest.mark.skipif(not (SHARED / "data/mnist").is_dir(), reason="needs ../shared/data/mnist")
def test_mnist_has_the_published_mean_and_deviation() -> None:
    found = in_json("stats", "mnist", "--data-dir", str(SHARED / "data/mnist"))
    # 0.1307 and 0.3081 of 255, as in PyTorch's example.
    assert found["parts"][0]["mean"][0] / 255 == pytest.approx(0.1307, abs=1e-4)
    assert found["parts"][0]["deviation"][0] / 255 == pytest.approx(0.3081, abs=1e-4)
    assert found["parts"][0]["counts"]["1"] == 6742


def test_stats_are_printed(tmp_path: Path) -> None:
    text = run("stats", str(tree(tmp_path / "set", [(4, 10)])))
    assert "4 to 8 high" in text
    assert "the largest class has 2.3 times the training pictures of the smallest" in text
    assert text.splitlines()[-1].startswith("  normalize(mean=[")
    grey = in_json("stats", str(tmp_path / "set"), "--grey")
    assert len(grey["parts"][0]["mean"]) == 1
    assert grey["parts"][0]["counts"] == {"a": 7, "b": 3}


def test_verify_names_what_is_broken_and_what_is_in_two_parts(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    assert "14 pictures: 0 broken, 0 in two parts" in run("verify", str(root))
    truncate(root / "train/a/002.png")
    (root / "val/b/001.png").write_bytes(b"nothing")
    shutil.copy(root / "train/b/001.png", root / "val/b/000.png")
    text = run("verify", str(root), status=1)
    assert f"cannot decode `{root / 'train/a/002.png'}`" in text
    assert f"cannot decode `{root / 'val/b/001.png'}`: it is no picture of a known kind" in text
    assert f"`{root / 'val/b/000.png'}` (val) is the same picture as `{root / 'train/b/001.png'}` (train)" in text
    assert "14 pictures: 2 broken, 1 in two parts" in text
    found = in_json("verify", str(root), status=1)
    assert [each["name"] for each in found["broken"]] == [str(root / "train/a/002.png"), str(root / "val/b/001.png")]
    assert found["repeated"][0]["other_part"] == "train"
    (root / "val/b/notes.txt").touch()
    assert f"`{root / 'val/b/notes.txt'}` is not a picture of a kind that is read" in run("verify", str(root), status=1)
    assert in_json("stats", str(root))["parts"][1]["broken"] == [str(root / "val/b/001.png")]


def test_what_is_no_set_of_pictures_is_refused(tmp_path: Path) -> None:
    done = call("data", "stats", str(tmp_path / "gone"))
    assert done.exit_code == 1
    assert "there is no folder" in done.output
    signal = Examples((np.zeros((4, 10)),), (np.arange(4),))
    with pytest.raises(CnnError, match="the data are no pictures"):
        inspect(DataSet("signals", signal, signal, signal))


def test_sets_that_lack_a_class_are_infinitely_unbalanced() -> None:
    assert unbalanced([3, 0]) == unbalanced([]) == float("inf")
    assert unbalanced([4, 4]) == 1
