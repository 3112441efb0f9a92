"""Going on with a run: what is taken from it, what may be changed, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import yaml

import cnnc
from cnnc.diagnostics import CnnError
from cnnc.loading import load_text
from cnnc.runs.checkpoint import Checkpoints, _reason, lock
from cnnc.runs.events import EpochEnd, Event, Message, TrainingStart
from cnnc.runs.position import Means, Position
from cnnc.training.loop import TrainingResult
from cnnc.training.resume import resume
from cnnc.training.train import train
from cnnc.weights.weights_file import load_weights
from tests.support.calling import error_of
from tests.support.pictures import make_tree
from tests.support.training_cases import SPEC, said, same, stopped_at, tiny, without_time


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train/dark": 13, "train/light": 12, "val/dark": 5, "val/light": 6}
    return make_tree(tmp_path_factory.mktemp("data"), counts)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path) -> TrainingResult:
    """A training of the network from its first epoch to its last."""
    return train(tiny(), data, out=tmp_path_factory.mktemp("whole") / "run")


def copied(whole: TrainingResult, run: Path) -> Path:
    """A finished run to go on with, at a place of its own."""
    return Path(shutil.copytree(whole.folder, run))


# Going on


@pytest.mark.parametrize("step", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_stopped_run_ends_as_one_that_was_not(step: int, tmp_path: Path, data: Path, whole: TrainingResult) -> None:
    stopped_at(tiny(), data, tmp_path / "run", 2, step)
    events: list[Event] = []
    trained = resume(tmp_path / "run", report=events.append)
    assert f"{tmp_path / 'run'} goes on after epoch 2, step " in said(events)
    started = next(event for event in events if isinstance(event, TrainingStart))
    assert (started.epoch, started.step >= step) == (2, True)
    assert [event.row.epoch for event in events if isinstance(event, EpochEnd)] == [2, 3]
    assert without_time(trained) == without_time(whole)
    assert same(trained.weights, whole.weights)
    assert (trained.scores[0].confusion == whole.scores[0].confusion).all()  # type: ignore[union-attr]


@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_layers_that_thaw_later_are_as_they_were(epoch: int, tmp_path: Path, data: Path) -> None:
    settings: dict[str, Any] = {"freeze": ["first", "second"], "unfreeze": [(2, "second"), (3, "first")], "epochs": 4}
    whole = train(tiny(), data, out=tmp_path / "whole", **settings)
    stopped_at(tiny(), data, tmp_path / "run", epoch, **settings)
    assert same(resume(tmp_path / "run").weights, whole.weights)


def test_epochs_are_added(tmp_path: Path, data: Path, whole: TrainingResult) -> None:
    longer = train(tiny(epochs="5"), data, out=tmp_path / "longer")
    copied(whole, tmp_path / "run")
    message = error_of(lambda: resume(tmp_path / "run"))
    assert "is finished, with epoch 3" in message
    assert "add epochs: --epochs +10" in message
    trained = resume(tmp_path / "run", epochs="+2")
    assert same(trained.weights, longer.weights)
    assert without_time(trained) == without_time(longer)
    assert yaml.safe_load((tmp_path / "run/args.yaml").read_text())["train"]["epochs"] == 5
    for wrong in ("+0", "many", "-3", ""):
        assert "is no number of epochs" in error_of(lambda: resume(tmp_path / "run", epochs=wrong)), wrong  # noqa: B023


def test_one_that_was_killed_at_its_very_end_gets_its_last_files(tmp_path: Path, whole: TrainingResult) -> None:
    copied(whole, tmp_path / "run")
    for name in ("report.html", "confusion_matrix.png", "results.png"):
        (tmp_path / "run" / name).unlink()
    trained = resume(tmp_path / "run")
    assert same(trained.weights, whole.weights)
    for name in ("report.html", "confusion_matrix.png", "results.png"):
        assert (tmp_path / "run" / name).is_file(), name


def test_the_best_of_before_stays_the_best(tmp_path: Path, data: Path, whole: TrainingResult) -> None:
    train(tiny(epochs="2"), data, out=tmp_path / "run")
    trained = resume(tmp_path / "run", epochs=3, lr=20)
    best = max(whole.rows[:2], key=lambda row: (row.val_top1, -row.val_loss))
    assert trained.best.epoch == best.epoch
    assert trained.scores[0].top1 == best.val_top1


@pytest.mark.parametrize("damage", [pytest.param("lost", marks=pytest.mark.slow), "cut"])
def test_the_last_weights_stand_in_for_the_best_that_are_lost(damage: str, tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    train(tiny(epochs="2"), data, out=run)
    before = resume(run, epochs=3, lr=3).best.epoch
    assert before < 3
    best, told = run / "weights" / "best.safetensors", list[Event]()
    content = best.read_bytes()
    best.unlink()
    if damage == "cut":
        best.write_bytes(content[: len(content) // 2])
    trained = resume(run, epochs=4, report=told.append)
    assert trained.best.epoch == 4
    (line,) = (event.text for event in told if isinstance(event, Message) and "are lost" in event.text)
    why = {"lost": "there is no file", "cut": "cannot read"}[damage]
    assert re.fullmatch(f"the weights of epoch {before}, the best, are lost: {why} .*; epoch 4 stands in for it", line)
    weights, metadata = load_weights(best, tiny().graph)
    assert metadata["epoch"] == "4"
    assert same(weights, trained.weights)


@pytest.mark.fault("T")
def test_arrays_are_given_again(tmp_path: Path) -> None:
    """With a seed that is not the first: it decides which of them are held out, too."""
    x = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)
    y = np.arange(30) % 2
    whole = train(tiny(), (x, y), seed=7, out=tmp_path / "whole")
    stopped_at(tiny(), (x, y), tmp_path / "run", 2, seed=7)
    assert "go on from Python: cnnc.resume(run, (pictures, labels))" in error_of(lambda: resume(tmp_path / "run"))
    assert "the data is not what the run was trained on" in error_of(lambda: resume(tmp_path / "run", (x, 1 - y)))
    assert same(cnnc.resume(tmp_path / "run", (x, y)).weights, whole.weights)


def test_patience_ends_a_training_and_more_of_it_goes_on(tmp_path: Path, data: Path) -> None:
    events: list[Event] = []
    # At a rate of nearly nothing the loss stays, and the first epoch is the best or nearly so.
    trained = train(
        tiny(schedule="constant(1e-30)", epochs="40"), data, patience=2, out=tmp_path / "run", report=events.append
    )
    assert len(trained.rows) < 40
    assert len(trained.rows) - trained.best.epoch == 2
    assert "stopped early: no better epoch in 2" in said(events)
    message = error_of(lambda: resume(tmp_path / "run"))
    assert f"its patience of 2 ended after epoch {len(trained.rows)}" in message
    assert len(resume(tmp_path / "run", patience=4).rows) > len(trained.rows)


@pytest.mark.fault("T")
def test_a_run_that_died_before_its_first_checkpoint_starts_from_the_weights_that_it_was_given(
    tmp_path: Path, data: Path, whole: TrainingResult
) -> None:
    given = whole.folder / "weights" / "last.safetensors"
    longer = train(tiny(), data, weights=given, epochs=1, out=tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints")
    events: list[Event] = []
    assert same(resume(tmp_path / "run", report=events.append).weights, longer.weights)
    assert "has no checkpoint, and starts anew" in said(events)
    # Neither is what random weights would have come to.
    assert not same(longer.weights, train(tiny(), data, epochs=1, out=tmp_path / "random").weights)


# Checkpoints


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def arrays_file(checkpoint: Path) -> Path:
    return max((path for path in (checkpoint / "arrays").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "changed": lambda checkpoint: flip(arrays_file(checkpoint)),
    "missing": lambda checkpoint: arrays_file(checkpoint).unlink(),
    "bytes of": lambda checkpoint: arrays_file(checkpoint).write_bytes(b""),
    "`manifest.json` is missing": lambda checkpoint: (checkpoint / "manifest.json").unlink(),
    "cannot be read": lambda checkpoint: (checkpoint / "manifest.json").write_bytes(b""),
    "`position.json` was changed": lambda checkpoint: flip(checkpoint / "position.json"),
}


@pytest.mark.parametrize(
    "damage",
    [
        each if each in ("changed", "missing", "cannot be read") else pytest.param(each, marks=pytest.mark.slow)
        for each in DAMAGES
    ],
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(damage: str, tmp_path: Path, whole: TrainingResult) -> None:
    before, last = sorted((copied(whole, tmp_path / "run") / "checkpoints").iterdir())
    DAMAGES[damage](last)
    events: list[Event] = []
    trained = resume(tmp_path / "run", report=events.append)
    assert f"`{last}` is damaged" in said(events)
    assert damage in said(events)
    assert "after epoch 2" in said(events)
    assert same(trained.weights, whole.weights)
    assert before.name in {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert Checkpoints(tmp_path / "run/checkpoints").newest()[1] == []


def test_without_a_whole_checkpoint_it_starts_anew(tmp_path: Path, whole: TrainingResult) -> None:
    shutil.rmtree(copied(whole, tmp_path / "run") / "checkpoints")
    events: list[Event] = []
    assert same(resume(tmp_path / "run", report=events.append).weights, whole.weights)
    assert "has no checkpoint, and starts anew" in said(events)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path, data: Path, whole: TrainingResult) -> None:
    copied(whole, tmp_path / "run")
    other = load_text(SPEC.replace("dense(6)", "dense(7)"))
    train(other, data, out=tmp_path / "other")
    shutil.rmtree(tmp_path / "run/checkpoints")
    shutil.copytree(tmp_path / "other/checkpoints", tmp_path / "run/checkpoints")
    assert "does not fit the network and the settings of its run" in error_of(
        lambda: resume(tmp_path / "run", epochs=9)
    )


@pytest.mark.fault("Q3")
def test_a_checkpoint_from_before_grouped_convolutions_were_depthwise_says_what_to_do(tmp_path: Path) -> None:
    name = "trainable/conv/kernel"
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Position(), {name: jnp.zeros((3, 3, 1, 8))})
    saved, _ = checkpoints.newest()
    assert saved is not None
    assert "train anew from its weights" in error_of(lambda: saved.arrays({name: jnp.zeros((3, 3, 4, 2))}))
    assert "put back the spec.cnn" in error_of(lambda: saved.arrays({name: jnp.zeros((3, 3, 4, 4))}))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (
            ValueError("writing a/b: Failed: No space left on device [os_error_code='28'] [x]"),
            "No space left on device",
        ),
        (ValueError("Error reading: shape (3,) is not (4,)"), "Error reading: shape (3,) is not (4,)"),
        (ValueError(), "ValueError"),
    ],
)
def test_why_a_checkpoint_is_not_written_is_in_the_systems_words(error: Exception, said: str) -> None:
    assert _reason(error) == said


def test_a_position_comes_back_bit_for_bit(whole: TrainingResult) -> None:
    rows = whole.rows
    position = Position(4, Means(1 / 3, 0.1, 7, 2), 0.1 + 0.2, rows)
    assert Position.from_json(json.loads(json.dumps(position.to_json()))) == position
    with pytest.raises(ValueError, match="epoch"):
        Position.from_json({**position.to_json(), "epoch": 9})


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path, data: Path) -> None:
    stopped_at(tiny(), data, tmp_path / "run", 2)
    with lock(tmp_path / "run"):
        assert "another process is training" in error_of(lambda: resume(tmp_path / "run"))
    resume(tmp_path / "run")


# Data that changes


def test_other_data_is_refused(tmp_path: Path, data: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    stopped_at(tiny(), tmp_path / "data", tmp_path / "run", 2)
    shutil.copytree(data, tmp_path / "moved")
    picture = next((tmp_path / "data/train/dark").iterdir())
    shutil.copy(picture, picture.with_name("zzz.png"))
    message = error_of(lambda: resume(tmp_path / "run"))
    assert "the data is not what the run was trained on" in message
    assert "25 examples" in message
    picture = next((tmp_path / "moved/train/light").iterdir())
    whole = picture.read_bytes()
    picture.write_bytes(whole + b" ")
    assert "files, labels or values differ" in error_of(lambda: resume(tmp_path / "run", tmp_path / "moved"))
    picture.write_bytes(whole)
    resume(tmp_path / "run", tmp_path / "moved")
    with pytest.raises(CnnError, match="its classes are a, b"):
        resume(tmp_path / "run", make_tree(tmp_path / "ab", {"train/a": 3, "train/b": 3}), epochs=9)
