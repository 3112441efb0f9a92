"""TensorBoard's events: what is written is what TensorFlow and our own reader of records find."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnc.data.sources.tfrecord import walk
from cnnc.diagnostics import CnnError
from cnnc.loading import load_text
from cnnc.runs.events import EpochEnd, Progress, Row, TrainingStart
from cnnc.training.resume import resume
from cnnc.training.tensorboard import Curves, record_curves
from cnnc.training.train import train

pytest.importorskip("tensorboardX")

SPEC = """\
model tiny(classes=2) {
  input 4x4x1
  normalize(mean=128, std=64) | flatten | dense(classes) | softmax
}

train {
  optimizer sgd
  batch     4
}
"""


def events(folder: Path) -> Iterator[Any]:
    """Every event of a folder's files, in the order that TensorBoard reads them."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.iterdir()):
        for _, content in walk(path):
            yield Event.FromString(bytes(content))


def curves_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag, as TensorBoard shows them: a start voids what was read of its step and later ones."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        if event.HasField("session_log"):
            found = {tag: [point for point in points if point[0] < event.step] for tag, points in found.items()}
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def played(folder: Path, *, epochs: int, first_epoch: int = 1, loss: float = 2.0) -> None:
    """What a training of 50 steps an epoch would report; a step takes half a second."""
    now = 0.0
    with record_curves(lambda: now) as report:
        report(TrainingStart(folder, "net", 1, 500, 100, 10, 50, epochs))
        for epoch in range(first_epoch, epochs + 1):
            for step in range(1, 51):
                now += 0.5
                own = float("nan") if step == 30 else loss + step
                report(Progress(epoch, step, loss + (step + 1) / 2, 0.5, 20.0, own, 2.0 * step))
            now += 7.0
            report(EpochEnd(Row(epoch, 32.0, 0.1 / epoch, loss, 0.5, loss + 1, 0.25, None), best=True))


def test_epochs_and_steps_are_curves_over_the_steps_of_the_training(tmp_path: Path) -> None:
    played(tmp_path, epochs=2)
    found = curves_of(tmp_path / "tensorboard")
    assert found["train/loss"] == [(50, 2.0), (100, 2.0)]
    assert found["val/loss"] == [(50, 3.0), (100, 3.0)]
    assert found["val/top1"] == [(50, 0.25), (100, 0.25)]
    assert "val/top5" not in found
    assert dict(found["lr"]) == pytest.approx({50: 0.1, 100: 0.05})
    assert found["time"] == [(50, 32.0), (100, 32.0)]
    # Steps 2 to 21 and 22 to 41 of each epoch: the means of 2 + step, without step 30.
    second = (20 * 33.5 - 32) / 19
    assert dict(found["step/loss"]) == pytest.approx({21: 13.5, 41: second, 71: 13.5, 91: second})
    assert found["step/gradient_norm"] == [(21, 23.0), (41, 63.0), (71, 23.0), (91, 63.0)]
    assert dict(found["step/pictures_per_second"]) == pytest.approx(dict.fromkeys((21, 41, 71, 91), 20.0))


def test_no_thread_is_left_and_none_is_needed(tmp_path: Path) -> None:
    before = threading.active_count()
    curves = Curves(tmp_path, first_step=1)
    assert threading.active_count() == before
    curves.close()


def test_a_training_that_goes_on_voids_what_the_one_before_wrote_of_the_same_steps(tmp_path: Path) -> None:
    first = Curves(tmp_path, first_step=1)
    for step in (20, 40, 60):
        first.write(step, {"step/loss": 1.0})
    first.close()
    second = Curves(tmp_path, first_step=31)
    second.write(40, {"step/loss": 2.0})
    second.close()
    assert curves_of(tmp_path)["step/loss"] == [(20, 1.0), (40, 2.0)]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_a_run_that_is_resumed_goes_on_in_its_curves(tmp_path: Path) -> None:
    net = load_text(SPEC)
    pictures = np.random.default_rng(0).integers(0, 256, (240, 4, 4, 1)).astype(np.uint8)
    data = (pictures, (np.arange(240) % 2).astype(np.int32))
    train(net, data, epochs=2, out=tmp_path / "run")
    resume(tmp_path / "run", data, epochs="+1")
    found = curves_of(tmp_path / "run" / "tensorboard")
    # 192 pictures in batches of 4.
    assert [step for step, _ in found["val/loss"]] == [48, 96, 144]
    assert [step for step, _ in found["step/loss"]] == [21, 41, 69, 89, 117, 137]
    assert all(norm > 0 for _, norm in found["step/gradient_norm"])


@pytest.mark.slow
def test_tensorflow_reads_the_same(tmp_path: Path) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    played(tmp_path, epochs=1)
    (path,) = (tmp_path / "tensorboard").iterdir()
    read = list(tensorflow.compat.v1.train.summary_iterator(str(path)))
    assert read[0].file_version == "brain.Event:2"
    found = {(event.step, value.tag): value.simple_value for event in read for value in event.summary.value}
    assert found[50, "val/top1"] == 0.25
    assert found[41, "step/gradient_norm"] == 63.0
    assert len(found) == 12


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(CnnError, match=r"cannot write to `.*tensorboard`: file exists"):
        played(tmp_path, epochs=1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_and_no_standstill(tmp_path: Path) -> None:
    curves = Curves(tmp_path, first_step=1)
    with open("/dev/full", "wb", buffering=0) as full:
        curves._file._py_recordio_writer._writer.close()
        curves._file._py_recordio_writer._writer = full
        with pytest.raises(CnnError, match="no space left on device"):
            curves.write(1, {"step/loss": 1.0})
