"""A network measured on data, and asked about pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnc import backends
from cnnc.data.feeding.feed import prepare
from cnnc.data.pictures.decode import MODES, centred, decode
from cnnc.data.sources.by_name import NAMES
from cnnc.data.sources.data_set import Part
from cnnc.data.sources.folder import Options
from cnnc.diagnostics import CnnError
from cnnc.evaluation.answers import Answer, activated, answer, reading_of
from cnnc.evaluation.class_labels import places_in_order, places_of
from cnnc.evaluation.evaluator import evaluator
from cnnc.evaluation.output_losses import classified, output_losses, require_classes, require_targets
from cnnc.evaluation.test_set import Measured, Tested, by_name, of_present, part_to_test, relabelled
from cnnc.ops import format_shape
from cnnc.runs.events import Report, ignore
from cnnc.runs.processes import make_ready
from cnnc.runs.run_record import Asked, Run


def measure(
    run: Asked,
    data: str | None = None,
    *,
    folder: Path | None = None,
    held_out: float | None = None,
    skip_corrupt: bool = False,
    batch: int = 128,
    classes: Path | None = None,
    crop: float = 1.0,
    report: Report = ignore,
) -> Measured:
    """The scores of a run, or of a spec with weights, on the test part of a data set, by default its own.

    A folder without parts counts as a whole, unless it is the one that the run held a part out of, or `held_out` says
    that a part of it is wanted. `classes` lists the classes of a folder's pictures by their place (`read_class_list`);
    `crop` is the share of the shorter side of every picture that is looked at.
    """
    make_ready(report)
    tested = tested_on(run, data, folder, held_out, skip_corrupt, report, classes)
    losses = output_losses(run.net, run.recipe)
    part, names = _labelled(run, tested)
    require_classes(run.net, losses, names)
    shapes = [node.shape for node in run.net.graph.inputs]
    feed = prepare(part, shapes, skip_corrupt=skip_corrupt, crop=crop)
    require_targets(run.net, losses, feed)
    known = classified(run.net, losses, feed)
    evaluate = evaluator(run.net.graph, run.recipe, losses, known, min(batch, len(feed)))
    scores = evaluate(run.weights, feed)
    chosen = scores[known.index(True) if True in known else 0]
    return Measured(chosen, names, tested.what, tuple(sorted(feed.broken)))


def predict(run: Asked, pictures: Sequence[Path], top: int = 5, *, crop: float = 1.0) -> list[Answer]:
    """What a network says of every picture; `crop` is the share of its shorter side that is looked at.

    Raises:
        CnnError: a picture cannot be decoded, or the network is none of pictures with one output.
    """
    graph, recipe = run.net.graph, run.recipe
    shapes = [node.shape for node in graph.inputs]
    ends = [graph[node].shape for _, node in graph.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][-1] not in MODES:
        found = ", ".join(map(format_shape, shapes))
        raise CnnError.of("data", f"`{run.net.name}` takes {found}, and a picture is height x width x 1, 3 or 4")
    if len(ends) != 1:
        found = ", ".join(map(format_shape, ends))
        raise CnnError.of("data", f"`{run.net.name}` gives {found}, and a prediction is of one output")
    height, width, channels = shapes[0]
    (loss,) = output_losses(run.net, recipe)
    label, end = graph.outputs[0]
    # The classes of a run are those of its data, one a picture; with a spec they are but names.
    one_each = isinstance(run, Run) and bool(run.data.classes)
    reading, activation = reading_of(loss, graph[end].op, ends[0][-1], one_each=one_each)
    forward = backends.load("jax", "apply").forward(graph)
    answers = []
    for path in pictures:
        batch = decode(path, (height, width), channels, centred((height, width), crop))[None]
        named = {graph.inputs[0].name: batch}
        outputs, _ = forward(run.weights, named, train=False, key=None, precision=recipe.precision, logits=True)
        values = activated(np.asarray(outputs[label], np.float64)[0], activation)
        answers.append(answer(values, reading, run.data.classes, top))
    return answers


def _labelled(run: Asked, tested: Tested) -> tuple[Part, tuple[str, ...]]:
    """The part with its labels counted as the network counts its outputs, and what these are called."""
    known, given = run.data.classes, tested.classes
    count = run.net.graph[run.net.graph.outputs[0][1]].shape[-1]
    if tested.is_listed:
        order, names = places_in_order(known, given, max(count, 2), f"`{run.net.name}`")
        return relabelled(tested.part, order), names
    if known and given and not isinstance(run, Run):
        what = f"`{run.net.name}`"
        return of_present(tested.part, given, lambda names: places_of(known, names, len(known), what)), known
    return by_name(tested.part, given, known or given), known or given


def tested_on(
    run: Asked,
    data: str | None,
    folder: Path | None,
    held_out: float | None,
    skip_corrupt: bool,
    report: Report,
    classes: Path | None = None,  # noqa: PT028  # no test
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
    return part_to_test(data, folder, options, whole=not same and held_out is None, classes=classes, report=report)
