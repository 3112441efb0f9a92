"""Training as a whole: it learns, repeats itself, stops where it must, and refuses what does not fit."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnc
from cnnc import ops
from cnnc.data.sources.folder import load_folder
from cnnc.loading import load_text
from cnnc.net import Net
from cnnc.recipe import BinaryCrossEntropy, Constant, CrossEntropy, Flip, MeanSquaredError, PadCrop, Recipe, Sgd
from cnnc.runs.events import EpochEnd, Event, Message, Progress, TrainingStart
from cnnc.runs.interrupt import TrainingInterrupt, deferred_interrupt
from cnnc.training.train import train
from cnnc.weights.weights_file import load_weights
from tests.support.calling import error_of
from tests.support.networks import Builder
from tests.support.paths import ROOT
from tests.support.pictures import make_tree, truncate

SPEC = """\
model tiny(classes=2, rate=0.0) {
  input 8x8x3
  normalize(mean=128, std=64) | flatten | dense(4) | bn | relu | dropout(rate) | dense(classes) | softmax
}

train {
  loss      cross_entropy
  optimizer sgd(momentum=0.9)
  schedule  constant(0.05)
  batch     8
  epochs    3
}
"""


def tiny() -> Net:
    """A network that learns light from dark."""
    return load_text(SPEC)


def tree(root: Path) -> Path:
    return make_tree(root, {"train/dark": 12, "train/light": 12, "val/dark": 5, "val/light": 6})


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("drawn_pictures")
def test_a_network_learns_and_leaves_its_run(tmp_path: Path) -> None:
    events: list[Event] = []
    trained = train(tiny(), tree(tmp_path / "data"), out=tmp_path / "run", report=events.append)
    assert trained.best.val_top1 == 1.0
    files = {p.relative_to(trained.folder).as_posix() for p in trained.folder.rglob("*") if p.is_file()}
    assert {name for name in files if not name.startswith(("checkpoints/", "tensorboard/"))} == {
        ".lock",
        "report.html",
        "spec.cnn",
        "args.yaml",
        "results.csv",
        "results.png",
        "confusion_matrix.png",
        "batch0.png",
        "weights/best.safetensors",
        "weights/last.safetensors",
    }
    for name in ("results.png", "confusion_matrix.png", "batch0.png"):
        with Image.open(trained.folder / name) as image:
            assert image.size[0] > 300
    rows = rows_of(trained.folder)
    assert list(rows[0]) == [
        *("epoch", "time", "lr", "train_loss", "train_top1", "val_loss", "val_top1", "val_top5"),
    ]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[2]["train_loss"]) < float(rows[0]["train_loss"])
    assert rows[0]["val_top5"] == ""
    (confusion,) = (s.confusion for s in trained.scores)
    assert confusion is not None
    assert confusion.tolist() == [[5, 0], [0, 6]]
    assert [type(e) for e in events if not isinstance(e, Progress)][-4:] == [
        TrainingStart,
        EpochEnd,
        EpochEnd,
        EpochEnd,
    ]
    assert sum(isinstance(e, Progress) for e in events) == 3 * 3


@pytest.mark.usefixtures("drawn_pictures")
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    net = load_text(SPEC.replace("rate=0.0", "rate=0.3"))
    net = replace(net, recipe=replace(net.recipe, augment=(PadCrop(1), Flip()), epochs=1))
    data = load_folder(tree(tmp_path / "data"))
    runs = [train(net, data, seed=seed, out=tmp_path / f"run{i}") for i, seed in enumerate((0, 0, 1))]
    files = [(run.folder / "weights/last.safetensors").read_bytes() for run in runs]
    assert files[0] == files[1]
    assert files[0] != files[2]
    pictures = [(run.folder / "batch0.png").read_bytes() for run in runs]
    assert pictures[0] == pictures[1]
    assert pictures[0] != pictures[2]


def test_bfloat16_learns_and_its_weights_stay_float32(tmp_path: Path) -> None:
    trained = train(tiny(), tree(tmp_path / "data"), precision="bf16", out=tmp_path / "run")
    assert trained.best.val_top1 == 1.0
    assert {str(a.dtype) for arrays in trained.weights.values() for a in arrays.values()} == {"float32"}


def two_headed(**recipe: object) -> Net:
    builder = Builder()
    joined = builder.add("both", ops.Concat(), builder.input("a", (3,)), builder.input("b", (2,)))
    builder.add("kind", ops.Softmax(), builder.add("logits", ops.Dense(3), joined))
    builder.add("amount", ops.Dense(1), joined)
    losses = (("kind", CrossEntropy()), ("amount", MeanSquaredError(weight=0.5)))
    settings = {"losses": losses, "batch": 16, "epochs": 20, "schedule": Constant(0.1), "optimizer": Sgd(momentum=0.9)}
    return Net(builder.net(kind="kind", amount="amount").graph, Recipe(**{**settings, **recipe}))  # type: ignore[arg-type]  # fields by name


def two_headed_data() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(96, 3)), generator.normal(size=(96, 2))
    return {"a": a, "b": b}, {"kind": a.argmax(axis=1), "amount": b.sum(axis=1)}


def test_several_inputs_and_outputs_train_on_arrays(tmp_path: Path) -> None:
    trained = train(two_headed(), two_headed_data(), out=tmp_path / "run")
    kind, amount = trained.scores
    assert kind.top1 is not None
    assert kind.top1 > 0.8
    assert amount.top1 is None
    assert trained.rows[-1].train_loss < 0.3 * trained.rows[0].train_loss
    assert trained.best.val_top1 == kind.top1
    assert trained.best.val_loss == pytest.approx(kind.loss + 0.5 * amount.loss)
    assert (tmp_path / "run/graph.txt").is_file()
    row = rows_of(trained.folder)[trained.best.epoch - 1]
    assert float(row["kind.val_top1"]) == pytest.approx(kind.top1, rel=1e-5)
    assert float(row["amount.val_loss"]) == pytest.approx(amount.loss, rel=1e-5)
    assert row["amount.val_top1"] == ""


def test_a_regression_is_best_where_its_loss_is_lowest(tmp_path: Path) -> None:
    builder = Builder()
    builder.add("y", ops.Dense(1), builder.input("x", (2,)))
    net = Net(builder.net(y="y").graph, Recipe(losses=((None, MeanSquaredError()),), epochs=3, batch=8))
    x = np.random.default_rng(0).normal(size=(40, 2))
    trained = train(net, (x, x[:, 0]), out=tmp_path / "run")
    assert trained.best.val_loss == min(row.val_loss for row in trained.rows)
    assert rows_of(trained.folder)[0]["val_top1"] == ""
    assert not (tmp_path / "run/confusion_matrix.png").exists()


def test_evaluation_is_exact_for_a_set_that_batches_do_not_divide(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(61, 5)).astype(np.float32)
    y = np.random.default_rng(1).integers(0, 3, 61)
    builder = Builder()
    builder.add("y", ops.Dense(3), builder.input("x", (5,)))
    net = Net(builder.net(y="y").graph, Recipe(batch=16, epochs=1))
    trained = train(net, (x, y), (x, y), out=tmp_path / "run")
    weights = trained.weights["y"]
    logits = x.astype(np.float64) @ weights["kernel"] + weights["bias"]
    assert trained.best.val_top1 == pytest.approx((logits.argmax(axis=1) == y).mean(), abs=1e-6)
    logarithms = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert trained.best.val_loss == pytest.approx(-logarithms[np.arange(61), y].mean(), rel=1e-5)


# What does not fit


def test_another_number_of_classes_is_refused_with_the_setting_that_helps(tmp_path: Path) -> None:
    data = make_tree(tmp_path / "data", {f"{part}/{name}": 2 for part in ("train", "val") for name in "abc"})
    message = error_of(lambda: train(tiny(), data, out=tmp_path / "run"))
    assert "error[labels]: the data has 3 classes, and the network's output `output` has 2" in message
    assert "help: --set classes=3" in message
    assert not (tmp_path / "run").exists()


def test_labels_outside_the_outputs_are_refused(tmp_path: Path) -> None:
    x, y = two_headed_data()
    out = tmp_path / "run"
    message = error_of(lambda: train(two_headed(), (x, {**y, "kind": y["kind"] + 1}), out=out))
    assert "the labels of `kind` go from 1 to 3, and its outputs stand for 0 to 2" in message
    message = error_of(lambda: train(two_headed(), (x, {**y, "kind": y["kind"] - 1}), out=out))
    assert "labels count classes from 0" in message
    message = error_of(lambda: train(two_headed(), (x, {**y, "amount": np.zeros((96, 7))}), out=out))
    assert "the targets of `amount` are values of shape 7, and the output is 1" in message
    message = error_of(lambda: train(two_headed(), (x, {**y, "amount": y["amount"] * np.nan}), out=out))
    assert "the targets of `amount` are not all finite numbers" in message


def test_losses_that_do_not_fit_their_outputs_are_refused(tmp_path: Path) -> None:
    def fails(**recipe: object) -> str:
        return error_of(lambda: train(two_headed(**recipe), two_headed_data(), out=tmp_path / "run"))

    assert "the output `amount` has no loss" in fails(losses=(("kind", CrossEntropy()),))
    message = fails(losses=((None, CrossEntropy()), ("kinf", CrossEntropy())))
    assert "`kinf`, which is no output" in message
    assert "did you mean `kind`?" in message
    assert "`amount` has a single channel" in fails(losses=((None, CrossEntropy()),))
    assert "`kind` ends in `softmax`" in fails(losses=((None, BinaryCrossEntropy()),))


def test_pictures_with_labels_do_not_train_two_outputs(tmp_path: Path) -> None:
    assert "the data has one label an example, and the network 2 outputs" in error_of(
        lambda: train(two_headed(), tree(tmp_path / "data"), out=tmp_path / "run")
    )


def test_settings_out_of_range_are_refused(tmp_path: Path) -> None:
    data = tree(tmp_path / "data")
    assert "`epochs` must be at least 1, found 0" in error_of(lambda: train(tiny(), data, epochs=0))
    assert "`lr` must be above 0, found nan" in error_of(lambda: train(tiny(), data, lr=float("nan")))


def test_a_run_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine.txt").touch()
    message = error_of(lambda: train(tiny(), tree(tmp_path / "data"), out=tmp_path / "run"))
    assert "error[run]" in message
    assert "is not empty, and a run overwrites nothing" in message


def test_corrupt_pictures_are_counted_and_left_out(tmp_path: Path) -> None:
    data = tree(tmp_path / "data")
    truncate(data / "train/dark/003.png", 0.4)
    assert "cannot decode" in error_of(lambda: train(tiny(), data, epochs=1, out=tmp_path / "no"))
    events: list[Event] = []
    train(tiny(), data, epochs=1, skip_corrupt=True, out=tmp_path / "run", report=events.append)
    (started,) = (e for e in events if isinstance(e, TrainingStart))
    assert started.train_count == 23
    said = [e.text for e in events if isinstance(e, Message)]
    assert any(text.startswith("left out, as it cannot be decoded: 1 picture (") and "003.png" in text for text in said)


# What stops a training


def test_a_loss_that_is_no_number_stops_it_with_the_last_good_weights_kept(tmp_path: Path) -> None:
    data = tree(tmp_path / "data")
    message = error_of(lambda: train(tiny(), data, lr=1e30, out=tmp_path / "run"))
    assert "error[diverged]: the loss became" in message
    assert "in epoch 1, step " in message
    assert "the run is saved up to epoch 1, step 1: cnnc train --resume " in message
    assert "--lr 1e+29" in message
    weights, metadata = load_weights(tmp_path / "run/weights/last.safetensors", tiny().graph)
    assert metadata["epoch"] == "1"
    assert all(np.isfinite(array).all() for arrays in weights.values() for array in arrays.values())


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as a terminal's program has it: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_one_interrupt_is_deferred_and_two_are_not() -> None:
    before = signal.getsignal(signal.SIGINT)
    with deferred_interrupt() as stopped:
        assert not stopped()
        signal.raise_signal(signal.SIGINT)
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


LEAVING = """
import os, signal
from cnnc.runs.interrupt import deferred_interrupt
near, far = os.openpty()
os.dup2(far, 1)
os.close(far)
signal.signal(signal.{number}, signal.SIG_IGN if {ignored} else signal.SIG_DFL)
with deferred_interrupt():
    os.close(near)
    signal.raise_signal(signal.{number})
    try:
        os.write(1, b"into the void")
        os.write(2, b"written")
    except OSError as error:
        os.write(2, error.strerror.encode())
"""
"""A terminal goes away, a signal comes, and something is printed."""


@pytest.mark.fault("S11")
@pytest.mark.parametrize(
    ("number", "ignored", "said"),
    [
        ("SIGHUP", False, "written"),
        ("SIGHUP", True, "Input/output error"),
        ("SIGTERM", False, "Input/output error"),
    ],
)
def test_what_is_printed_after_a_hangup_leads_nowhere(number: str, ignored: bool, said: str) -> None:
    """And only then, and only what went to the terminal: the other stream is a pipe."""
    source = LEAVING.format(number=number, ignored=ignored)
    done = subprocess.run([sys.executable, "-c", source], stderr=subprocess.PIPE, text=True, check=True)
    assert done.stderr == said


@pytest.mark.fault("S11")
def test_a_hangup_is_deferred_as_sigterm_is_and_ignored_where_it_was() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        for number in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            with deferred_interrupt() as stopped:
                signal.raise_signal(number)
                signal.raise_signal(number)
                assert stopped.by == number
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
        with deferred_interrupt() as stopped:
            signal.raise_signal(signal.SIGHUP)
            assert not stopped()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupted_training_saves_what_it_has_learnt(tmp_path: Path) -> None:
    def press(event: Event) -> None:
        if isinstance(event, EpochEnd) and event.row.epoch == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(TrainingInterrupt) as caught:
        train(tiny(), tree(tmp_path / "data"), epochs=50, out=tmp_path / "run", report=press)
    assert str(caught.value) == "stopped; saved up to epoch 3, step 1"
    assert caught.value.folder == tmp_path / "run"
    assert len(rows_of(tmp_path / "run")) == 2
    first, _ = load_weights(tmp_path / "run/weights/best.safetensors", tiny().graph)
    last, metadata = load_weights(tmp_path / "run/weights/last.safetensors", tiny().graph)
    assert metadata["epoch"] == "3"
    assert any((first[node][short] != last[node][short]).any() for node in first for short in first[node])


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_stops_at_once_and_keeps_what_is_on_the_disk(tmp_path: Path) -> None:
    def press(event: Event) -> None:
        if isinstance(event, Progress) and (event.epoch, event.step) == (2, 2):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(TrainingInterrupt):
        train(tiny(), tree(tmp_path / "data"), epochs=50, out=tmp_path / "run", report=press)
    _, metadata = load_weights(tmp_path / "run/weights/last.safetensors", tiny().graph)
    assert metadata["epoch"] == "1"


def test_the_manuals_example_is_a_spec_with_that_recipe() -> None:
    manual = (ROOT / "docs/training.md").read_text()
    net = load_text(manual.split("```\n")[1])
    assert net.recipe.data == "cifar10"
    assert net.recipe.augment == (PadCrop(4), Flip())
    assert net.recipe.optimizer == Sgd(momentum=0.9, nesterov=True, weight_decay=5e-4)
    assert (net.recipe.batch, net.recipe.epochs, net.recipe.precision) == (128, 30, "f32")


def test_python_trains_with_one_call(tmp_path: Path) -> None:
    assert cnnc.train is train
    x = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)
    trained = cnnc.train(tiny(), (x, np.arange(30) % 2), epochs=1, out=tmp_path / "run")
    assert tiny().apply(trained.weights, x[:4]).shape == (4, 2)
