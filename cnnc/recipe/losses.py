"""Losses of a network's outputs, as the train section's `loss` names them."""

from __future__ import annotations

from cnnc.frozen import dataclass
from cnnc.recipe.entry import FRACTION, NOT_NEGATIVE, Entry, number


@dataclass(frozen=True)
class Loss(Entry):
    r"""What an output is held to; the losses of several outputs add up by their `weight`.

    The loss of an example is the mean over all positions and channels of its output.

    >>> from cnnc import load_text
    >>> load_text("input 4\ndense(2)\ntrain { loss mse(weight=2) }").recipe.losses
    ((None, MeanSquaredError(weight=2.0)),)
    """

    noun = "loss"

    @property
    def weight(self) -> float:
        """How much the loss counts in the sum. A field of every loss, last in its order."""
        raise AssertionError(type(self).__name__)


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Softmax cross-entropy with integer classes; a softmax that ends the network is left out and logits are used.

    With logits z of C classes, the truth t (one-hot, or shares of classes) and s = `label_smoothing` as in Szegedy et
    al. 2016, section 7:

        L = -sum_c t'_c log softmax(z)_c,    t' = (1 - s) t + s / C
    """

    names = ("cross_entropy",)
    label_smoothing: float = number(0.0, FRACTION)
    weight: float = number(1.0, NOT_NEGATIVE)


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Sigmoid cross-entropy with 0/1 targets; a sigmoid that ends the network is left out and logits are used.

    With a logit z, the truth t from 0 to 1 and s = `label_smoothing`:

        L = -t' log sigmoid(z) - (1 - t') log(1 - sigmoid(z)),    t' = (1 - s) t + s / 2
    """

    names = ("binary_cross_entropy",)
    label_smoothing: float = number(0.0, FRACTION)
    weight: float = number(1.0, NOT_NEGATIVE)


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean squared error. Against integer classes an output of many channels is held to their one-hot vectors.

    With an output y, after any final softmax or sigmoid, and the truth t: L = (y - t)^2.
    """

    names = ("mse", "mean_squared_error")
    weight: float = number(1.0, NOT_NEGATIVE)
