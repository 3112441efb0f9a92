"""What is to be compiled: a network with weights, out of a run's folder or of a spec."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cnnc import backends
from cnnc.data.sources.parts import HELD_OUT
from cnnc.diagnostics import CnnError
from cnnc.evaluation.answers import Reading, reading_of
from cnnc.ir.model import Model
from cnnc.loading import find, load_spec
from cnnc.net import Net
from cnnc.ops import Softmax
from cnnc.overrides import Overrides
from cnnc.recipe import CrossEntropy


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, its weights, the names of its classes, and the data that it was trained on, where that is known.

    `calibration` is the file of training examples that a run of arrays keeps.
    """

    net: Net
    weights: Mapping[str, Mapping[str, NDArray[Any]]]
    classes: tuple[str, ...] = ()
    data: str | None = None
    data_folder: Path | None = None
    held_out: float = HELD_OUT
    seed: int = 0
    is_random: bool = False
    is_trained: bool = False
    """Whether it is a run, whose losses made it what it is; a spec's may not be what made its weights."""
    weights_file: Path | None = None
    calibration: Path | None = None

    @property
    def model(self) -> Model:
        return Model(self.net.graph, self.weights)

    @property
    def spec_sha256(self) -> str:
        return hashlib.sha256(self.net.text.encode()).hexdigest()


def is_run(path: Path) -> bool:
    """Whether a path is a folder, as runs are and specs are not."""
    return path.is_dir()


def from_run(path: Path, *, last: bool = False) -> Subject:
    """The network of a run with the weights of its best epoch, or of its last."""
    from cnnc.runs.run_record import open_run

    run = open_run(path, "last" if last else "best")
    note = run.data
    arrays = note.data == "arrays"
    return Subject(
        replace(run.net, recipe=run.recipe),
        run.weights,
        note.classes,
        None if arrays else note.data,
        Path(note.folder) if note.folder else None,
        note.held_out,
        note.seed,
        is_trained=True,
        weights_file=run.folder.last if last else run.folder.best,
        calibration=run.folder.calibration if run.folder.calibration.is_file() else None,
    )


def from_spec(name: str, overrides: Overrides, *, weights: Path | None, random: int | None) -> Subject:
    """The network of a spec with the weights of a file, or with random ones of a seed.

    Raises:
        CnnError: the spec is wrong, the weights are another network's, or there are none.
    """
    net = load_spec(find(name), overrides)
    if weights is not None:
        from cnnc.weights.weights_file import load_weights

        arrays, _ = load_weights(weights, net.graph)
        return Subject(net, arrays, data=net.recipe.data, weights_file=weights)
    if random is None:
        raise CnnError.of(
            "weights",
            f"`{name}` is a spec, and it is not said which weights to compile",
            help="name a run's folder instead, or give --weights FILE; --random-weights shows the structure alone",
        )
    arrays = backends.load("tflite", "random_weights").random_weights(net.graph, random)
    return Subject(net, arrays, data=net.recipe.data, is_random=True)


def reading_of_output(subject: Subject, label: str) -> Reading | None:
    """How an output is read: by the loss that it was held to; None of a spec where that is not known."""
    losses = dict(subject.net.recipe.losses)
    loss = losses.get(label, losses.get(None))
    end = subject.net.graph[dict(subject.net.graph.outputs)[label]]
    if not subject.is_trained and isinstance(loss, CrossEntropy | None):  # what a spec has that says nothing of it
        return "classes" if isinstance(end.op, Softmax) else None
    assert loss is not None, label
    return reading_of(loss, end.op, end.shape[-1], one_each=bool(subject.classes))[0]
