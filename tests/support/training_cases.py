"""A network that trains in seconds, trainings of it that are stopped, and what they come to."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnc.data.sources.data_set import DataSet
from cnnc.loading import load_text
from cnnc.net import Net
from cnnc.runs.events import Event, Message, Progress, ignore
from cnnc.runs.interrupt import TrainingInterrupt
from cnnc.runs.processes import local_cluster
from cnnc.training.layer_groups import group_layers
from cnnc.training.loop import TrainingResult
from cnnc.training.session import Session, open_session
from cnnc.training.train import train

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


def session_of(net: Net, data: DataSet) -> Session:
    """The network and the data set on one device."""
    return open_session(net, data, group_layers(net), local_cluster(), report=ignore)


def stopped_at(net: Net, data: Any, run: Path, epoch: int, step: int = 1, **settings: Any) -> None:
    """Train, and press Ctrl-C after a step."""

    def press(event: Event) -> None:
        if isinstance(event, Progress) and (event.epoch, event.step) == (epoch, step):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(TrainingInterrupt):
        train(net, data, out=run, report=press, **settings)


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(one[node][short], other[node][short]) for node in one for short in one[node])


def without_time(trained: TrainingResult) -> list[tuple[Any, ...]]:
    return [(row.epoch, row.lr, row.train_loss, row.train_top1, row.val_loss, row.val_top1) for row in trained.rows]


def said(events: list[Event]) -> str:
    return "\n".join(event.text for event in events if isinstance(event, Message))
