"""A predictor held to examples whose truth is known: exact scores over every one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnc.backends.protocols import Devices
from cnnc.data.feeding.batches import Batch, evaluation_batches, prefetch
from cnnc.data.feeding.feed import Feed, prepare
from cnnc.data.pictures.decode import undecodable
from cnnc.diagnostics import CnnError
from cnnc.evaluation.class_labels import places_of
from cnnc.evaluation.output_losses import classified, require_classes, require_targets
from cnnc.evaluation.predictor import Predictor
from cnnc.evaluation.scoring import decisions, outcome
from cnnc.evaluation.test_set import TestSet, label_as
from cnnc.ops import format_shape
from cnnc.runs.interrupt import StopRequest
from cnnc.runs.metrics import Outcome, Scores, gather, score

_BATCH = 64


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The scores of a predictor's first output that has classes, or else its first; of what, and what was left out."""

    scores: Scores
    classes: tuple[str, ...]
    what: str
    broken: tuple[Path, ...]


@dataclass(frozen=True)
class Agreement:
    """Top-1 of two predictors over `count` examples of `what`, and the share that both take for the same class."""

    what: str
    count: int
    first: float
    second: float
    agreeing: float


def evaluate_on(
    predictor: Predictor, test_set: TestSet, *, skip_corrupt: bool = False, batch: int = 128, crop: float = 1.0
) -> Evaluation:
    """The scores of a predictor on a test set.

    Args:
        predictor: the predictor.
        test_set: what it is held to.
        skip_corrupt: leave out pictures that cannot be decoded.
        batch: so many examples at a time.
        crop: the share of the shorter side of every picture that is looked at.

    Raises:
        CnnError: the examples or their labels do not fit the predictor.
    """
    _require_answer(predictor)
    part, names = label_as(predictor, test_set)
    require_classes(predictor.outputs, names)
    shapes = [each.shape for each in predictor.inputs]
    feed = prepare(part, shapes, skip_corrupt=skip_corrupt, crop=crop)
    require_targets(predictor.outputs, feed)
    scores = evaluate(predictor, feed, min(batch, len(feed)))
    known = classified(predictor.outputs, feed)
    head = scores[known.index(True) if True in known else 0]
    return Evaluation(head, names, test_set.what, tuple(sorted(feed.broken)))


def _require_answer(predictor: Predictor) -> None:
    """Raises CnnError where there is no single output, or it is a number that may mean anything."""
    if len(predictor.outputs) != 1 or not predictor.outputs[0].shape:
        sizes = (format_shape(each.shape) if each.shape else "a size that is not said" for each in predictor.outputs)
        found = ", ".join(f"`{each.name}` of {size}" for each, size in zip(predictor.outputs, sizes, strict=True))
        raise CnnError.of("data", f"`{predictor.name}` gives {found}, and one output of classes is wanted")
    if predictor.outputs[0].reading is None and predictor.outputs[0].shape == (1,):
        raise CnnError.of("data", f"`{predictor.name}` gives a single number, which says nothing of classes")


def evaluate(
    predictor: Predictor,
    feed: Feed,
    batch: int,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    devices: Devices | None = None,
) -> tuple[Scores, ...]:
    """The scores of every output over a whole feed.

    Args:
        predictor: the predictor.
        feed: the examples, of which a process of several has its shard.
        batch: so many examples at a time, of all shards together.
        should_stop: asked before every batch.
        devices: of the JAX backend, where a predictor's own share each batch.

    Raises:
        StopRequest: as soon as `should_stop` says so.
        CnnError: no picture can be decoded.
    """
    known = classified(predictor.outputs, feed)
    parts: list[tuple[Outcome, ...]] = []
    for item in prefetch(evaluation_batches(feed, batch)):
        if should_stop():
            raise StopRequest
        parts.append(_outcomes(predictor, item, known, devices))
    outcomes = [gather([part[i] for part in parts]) for i in range(len(known))]
    if not len(outcomes[0].losses):
        raise undecodable(len(feed))
    counts = [max(output.shape[-1], 2) for output in predictor.outputs]
    return tuple(score(found, count) for found, count in zip(outcomes, counts, strict=True))


def _outcomes(
    predictor: Predictor, batch: Batch, has_classes: tuple[bool, ...], devices: Devices | None
) -> tuple[Outcome, ...]:
    """The outcome of a batch at every output; of all processes' parts of it, where devices share it."""
    values, targets, valid = predictor.predict(batch.inputs, batch.valid), batch.targets, batch.valid
    if devices is not None:
        targets, valid = devices.whole(devices.place_batch((targets, valid)))
    rows = np.asarray(valid)
    return tuple(
        outcome(output, own[rows], np.asarray(target)[rows], has_classes=has)
        for output, own, target, has in zip(predictor.outputs, values, targets, has_classes, strict=True)
    )


def compare(first: Predictor, second: Predictor, feed: Feed, what: str) -> Agreement:
    """Two predictors of one output of classes beside each other; the labels of `feed` are the first one's outputs.

    Raises:
        CnnError: the classes of one are not among those of the other, or no picture can be decoded.
    """
    count = max(2, first.outputs[0].shape[-1])
    what_second = f"`{second.name}`"
    order = np.array(places_of(second.classes, first.classes, count, what_second) if first.classes else range(count))
    hits, size = np.zeros(3, np.int64), 0
    for item in prefetch(evaluation_batches(feed, min(_BATCH, len(feed)))):
        mine, theirs = (
            decisions(each.outputs[0], each.predict(item.inputs, item.valid)[0][item.valid]) for each in (first, second)
        )
        truth = item.targets[0][item.valid]
        hits += (mine == truth).sum(), (theirs == order[truth]).sum(), (theirs == order[mine]).sum()
        size += len(truth)
    if not size:
        raise undecodable(len(feed))
    shares = [float(each) for each in hits / size]
    return Agreement(what, size, *shares)


def has_vector_output(predictor: Predictor) -> bool:
    """Whether a predictor has one output, and that is a vector."""
    return len(predictor.outputs) == 1 and len(predictor.outputs[0].shape) == 1


def require_vector_output(predictor: Predictor) -> None:
    """Raises CnnError where there is no single output of two classes or more whose top-1 can be measured."""
    if not has_vector_output(predictor) or predictor.outputs[0].shape[0] < 2:
        raise CnnError.of("data", f"`{predictor.name}` has no single output of classes to measure top-1 of")
