"""Losses and scores of an output, an example each, from what enters its final softmax or sigmoid."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array

from cnnc.ops import Op, Sigmoid, Softmax
from cnnc.recipe import BinaryCrossEntropy, CrossEntropy, Loss, MeanSquaredError


def losses(loss: Loss, logits: Array, target: Array, end: Op) -> Array:
    """The loss of every example, `(batch,)`, averaged over the other axes of the output.

    Args:
        loss: one of the recipe's.
        logits: `(batch, ..., channels)`, before a final softmax or sigmoid.
        target: integer classes `(batch, ...)`, or values of the output's own shape.
        end: the output's operator, which mean squared error applies again.
    """
    match loss:
        case CrossEntropy():
            each = _cross_entropy(loss, logits, target)
        case BinaryCrossEntropy():
            truth = _values(logits, target)
            truth = truth * (1 - loss.label_smoothing) + loss.label_smoothing / 2
            each = optax.sigmoid_binary_cross_entropy(logits, truth)
        case MeanSquaredError():
            each = jnp.square(_activate(logits, end) - _values(logits, target))
        case _:
            raise AssertionError(loss)
    return each.reshape(len(each), -1).mean(axis=1)


def ranks(loss: Loss, logits: Array, target: Array) -> Array:
    """How many classes every example holds for likelier than the true one, `(batch, ...)`; equals count by order.

    0 is a top-1 hit, below 5 a top-5 hit. A single sigmoid decides between two classes.
    """
    if isinstance(loss, BinaryCrossEntropy) and logits.shape[-1] == 1:
        logits = jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
    truth = classes(target, logits)
    true = jnp.take_along_axis(logits, truth[..., None], axis=-1)
    earlier = jnp.arange(logits.shape[-1]) < truth[..., None]
    return ((logits > true) | ((logits == true) & earlier)).sum(axis=-1)


def classes(target: Array, logits: Array) -> Array:
    """The class of every example, given as its number, as a distribution, or as the share of the second of two."""
    if target.ndim < logits.ndim:
        return target
    return target.argmax(axis=-1) if target.shape[-1] > 1 else (target[..., 0] > 0.5).astype(jnp.int32)


def _cross_entropy(loss: CrossEntropy, logits: Array, target: Array) -> Array:
    count = logits.shape[-1]
    if target.ndim < logits.ndim and loss.label_smoothing == 0:
        each: Array = optax.softmax_cross_entropy_with_integer_labels(logits, target)
        return each
    truth = target if target.ndim == logits.ndim else jax.nn.one_hot(target, count)
    truth = truth * (1 - loss.label_smoothing) + loss.label_smoothing / count
    each = optax.softmax_cross_entropy(logits, truth)
    return each


def _values(logits: Array, target: Array) -> Array:
    """The target in the output's own shape: classes become one-hot vectors, a missing last axis of one is added."""
    if target.ndim == logits.ndim:
        return target.astype(jnp.float32)
    if logits.shape[-1] == 1:
        return target[..., None].astype(jnp.float32)
    return jax.nn.one_hot(target, logits.shape[-1])


def _activate(logits: Array, end: Op) -> Array:
    match end:
        case Softmax():
            return jax.nn.softmax(logits, axis=-1)
        case Sigmoid():
            return jax.nn.sigmoid(logits)
    return logits
