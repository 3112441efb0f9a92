"""A run measured on data, and asked about pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnc import backends
from cnnc.data.decode import MODES, decode
from cnnc.data.feed import prepare
from cnnc.data.folder import Options
from cnnc.data.load import NAMES
from cnnc.diagnostics import CnnError
from cnnc.ops import format_shape
from cnnc.recipe import BinaryCrossEntropy, CrossEntropy
from cnnc.training.evaluation import evaluator
from cnnc.training.events import Report, ignore
from cnnc.training.objective import classified, output_losses, require_classes, require_targets
from cnnc.training.record import Run
from cnnc.training.tested import Guess, Measured, Tested, best, by_name, part_to_test


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
    tested = tested_on(run, data, folder, held_out, skip_corrupt, report)
    classes = run.data.classes or tested.classes
    losses = output_losses(run.net, run.recipe)
    require_classes(run.net, losses, classes)
    part = by_name(tested.part, tested.classes, classes)
    feed = prepare(part, [node.shape for node in run.net.graph.inputs], skip_corrupt=skip_corrupt)
    require_targets(run.net, losses, feed)
    known = classified(run.net, losses, feed)
    evaluate = evaluator(run.net.graph, run.recipe, losses, known, min(batch, len(feed)))
    scores = evaluate(run.weights, feed)
    chosen = scores[known.index(True) if True in known else 0]
    return Measured(chosen, classes, tested.what, tuple(sorted(feed.broken)))


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
        guesses.append(best(_probabilities(logits, loss), run.data.classes, top))
    return guesses


def tested_on(
    run: Run, data: str | None, folder: Path | None, held_out: float | None, skip_corrupt: bool, report: Report
) -> Tested:
    """What a run is tested on: `measure` says of the arguments what they mean."""
    note = run.data
    if data is None:
        if note.data == "arrays":
            raise CnnError.of("data", "the run was trained on arrays, and it is not said what to evaluate on")
        data = note.data
        folder = folder or (Path(note.folder) if note.folder else None)
    same = data not in NAMES and os.path.realpath(data) == os.path.realpath(note.data)
    options = Options(note.held_out if held_out is None else held_out, note.seed, skip_corrupt)
    return part_to_test(data, folder, options, whole=not same and held_out is None, report=report)


def _probabilities(logits: NDArray[np.float64], loss: object) -> NDArray[np.float64]:
    if isinstance(loss, BinaryCrossEntropy):
        shares = 1 / (1 + np.exp(-logits))
        return np.concatenate([1 - shares, shares]) if len(shares) == 1 else shares
    if isinstance(loss, CrossEntropy):
        shares = np.exp(logits - logits.max())
        return np.asarray(shares / shares.sum())
    return logits
