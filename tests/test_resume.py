"""Going on with a run: what is taken from it, what may be changed, what is refused, and how a bad step is met."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import yaml

import cnnc
from cnnc.data.sources import DataSet, Examples
from cnnc.diagnostics import CnnError
from cnnc.loading import load_text
from cnnc.net import Net
from cnnc.training.checkpoint import Checkpoints, _reason, locked
from cnnc.training.events import EpochEnded, Event, Progress, Said, Started
from cnnc.training.interrupt import Interrupted
from cnnc.training.position import Means, Position
from cnnc.training.resume import resume
from cnnc.training.run import Trained, train
from cnnc.weights.checkpoint import load_weights
from tests.pictures import make_tree

SPEC = """\
model tiny(classes=2) {
  input 8x8x3
  normalize(mean=128, std=64)
  first: conv(3x3, 4) | bn | relu | flatten
  second: dense(6) | relu
  dense(classes) | softmax
}

train {
  augment   flip
  optimizer sgd(momentum=0.9)
  schedule  constant(0.05)
  batch     8
  epochs    3
}
"""


def tiny(**entries: str) -> Net:
    """The network, with entries of its train section changed or added."""
    lines = [line for line in SPEC.splitlines() if line.split()[:1] not in [[name] for name in entries]]
    return load_text("\n".join([*lines[:-1], *(f"  {name} {value}" for name, value in entries.items()), "}", ""]))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train/dark": 13, "train/light": 12, "val/dark": 5, "val/light": 6}
    return make_tree(tmp_path_factory.mktemp("data"), counts)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Trained:
    """A training of the network from its first epoch to its last."""
    return train(tiny(), data, out=tmp_path_factory.mktemp("whole") / "run")


def copied(whole: Trained, run: Path) -> Path:
    """A finished run to go on with, at a place of its own."""
    return Path(shutil.copytree(whole.folder, run))


def error_of(action: Callable[[], object]) -> str:
    with pytest.raises(CnnError) as caught:
        action()
    return str(caught.value)


def stopped_at(net: Net, data: Any, run: Path, epoch: int, step: int = 1, **settings: Any) -> None:
    """Train, and press Ctrl-C after a step."""

    def press(event: Event) -> None:
        if isinstance(event, Progress) and (event.epoch, event.step) == (epoch, step):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        train(net, data, out=run, report=press, **settings)


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(one[node][short], other[node][short]) for node in one for short in one[node])


def without_time(trained: Trained) -> list[tuple[Any, ...]]:
    return [(row.epoch, row.lr, row.train_loss, row.train_top1, row.val_loss, row.val_top1) for row in trained.rows]


def said(events: list[Event]) -> str:
    return "\n".join(event.text for event in events if isinstance(event, Said))


# Going on


@pytest.mark.parametrize("step", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_stopped_run_ends_as_one_that_was_not(step: int, tmp_path: Path, data: Path, whole: Trained) -> None:
    stopped_at(tiny(), data, tmp_path / "run", 2, step)
    events: list[Event] = []
    trained = resume(tmp_path / "run", report=events.append)
    assert f"{tmp_path / 'run'} goes on after epoch 2, step " in said(events)
    started = next(event for event in events if isinstance(event, Started))
    assert (started.epoch, started.step >= step) == (2, True)
    assert [event.row.epoch for event in events if isinstance(event, EpochEnded)] == [2, 3]
    assert without_time(trained) == without_time(whole)
    assert same(trained.weights, whole.weights)
    assert (trained.scores[0].confusion == whole.scores[0].confusion).all()  # type: ignore[union-attr]


@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_layers_that_thaw_later_are_as_they_were(epoch: int, tmp_path: Path, data: Path) -> None:
    settings: dict[str, Any] = {"freeze": ["first", "second"], "unfreeze": [(2, "second"), (3, "first")], "epochs": 4}
    whole = train(tiny(), data, out=tmp_path / "whole", **settings)
    stopped_at(tiny(), data, tmp_path / "run", epoch, **settings)
    assert same(resume(tmp_path / "run").weights, whole.weights)


def test_epochs_are_added(tmp_path: Path, data: Path, whole: Trained) -> None:
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


def test_one_that_was_killed_at_its_very_end_gets_its_last_files(tmp_path: Path, whole: Trained) -> None:
    copied(whole, tmp_path / "run")
    for name in ("report.html", "confusion_matrix.png", "results.png"):
        (tmp_path / "run" / name).unlink()
    trained = resume(tmp_path / "run")
    assert same(trained.weights, whole.weights)
    for name in ("report.html", "confusion_matrix.png", "results.png"):
        assert (tmp_path / "run" / name).is_file(), name


def test_the_best_of_before_stays_the_best(tmp_path: Path, data: Path, whole: Trained) -> None:
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
    (line,) = (event.text for event in told if isinstance(event, Said) and "are lost" in event.text)
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
def test_a_damaged_checkpoint_falls_back_to_the_one_before(damage: str, tmp_path: Path, whole: Trained) -> None:
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


def test_without_a_whole_checkpoint_it_starts_anew(tmp_path: Path, whole: Trained) -> None:
    shutil.rmtree(copied(whole, tmp_path / "run") / "checkpoints")
    events: list[Event] = []
    assert same(resume(tmp_path / "run", report=events.append).weights, whole.weights)
    assert "has no checkpoint, and starts anew" in said(events)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path, data: Path, whole: Trained) -> None:
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


def test_a_position_comes_back_bit_for_bit(whole: Trained) -> None:
    rows = whole.rows
    position = Position(4, Means(1 / 3, 0.1, 7, 2), 0.1 + 0.2, rows)
    assert Position.from_json(json.loads(json.dumps(position.to_json()))) == position
    with pytest.raises(ValueError, match="epoch"):
        Position.from_json({**position.to_json(), "epoch": 9})


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path, data: Path) -> None:
    stopped_at(tiny(), data, tmp_path / "run", 2)
    with locked(tmp_path / "run"):
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


# Losses that are no numbers


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
    assert "the input `input` holds values that are no finite numbers" in message
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


@pytest.mark.fault("T")
def test_a_run_that_died_before_its_first_checkpoint_starts_from_the_weights_that_it_was_given(
    tmp_path: Path, data: Path, whole: Trained
) -> None:
    given = whole.folder / "weights" / "last.safetensors"
    longer = train(tiny(), data, weights=given, epochs=1, out=tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints")
    events: list[Event] = []
    assert same(resume(tmp_path / "run", report=events.append).weights, longer.weights)
    assert "has no checkpoint, and starts anew" in said(events)
    # Neither is what random weights would have come to.
    assert not same(longer.weights, train(tiny(), data, epochs=1, out=tmp_path / "random").weights)


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
