"""The test of learning rates: what it reads from a curve, what it finds for a network, what it refuses."""

from __future__ import annotations

import csv
from dataclasses import replace
from math import log10
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnc.cli.options.common import in_flags
from cnnc.data.sources.arrays import arrays_data_set
from cnnc.diagnostics import CnnError
from cnnc.loading import load_text
from cnnc.overrides import Overrides
from cnnc.training.initial_weights import initial_weights
from cnnc.training.rate_finder import Trial, find_rate, read_trials
from tests.support.calling import call
from tests.support.pictures import make_tree
from tests.support.training_cases import session_of

SPEC = """\
model tiny(classes=2) {
  input 8x8x3
  normalize(mean=128, std=64) | flatten | dense(4) | relu | dense(classes) | softmax
}

train {
  optimizer sgd
  batch     2
}
"""


def curve(falls_at: float, rises_at: float, *, count: int = 100, noise: float = 0.0) -> list[Trial]:
    """A loss that falls from 2.3 to 0.8 at one rate and rises at another, in steps from 1e-7 to 10."""
    rates = np.logspace(-7, 1, count)
    fall = 1.5 / (1 + np.exp(-4 * (np.log10(rates) - log10(falls_at))))
    losses = 2.3 - fall + 3 * (rates / rises_at) ** 2
    losses += np.random.default_rng(0).normal(0, noise, count)
    return [Trial(float(rate), float(loss), float(loss)) for rate, loss in zip(rates, losses, strict=True)]


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("falls_at", [1e-4, 3e-3, 3e-2])
def test_the_steepest_fall_is_found_where_it_is(falls_at: float, noise: float) -> None:
    found = read_trials(curve(falls_at, 1.0, noise=noise), 100)
    assert found.steepest == pytest.approx(falls_at, rel=0.7)


def test_the_limit_is_a_tenth_of_where_the_loss_is_back_where_it_began() -> None:
    # 0.8 + 3 (rate / 1)^2 = 2.3 at a rate of 0.71.
    assert read_trials(curve(3e-3, 1.0), 100).limit == pytest.approx(0.071, rel=0.35)


def test_where_the_loss_never_rises_there_is_no_limit() -> None:
    assert read_trials(curve(3e-3, 1e6), 100).limit is None


def test_a_test_that_ended_early_has_its_limit_there() -> None:
    tried = [*curve(3e-3, 1e6)[:70], Trial(0.5, float("nan"), float("nan"))]
    assert read_trials(tried, 100).limit == pytest.approx(0.05)


def test_a_loss_that_only_rises_recommends_nothing() -> None:
    tried = [Trial(each.rate, 2.3 + 0.01 * step, 0.0) for step, each in enumerate(curve(1.0, 1.0))]
    found = read_trials(tried, 100)
    assert found.steepest is None
    assert found.lowest is None


@pytest.mark.usefixtures("drawn_pictures")
def test_the_command_names_a_rate_that_trains(tmp_path: Path) -> None:
    (tmp_path / "tiny.cnn").write_text(SPEC)
    make_tree(tmp_path / "data", {"train/dark": 40, "train/light": 40, "val/dark": 5, "val/light": 5})
    result = call(
        "find-lr", tmp_path / "tiny.cnn", "--data", tmp_path / "data", "--steps", 60, "--out", tmp_path / "lr"
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    words = lines[-1].split()
    assert words[:2] == ["cnnc", "train"]
    rate = float(words[words.index("--lr") + 1])
    assert 1e-4 < rate < 1
    assert [line.split()[0] for line in lines if line.startswith("  ")][:2] == ["steepest", "lowest"]
    with (tmp_path / "lr" / "lr.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["lr", "loss", "smooth_loss"]
    assert float(rows[0]["lr"]) == pytest.approx(1e-7)
    assert 20 <= len(rows) <= 60
    with Image.open(tmp_path / "lr" / "lr.png") as image:
        assert image.size[0] > 600
    # And it is one that learns.
    trained = call(*words[1:], "--epochs", 2, "--out", tmp_path / "run")
    assert "100.00 % top-1" in trained.stdout


@pytest.mark.slow
def test_the_same_seed_finds_the_same(tmp_path: Path) -> None:
    net = load_text(SPEC)
    pictures = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)
    data = arrays_data_set(net.graph, (pictures, (np.arange(60) % 2).astype(np.int32)), None, seed=0)
    runs = []
    for _ in range(2):
        runs.append(find_rate(session_of(net, data), initial_weights(net, None)[0], steps=25))
    assert runs[0] == runs[1]
    # A step of two gathered batches sees both.
    gathering = replace(net, recipe=replace(net.recipe, batch=1, accumulate=2))
    two = find_rate(session_of(gathering, data), initial_weights(net, None)[0], steps=25)
    assert two.trials[0].loss == pytest.approx(runs[0].trials[0].loss, rel=1e-5)


def test_too_few_batches_say_what_would_do(tmp_path: Path) -> None:
    (tmp_path / "tiny.cnn").write_text(SPEC)
    make_tree(tmp_path / "data", {"train/dark": 12, "train/light": 12, "val/dark": 5, "val/light": 5})
    result = call("find-lr", tmp_path / "tiny.cnn", "--data", tmp_path / "data", "--batch", 8)
    assert result.exit_code == 1
    assert "2 epochs of 24 examples are 6 steps of 8, and at least 20 are wanted" in result.output
    assert "smaller batches: --batch 2" in result.output


def test_a_loss_that_is_no_number_from_the_start_is_no_rates_fault() -> None:
    net = load_text(SPEC)
    pictures = np.full((60, 8, 8, 3), np.nan, np.float32)
    data = arrays_data_set(net.graph, (pictures, (np.arange(60) % 2).astype(np.int32)), None, seed=0)
    with pytest.raises(CnnError, match="the loss is nan in step 1 already, at a learning rate of 1e-07") as caught:
        find_rate(session_of(net, data), initial_weights(net, None)[0], steps=25)
    assert caught.value.diagnostics[0].code == "diverged"


def test_flags_give_the_overrides_that_they_were_made_of() -> None:
    overrides = Overrides("b3", 1.0, None, 0.5, None, ((None, (96, 96, 3)), ("board", (19, 19))), (("classes", "10"),))
    assert in_flags(overrides) == [
        *("--variant=b3", "--phi=1.0", "--depth=0.5", "--input=96x96x3", "--input=board=19x19", "--set=classes=10")
    ]


def test_a_folder_that_is_taken_is_found_out_before_the_test(tmp_path: Path) -> None:
    (tmp_path / "tiny.cnn").write_text(SPEC)
    make_tree(tmp_path / "data", {"train/dark": 40, "train/light": 40, "val/dark": 5, "val/light": 5})
    result = call("find-lr", tmp_path / "tiny.cnn", "--data", tmp_path / "data", "--out", tmp_path / "data")
    assert result.exit_code == 1
    assert "is not empty, and a run overwrites nothing" in result.output
