"""Scores of an output's values where the truth is known: losses and ranks, one an example.

These are the formulas of the recipe's losses in float64 NumPy, for whatever a predictor gives; training descends by
those of its backend.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc.evaluation.answers import Activation, activated, of_two
from cnnc.evaluation.predictor import Output
from cnnc.recipe import BinaryCrossEntropy, CrossEntropy, Loss
from cnnc.runs.metrics import Outcome

Array = NDArray[Any]
_LEAST: Final = 1e-7
"""A probability counts as this much at least: of those in 8 bits many are 0."""


def outcome(output: Output, values: Array, target: Array, *, has_classes: bool) -> Outcome:
    """The outcome of a batch at an output.

    Args:
        output: the output.
        values: `(batch, ..., channels)`, before its activation.
        target: integer classes `(batch, ...)`, or values of the output's own shape.
        has_classes: whether right and wrong answers can be told apart.
    """
    each = losses(output.loss, values, target, output.activation).astype(np.float32)
    if not has_classes:
        return Outcome(each, None, None, None)
    scores, truth = _scores(output, values), classes(target, values)
    true = np.take_along_axis(scores, truth[..., None], axis=-1)
    earlier = np.arange(scores.shape[-1]) < truth[..., None]
    ranks = ((scores > true) | ((scores == true) & earlier)).sum(axis=-1)
    return Outcome(each, ranks.astype(np.int32), truth.astype(np.int32), decisions(output, values))


def decisions(output: Output, values: Array) -> NDArray[np.int32]:
    """The likeliest class of every example `(batch, ...)`; equals count by order."""
    return np.asarray(_scores(output, values).argmax(axis=-1), np.int32)


def losses(loss: Loss, values: Array, target: Array, activation: Activation) -> NDArray[np.float64]:
    """The loss of every example `(batch,)`, averaged over the other axes of the output.

    Args:
        loss: one of the recipe's.
        values: `(batch, ..., channels)`.
        target: integer classes `(batch, ...)`, or values of the output's own shape.
        activation: what makes the network's answer of the values.
    """
    values = np.asarray(values, np.float64)
    match loss:
        case CrossEntropy():
            truth = _smoothed(_in_full(target, values), loss.label_smoothing / values.shape[-1], loss.label_smoothing)
            each = -(truth * _log_softmax(values, activation)).sum(axis=-1)
        case BinaryCrossEntropy():
            truth = _smoothed(_in_full(target, values), loss.label_smoothing / 2, loss.label_smoothing)
            yes, no = _log_sigmoid(values, activation)
            each = -(truth * yes + (1 - truth) * no)
        case _:
            each = np.square(activated(values, activation) - _in_full(target, values))
    return np.asarray(each.reshape(len(each), -1).mean(axis=1))


def classes(target: Array, values: Array) -> NDArray[np.int64]:
    """The class of every example, given as its number, as a distribution, or as the share of the second of two."""
    if target.ndim < values.ndim:
        return target.astype(np.int64)
    found = target.argmax(axis=-1) if target.shape[-1] > 1 else target[..., 0] > 0.5
    return np.asarray(found, np.int64)


def _scores(output: Output, values: Array) -> Array:
    """Scores that are the greater the likelier a class is; a single value decides between two."""
    if values.shape[-1] > 1:
        return values
    return of_two(values) if output.activation == "none" else np.concatenate([np.zeros_like(values), values], axis=-1)


def _in_full(target: Array, values: Array) -> NDArray[np.float64]:
    """The target in the output's own shape: classes become one-hot vectors, a missing last axis of one is added."""
    if target.ndim == values.ndim:
        return target.astype(np.float64)
    if values.shape[-1] == 1:
        return target[..., None].astype(np.float64)
    return np.asarray(target[..., None] == np.arange(values.shape[-1]), np.float64)


def _smoothed(truth: NDArray[np.float64], floor: float, smoothing: float) -> NDArray[np.float64]:
    return truth * (1 - smoothing) + floor


def _log_softmax(values: NDArray[np.float64], activation: Activation) -> NDArray[np.float64]:
    if activation == "none":
        return np.log(np.maximum(values, _LEAST))
    shifted = values - values.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _log_sigmoid(
    values: NDArray[np.float64], activation: Activation
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The logarithms of a label's probability and of that it does not hold."""
    if activation == "none":
        shares = np.clip(values, _LEAST, 1 - _LEAST)
        return np.log(shares), np.log(1 - shares)
    return -np.logaddexp(0, -values), -np.logaddexp(0, values)
