"""A run measured on data, and asked about pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnc import backends
from cnnc.data.decode import MODES, decode
from cnnc.data.feed import prepare
from cnnc.data.folder import Options, class_names, load_all
from cnnc.data.load import NAMES, load_data
from cnnc.data.sources import DataSet, Examples, Files, Part
from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.ops import format_shape
from cnnc.recipe import BinaryCrossEntropy, CrossEntropy
from cnnc.training.evaluation import evaluator
from cnnc.training.events import Report, Said, ignore
from cnnc.training.metrics import Scores
from cnnc.training.objective import classified, output_losses, require_classes, require_targets
from cnnc.training.record import Run


@dataclass(frozen=True, eq=False)
class Measured:
    """The scores of a run's first output that has classes, or else its first; of what, and what was left out."""

    scores: Scores
    classes: tuple[str, ...]
    what: str
    broken: tuple[Path, ...]


@dataclass(frozen=True)
class Guess:
    """A label and how likely the network holds it for."""

    label: str
    probability: float


def measure(
    run: Run,
    data: str | None = None,
    *,
    folder: Path | None = None,
    held_out: float | None = None,
    skip_corrupt: bool = False,
    batch: int = 128,
    report: Report = ignore,
) -> Measured:
    """The scores of a run on the test part of a data set, by default the one it was trained on.

    A folder without parts counts as a whole, unless it is the one that the run held a part out of, or `held_out` says
    that a part of it is wanted.
    """
    note = run.data
    if data is None:
        if note.data == "arrays":
            raise CnnError.of("data", "the run was trained on arrays, and it is not said what to evaluate on")
        data = note.data
        folder = folder or (Path(note.folder) if note.folder else None)
    part, classes, what = _part(run, data, folder, held_out, skip_corrupt, report)
    losses = output_losses(run.net, run.recipe)
    require_classes(run.net, losses, note.classes or classes)
    part = _relabelled(part, classes, note.classes or classes)
    feed = prepare(part, [node.shape for node in run.net.graph.inputs], skip_corrupt=skip_corrupt)
    require_targets(run.net, losses, feed)
    known = classified(run.net, losses, feed)
    evaluate = evaluator(run.net.graph, run.recipe, losses, known, min(batch, len(feed)))
    scores = evaluate(run.weights, feed)
    chosen = scores[known.index(True) if True in known else 0]
    return Measured(chosen, note.classes or classes, what, tuple(sorted(feed.broken)))


def predict(run: Run, pictures: Sequence[Path], top: int = 5) -> list[list[Guess]]:
    """For every picture the likeliest labels, best first.

    Raises:
        CnnError: a picture cannot be decoded, or the network is none of pictures with one output of classes.
    """
    graph, recipe = run.net.graph, run.recipe
    shapes = [node.shape for node in graph.inputs]
    ends = [graph[node].shape for _, node in graph.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][-1] not in MODES:
        found = ", ".join(map(format_shape, shapes))
        raise CnnError.of("data", f"`{run.net.name}` takes {found}, and a picture is height x width x 1, 3 or 4")
    if len(ends) != 1 or len(ends[0]) != 1:
        found = ", ".join(map(format_shape, ends))
        raise CnnError.of("data", f"`{run.net.name}` gives {found}, and a prediction is of one output of classes")
    height, width, channels = shapes[0]
    (loss,) = output_losses(run.net, recipe)
    name, end = graph.inputs[0].name, graph.outputs[0][0]
    forward = backends.load("jax", "apply").forward(graph)
    guesses = []
    for path in pictures:
        batch = decode(path, (height, width), channels)[None]
        outputs, _ = forward(run.weights, {name: batch}, train=False, key=None, precision=recipe.precision, logits=True)
        logits = np.asarray(outputs[end], np.float64)[0]
        guesses.append(_best(_probabilities(logits, loss), run.data.classes, top))
    return guesses


def _part(
    run: Run, data: str, folder: Path | None, held_out: float | None, skip_corrupt: bool, report: Report
) -> tuple[Part, tuple[str, ...], str]:
    """What to evaluate on, its classes, and how to call it."""
    note = run.data
    same = data not in NAMES and os.path.realpath(data) == os.path.realpath(note.data)
    fraction = held_out if held_out is not None else note.held_out
    options = Options(fraction, note.seed, skip_corrupt)
    path = Path(data).expanduser()
    whole = data not in NAMES and not same and held_out is None and path.is_dir() and not _has_parts(path)
    if whole:
        files = load_all(path, options)
        return files, class_names(path), f"all {len(files):,} pictures of {data}"
    data_set: DataSet = load_data(data, folder=folder, options=options, report=lambda line: report(Said(line)))
    return data_set.test, data_set.classes, f"the {len(data_set.test):,} {data_set.kind} pictures of {data}"


def _has_parts(path: Path) -> bool:
    return any((path / name).is_dir() for name in ("train", "val", "valid", "validation", "test"))


def _relabelled(part: Part, classes: tuple[str, ...], wanted: tuple[str, ...]) -> Part:
    """The part with its labels counted as the network counts them: by the classes' names."""
    if classes == wanted or not classes:
        return part
    for name in classes:
        if name not in wanted:
            raise CnnError.of(
                "labels",
                f"the data has a class `{name}` that the network was not trained on",
                help=did_you_mean(name, wanted) or f"its classes are {', '.join(wanted[:20])}",
            )
    places: NDArray[np.int32] = np.array([wanted.index(name) for name in classes], np.int32)
    labels = places[part.labels]
    return Files(part.paths, labels) if isinstance(part, Files) else Examples(part.inputs, (labels,))


def _probabilities(logits: NDArray[np.float64], loss: object) -> NDArray[np.float64]:
    if isinstance(loss, BinaryCrossEntropy):
        shares = 1 / (1 + np.exp(-logits))
        return np.concatenate([1 - shares, shares]) if len(shares) == 1 else shares
    if isinstance(loss, CrossEntropy):
        shares = np.exp(logits - logits.max())
        return np.asarray(shares / shares.sum())
    return logits


def _best(probabilities: NDArray[np.float64], classes: tuple[str, ...], top: int) -> list[Guess]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    names = classes or tuple(map(str, range(len(probabilities))))
    return [Guess(names[i], float(probabilities[i])) for i in order]
