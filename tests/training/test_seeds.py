"""Several seeds in one command: which they are, what they come to, and one that fails among others."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from cnnc.diagnostics import CnnError
from cnnc.runs.events import Event, Message, Row
from cnnc.training.loop import TrainingResult
from cnnc.training.seed_sweep import parse_seeds, render_sweep, spread, sweep_seeds
from tests.support.calling import call
from tests.support.pictures import make_tree
from tests.support.small_runs import dense_text

SPEC = dense_text(epochs=2)


@pytest.mark.parametrize(
    ("text", "first", "seeds"),
    [("3", 0, (0, 1, 2)), ("2", 40, (40, 41)), ("0,5,7", 3, (0, 5, 7)), ("5,", 0, (5,)), ("7, 2", 0, (7, 2))],
)
def test_seeds_are_so_many_or_those(text: str, first: int, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text, first) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("three", "neither a number of seeds nor a list"),
        ("-1", "neither"),
        ("1,,2", "neither"),
        ("0", "not from 1 to 1,000"),
        ("1,2,1", "has the seed 1 twice"),
        ("99999999999", "neither"),
    ],
)
def test_what_is_no_seeds_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_seeds(text, 0)
    result = call("train", "mlp", "--data", "digits", "--seeds", text)
    assert result.exit_code == 2
    assert message in result.output


def test_a_list_and_another_seed_contradict() -> None:
    result = call("train", "mlp", "--data", "digits", "--seeds", "0,5", "--seed", "3")
    assert result.exit_code == 2
    assert "`--seeds` lists the seeds, and `--seed` gives another" in result.output


def test_the_spread_is_that_of_a_sample() -> None:
    values = [0.9, 0.93, 0.94, 0.91]
    assert spread(values) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    mean, deviation = spread([0.5])
    assert mean == 0.5
    assert np.isnan(deviation)


def row(epoch: int, top1: float | None, loss: float) -> Row:
    return Row(epoch, 1.0, 0.1, 1.0, None, loss, top1, None)


def test_one_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    def train(seed: int, folder: Path) -> TrainingResult:
        if seed == 1:
            raise CnnError.of("diverged", "the loss became nan in epoch 1, step 3 of 9")
        rows = (row(1, 0.8 + seed / 100, 0.5), row(2, 0.7, 0.6))
        return TrainingResult(folder, rows, rows[0], (), {})

    said: list[Event] = []
    found = sweep_seeds("net", (0, 1, 2), train, tmp_path / "all", said.append)
    assert [run.seed for run in found.failures] == [1]
    text = render_sweep(found)
    assert "82.00 %" in text
    assert "81.00 %" in text  # the mean of 80 and 82
    assert "1.41 %" in text
    assert "failed" in text
    assert Message("seed 1 failed: the loss became nan in epoch 1, step 3 of 9") in said
    with (tmp_path / "all" / "seeds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [line["seed"] for line in rows] == ["0", "1", "2", "mean", "standard deviation"]
    assert rows[1]["best_val_top1"] == ""
    assert rows[1]["error"].startswith("the loss became nan")
    assert float(rows[3]["best_val_top1"]) == pytest.approx(0.81)
    assert float(rows[3]["last_val_top1"]) == pytest.approx(0.7)
    assert float(rows[4]["best_val_top1"]) == pytest.approx(0.0141421, rel=1e-4)


def test_without_classes_there_are_losses_alone(tmp_path: Path) -> None:
    def train(seed: int, folder: Path) -> TrainingResult:
        rows = (row(1, None, 0.5 + seed),)
        return TrainingResult(folder, rows, rows[0], (), {})

    text = render_sweep(sweep_seeds("net", (0, 1), train, tmp_path / "all", lambda event: None))
    assert "top-1" not in text
    assert "1.0000" in text


def test_all_failing_has_no_mean(tmp_path: Path) -> None:
    def train(seed: int, folder: Path) -> TrainingResult:
        raise CnnError.of("data", "no")

    found = sweep_seeds("net", (4,), train, tmp_path / "all", lambda event: None)
    assert "nan" not in render_sweep(found)
    assert "nan" not in (tmp_path / "all" / "seeds.csv").read_text()


@pytest.mark.slow
def test_the_command_trains_each_as_it_would_alone(tmp_path: Path) -> None:
    (tmp_path / "tiny.cnn").write_text(SPEC)
    make_tree(tmp_path / "data", {"dark": 20, "light": 20})
    given = ("train", tmp_path / "tiny.cnn", "--data", tmp_path / "data")
    result = call(*given, "--seeds", "2", "--seed", "4", "--out", tmp_path / "all")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["seed4", "seed5", "seeds.csv"]
    assert "seed 5 (2 of 2)" in result.stdout
    assert call(*given, "--seed", "5", "--out", tmp_path / "alone").exit_code == 0
    weights = [(tmp_path / name / "weights/last.safetensors").read_bytes() for name in ("all/seed5", "alone")]
    assert weights[0] == weights[1]
    held_out = call("eval", tmp_path / "all" / "seed5")
    assert held_out.exit_code == 0, held_out.output


def test_a_seed_that_diverges_gives_status_1(tmp_path: Path) -> None:
    (tmp_path / "tiny.cnn").write_text(SPEC)
    make_tree(tmp_path / "data", {"train/dark": 12, "train/light": 12, "val/dark": 5, "val/light": 6})
    result = call(
        *("train", tmp_path / "tiny.cnn", "--data", tmp_path / "data", "--seeds", "2", "--lr", "1e38"),
        *("--epochs", "1", "--out", tmp_path / "all"),
    )
    assert result.exit_code == 1
    assert "seed 0 failed:" in result.output
    assert "seed 1 failed:" in result.output
    assert "error[diverged]" in result.output
