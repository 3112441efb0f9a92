"""Scores of an output's values where the truth is known: losses and ranks, one an example.

These are the formulas of the recipe's losses in NumPy, for whatever a predictor gives; training descends by those of
its backend.
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
_SPREAD: Final = 80.0
"""exp of what lies no further below 0 is a number of float32 other than 0."""


def outcome(output: Output, values: Array, target: Array, *, has_classes: bool) -> Outcome:
    """The outcome of a batch at an output.

    Args:
        output: the output.
        values: `(batch, ..., channels)`, before its activation.
        target: integer classes `(batch, ...)`, or values of the output's own shape.
        has_classes: whether right and wrong answers can be told apart.
    """
    with np.errstate(all="ignore"):  # who asks says what is wrong with a loss that is no number
        each = losses(output.loss, values, target, output.activation).astype(np.float32)
    if not has_classes:
        return Outcome(each, None, None, None)
    scores, truth = _scores(output, values), classes(target, values)
    true = np.take_along_axis(scores, truth[..., None], axis=-1)
    ranks = np.count_nonzero(scores > true, axis=-1)
    equal = scores == true
    if np.count_nonzero(equal) > truth.size:  # they count by order
        ranks += np.count_nonzero(equal & (np.arange(scores.shape[-1]) < truth[..., None]), axis=-1)
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
    match loss:
        case CrossEntropy():
            each = _cross_entropy(loss.label_smoothing, values, target, activation)
        case BinaryCrossEntropy():
            truth = _in_full(target, values) * (1 - loss.label_smoothing) + loss.label_smoothing / 2
            yes, no = _log_sigmoid(np.asarray(values, np.float64), activation)
            each = -(truth * yes + (1 - truth) * no)
        case _:
            each = np.square(activated(np.asarray(values, np.float64), activation) - _in_full(target, values))
    return np.asarray(each.reshape(len(each), -1).mean(axis=1, dtype=np.float64))


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


def _cross_entropy(smoothing: float, values: Array, target: Array, activation: Activation) -> Array:
    """-sum_k q_k log p_k with q = (1 - smoothing) target + smoothing / K, and log p = value - offset."""
    if activation == "none":
        logs, offset = np.log(np.maximum(values, _LEAST)), np.float64(0)
    else:
        # One number is taken from all where exp bears it: NumPy is slow at taking one from each row.
        shift = values.max() if np.ptp(values) < _SPREAD else values.max(axis=-1, keepdims=True)
        logs = values - shift
        offset = np.log(np.exp(logs).sum(axis=-1, dtype=np.float64))
    if target.ndim == values.ndim:
        true, share = (target * logs).sum(axis=-1), target.sum(axis=-1)
    else:
        true, share = np.take_along_axis(logs, target[..., None], axis=-1)[..., 0], 1
    each = offset * share - true
    if smoothing:
        each = (1 - smoothing) * each + smoothing * (offset - logs.mean(axis=-1))
    return np.asarray(each)


def _log_sigmoid(
    values: NDArray[np.float64], activation: Activation
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The logarithms of a label's probability and of that it does not hold."""
    if activation == "none":
        shares = np.clip(values, _LEAST, 1 - _LEAST)
        return np.log(shares), np.log(1 - shares)
    return -np.logaddexp(0, -values), -np.logaddexp(0, values)
