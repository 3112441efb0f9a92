"""Losses and scores against formulas and against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from cnnc import ops
from cnnc.backends.jax.training import loss as jax_loss
from cnnc.evaluation import scoring
from cnnc.evaluation.answers import Activation, activated, reading_of
from cnnc.evaluation.predictor import Output
from cnnc.recipe import BinaryCrossEntropy, CrossEntropy, Loss, MeanSquaredError
from cnnc.runs.metrics import Outcome, gather, score

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(size=(50, 7)).astype(np.float32)
CLASSES = GENERATOR.integers(0, 7, 50).astype(np.int32)
DENSE = ops.Dense(7)


def losses(loss: Loss, logits: Any, target: Any, end: ops.Op) -> NDArray[np.float64]:
    """The losses that evaluation has, which are those that training descends by."""
    activation = {CrossEntropy: "softmax", BinaryCrossEntropy: "sigmoid"}.get(type(loss))
    own = reading_of(loss, end, logits.shape[-1], one_each=False)[1]
    assert activation in (None, own)
    found = scoring.losses(loss, logits, target, own)
    np.testing.assert_allclose(np.asarray(jax_loss.losses(loss, logits, target, end)), found, rtol=1e-5, atol=1e-6)
    # Of probabilities in place of logits they are the same, as far as these go.
    shares = activated(np.asarray(logits, np.float64), own)
    np.testing.assert_allclose(scoring.losses(loss, shares, target, "none"), found, rtol=1e-5)
    return found


def ranks(loss: Loss, logits: Any, target: Any) -> NDArray[np.int32]:
    """The ranks that evaluation has, which are those that training reports."""
    found = outcome(loss, logits, target).ranks
    assert found is not None
    np.testing.assert_array_equal(np.asarray(jax_loss.ranks(loss, logits, target)), found)
    return found


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def test_cross_entropy_is_scikit_learns_log_loss() -> None:
    found = losses(CrossEntropy(), LOGITS, CLASSES, ops.Softmax())
    assert float(found.mean()) == pytest.approx(metrics.log_loss(CLASSES, softmax(LOGITS)), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_label_smoothing_mixes_in_the_uniform_distribution(smoothing: float) -> None:
    # Szegedy et al. 2016, equation 3: q'(k) = (1 - e) delta(k, y) + e / K.
    found = losses(CrossEntropy(smoothing), LOGITS, CLASSES, DENSE)
    logarithms = np.log(softmax(LOGITS.astype(np.float64)))
    truth = logarithms[np.arange(50), CLASSES]
    np.testing.assert_allclose(found, -(1 - smoothing) * truth - smoothing * logarithms.mean(axis=1), rtol=1e-5)


def test_distributions_as_targets_are_cross_entropy_with_them() -> None:
    shares = softmax(GENERATOR.normal(size=(50, 7)))
    found = losses(CrossEntropy(), LOGITS, shares.astype(np.float32), DENSE)
    np.testing.assert_allclose(found, -(shares * np.log(softmax(LOGITS.astype(np.float64)))).sum(axis=1), rtol=1e-5)


def test_binary_cross_entropy_is_scikit_learns_for_one_output_and_for_many() -> None:
    single = LOGITS[:, :1]
    truth = CLASSES % 2
    shares = 1 / (1 + np.exp(-single[:, 0].astype(np.float64)))
    found = losses(BinaryCrossEntropy(), single, truth, ops.Sigmoid())
    assert float(found.mean()) == pytest.approx(metrics.log_loss(truth, shares), rel=1e-5)
    many = losses(BinaryCrossEntropy(), LOGITS, np.eye(7, dtype=np.float32)[CLASSES], ops.Sigmoid())
    by_class = losses(BinaryCrossEntropy(), LOGITS, CLASSES, ops.Sigmoid())
    np.testing.assert_allclose(many, by_class, rtol=1e-6)


def test_mean_squared_error_is_of_what_the_network_gives() -> None:
    values = GENERATOR.normal(size=(50, 7)).astype(np.float32)
    found = losses(MeanSquaredError(), LOGITS, values, DENSE)
    assert float(found.mean()) == pytest.approx(metrics.mean_squared_error(values, LOGITS), rel=1e-5)
    ended = losses(MeanSquaredError(), LOGITS, values, ops.Sigmoid())
    shares = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    assert float(ended.mean()) == pytest.approx(metrics.mean_squared_error(values, shares), rel=1e-5)
    flat = losses(MeanSquaredError(), LOGITS[:, :1], values[:, 0], DENSE)
    np.testing.assert_allclose(flat, (LOGITS[:, 0] - values[:, 0]) ** 2, rtol=1e-5)


def test_a_map_of_classes_counts_every_place() -> None:
    logits = GENERATOR.normal(size=(3, 4, 5, 7)).astype(np.float32)
    truth = GENERATOR.integers(0, 7, (3, 4, 5)).astype(np.int32)
    found = losses(CrossEntropy(), logits, truth, DENSE)
    assert found.shape == (3,)
    whole = metrics.log_loss(truth.reshape(-1), softmax(logits.reshape(-1, 7)))
    assert float(found.mean()) == pytest.approx(whole, rel=1e-5)


def outcome(loss: Loss, logits: NDArray[np.float32], truth: NDArray[np.int32]) -> Outcome:
    activation: Activation = "sigmoid" if isinstance(loss, BinaryCrossEntropy) else "softmax"
    output = Output("class", logits.shape[1:], activation, "classes", loss)
    return scoring.outcome(output, logits, truth, has_classes=True)


def test_scores_are_scikit_learns() -> None:
    found = score(outcome(CrossEntropy(), LOGITS, CLASSES), 7)
    guessed = LOGITS.argmax(axis=1)
    assert found.confusion is not None
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(CLASSES, guessed, labels=range(7)))
    assert found.top1 == pytest.approx(metrics.accuracy_score(CLASSES, guessed))
    assert found.top5 == pytest.approx(metrics.top_k_accuracy_score(CLASSES, LOGITS, k=5, labels=range(7)))
    np.testing.assert_allclose(found.recall, metrics.recall_score(CLASSES, guessed, average=None, labels=range(7)))
    precision = metrics.precision_score(CLASSES, guessed, average=None, labels=range(7), zero_division=np.nan)
    np.testing.assert_allclose(found.precision, precision)


def test_scores_of_batches_together_are_those_of_the_whole() -> None:
    parts = [outcome(CrossEntropy(), LOGITS[i : i + 20], CLASSES[i : i + 20]) for i in (0, 20, 40)]
    whole, pieces = score(outcome(CrossEntropy(), LOGITS, CLASSES), 7), score(gather(parts), 7)
    assert (whole.top1, whole.top5, whole.count) == (pieces.top1, pieces.top5, pieces.count)
    assert whole.loss == pytest.approx(pieces.loss)


def test_equal_logits_are_no_hit_but_for_the_first_class() -> None:
    flat = np.zeros((4, 4), np.float32)
    truth = np.arange(4, dtype=np.int32)
    assert ranks(CrossEntropy(), flat, truth).tolist() == [0, 1, 2, 3]


def test_a_single_sigmoid_tells_two_classes_apart() -> None:
    logits = np.array([[-1.0], [2.0], [3.0]], np.float32)
    found = score(outcome(BinaryCrossEntropy(), logits, np.array([0, 1, 0], np.int32)), 2)
    assert found.confusion is not None
    assert found.confusion.tolist() == [[1, 1], [0, 1]]
    assert found.top5 is None


def test_a_class_without_examples_has_no_share() -> None:
    truth = np.zeros(3, np.int32)
    found = score(outcome(CrossEntropy(), np.eye(3, dtype=np.float32), truth), 3)
    assert np.isnan(found.recall[1:]).all()
    assert found.recall[0] == pytest.approx(1 / 3)


def test_logits_far_apart_are_no_infinity() -> None:
    logits = np.array([[300.0, -300.0], [-500.0, -500.0], [0.0, 1000.0]], np.float32)
    found = scoring.losses(CrossEntropy(), logits, np.array([0, 1, 0], np.int32), "softmax")
    np.testing.assert_allclose(found, [0, np.log(2), 1000], rtol=1e-6)


@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(0.1), BinaryCrossEntropy(), MeanSquaredError()])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38])
def test_values_that_are_no_numbers_give_a_loss_and_no_warning(loss: Loss, value: float) -> None:
    logits = np.array([[value, 1.0, 2.0], [0.0, 1.0, 2.0]], np.float32)
    found = outcome(loss, logits, np.array([1, 2], np.int32))
    assert np.isfinite(found.losses[1])
    assert found.predicted is not None
    assert found.predicted[1] == 2
