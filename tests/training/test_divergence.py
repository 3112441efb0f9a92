"""Losses that are no numbers: what ends a training, what is left out, and what is said of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cnnc.data.sources.data_set import DataSet, Examples
from cnnc.loading import load_text
from cnnc.net import Net
from cnnc.runs.events import Event
from cnnc.training.resume import resume
from cnnc.training.train import train
from tests.support.calling import error_of
from tests.support.pictures import make_tree
from tests.support.training_cases import SPEC, said, same, tiny, without_time


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train/dark": 13, "train/light": 12, "val/dark": 5, "val/light": 6}
    return make_tree(tmp_path_factory.mktemp("data"), counts)


def poisoned() -> DataSet:
    """Pictures of which the 11th is not finite."""
    x = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype(np.float32)
    y = (np.arange(40) % 2).astype(np.int32)
    good = Examples((x[:8],), (y[:8],))
    x = x.copy()
    x[11, 2, 3, 0] = np.inf
    return DataSet("made", Examples((x,), (y,)), good, good, ("a", "b"))


def floating() -> Net:
    """The network for values that are no pixels."""
    return load_text(SPEC.replace("  normalize(mean=128, std=64)\n", "").replace("  augment   flip\n", ""))


def test_a_bad_step_ends_the_training_and_is_explained(tmp_path: Path) -> None:
    message = error_of(lambda: train(floating(), poisoned(), out=tmp_path / "run"))
    assert "error[diverged]: the loss became nan in epoch 1, step" in message
    assert "the input `input` holds values that are not finite numbers" in message
    assert "example 11" in (tmp_path / "run/bad_batch.txt").read_text().splitlines()
    assert f"or without such steps: cnnc train --resume {tmp_path / 'run'} --on-nan skip" in message
    assert "the run is saved up to epoch" in message


def test_bad_steps_are_left_out_and_counted(tmp_path: Path) -> None:
    events: list[Event] = []
    whole = train(floating(), poisoned(), on_nan="skip", out=tmp_path / "whole", report=events.append)
    assert said(events).count(": left out. the step's examples: ") == 3
    assert "epoch 1: 1 of 5 steps left out" in said(events)
    assert all(np.isfinite(array).all() for arrays in whole.weights.values() for array in arrays.values())


def test_one_that_was_stopped_goes_on_without_the_bad_step(tmp_path: Path) -> None:
    whole = train(floating(), poisoned(), on_nan="skip", out=tmp_path / "whole")
    data = poisoned()
    assert isinstance(data.train, Examples)
    arrays = (data.train.inputs[0], data.train.targets[0])
    held = (data.val.inputs[0], data.val.targets[0])  # type: ignore[union-attr]
    error_of(lambda: train(floating(), arrays, held, out=tmp_path / "run"))
    trained = resume(tmp_path / "run", arrays, held, on_nan="skip")
    assert without_time(trained) == without_time(whole)
    assert same(trained.weights, whole.weights)


@pytest.mark.slow
@pytest.mark.fault("T")
def test_one_that_was_stopped_in_a_later_epoch_goes_on_at_the_right_step(tmp_path: Path) -> None:
    net = load_text(floating().text.replace("flatten\n", "flatten | dropout(0.5)\n"))  # drawn anew at every step
    data = poisoned()
    assert isinstance(data.train, Examples)
    assert isinstance(data.val, Examples)
    arrays, held = (data.train.inputs[0], data.train.targets[0]), (data.val.inputs[0], data.val.targets[0])
    whole = train(net, arrays, held, on_nan="skip", out=tmp_path / "whole")
    train(net, arrays, held, on_nan="skip", epochs=1, out=tmp_path / "run")
    message = error_of(lambda: resume(tmp_path / "run", arrays, held, epochs=3, on_nan="stop"))
    assert "the loss became nan in epoch 2, step" in message
    trained = resume(tmp_path / "run", arrays, held, on_nan="skip")
    assert without_time(trained) == without_time(whole)
    assert same(trained.weights, whole.weights)


@pytest.mark.fault("T")
def test_a_validation_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    data = poisoned()
    assert isinstance(data.train, Examples)
    (x,), (y,) = data.train.inputs, data.train.targets
    good, bad = (x[12:], y[12:]), (x[8:12], y[8:12])
    for settings in ({}, {"on_nan": "skip"}):
        out = tmp_path / f"run{len(settings)}"
        message = error_of(lambda out=out, settings=settings: train(floating(), good, bad, out=out, **settings))  # type: ignore[misc]
        assert "error[diverged]: the validation loss became nan after epoch 1" in message
        assert "the run is saved up to" in message
        assert not (out / "results.csv").exists()


def test_a_rate_that_blows_up_names_a_layer(tmp_path: Path, data: Path) -> None:
    message = error_of(lambda: train(tiny(), data, lr=1e25, out=tmp_path / "run"))
    found = re.search(r"(first layer whose values are no finite numbers|that of) (is )?`(.+?)`", message)
    assert found, message
    assert found[3] in tiny().graph.by_name
    assert re.search(r"(dark|light)/0\d\d\.png", (tmp_path / "run/bad_batch.txt").read_text())


def test_too_many_bad_steps_end_it_all_the_same(tmp_path: Path) -> None:
    x = np.full((640, 8, 8, 3), np.nan, np.float32)
    y = (np.arange(640) % 2).astype(np.int32)
    message = error_of(lambda: train(floating(), (x, y), on_nan="skip", out=tmp_path / "run"))
    assert "the loss became nan in epoch 1, step 51 of 64, as in the 50 steps before" in message
    assert "the run is saved up to its start" in message
    few = error_of(lambda: train(floating(), (x[:60], y[:60]), on_nan="skip", out=tmp_path / "few"))
    assert "no loss was a number in epoch 1" in few


def test_statistics_that_overflow_are_named_where_loss_and_gradients_do_not(tmp_path: Path) -> None:
    net = load_text("input 4\nbn | dense(2) | softmax\ntrain {\n  batch 8\n  epochs 1\n}\n", "n.cnn")
    x = (1e30 * np.random.default_rng(0).normal(size=(16, 4))).astype(np.float32)
    y = (np.arange(16) % 2).astype(np.int32)
    message = error_of(lambda: train(net, (x, y), (x, y), out=tmp_path / "run"))
    assert "error[diverged]: the statistics of a batch norm are no numbers in epoch 1, step 1 of 2" in message
    assert "`bn1`" in message
