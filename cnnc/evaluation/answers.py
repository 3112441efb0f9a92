"""The meaning of an output's values for a picture: its class, labels of which several may hold, or values.

The loss decides: a network that was held to classes names classes, one that was held to values gives values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cnnc.ops import Op, Sigmoid, Softmax
from cnnc.recipe import BinaryCrossEntropy, CrossEntropy, Loss

if TYPE_CHECKING:
    from cnnc.runs.trained import Trained

Reading = Literal["classes", "labels", "values"]
"""Classes exclude each other; of labels any number may hold."""
Activation = Literal["softmax", "sigmoid", "none"]

THRESHOLD: Final = 0.5
"""A label whose probability is above it holds."""
_ENDINGS: Final[Mapping[Reading, str]] = {
    "classes": "of the classes",
    "labels": "of labels, of which several may hold",
    "values": "values",
}
"""Of what a file says of an output that is read so."""


@dataclass(frozen=True)
class Guess:
    """A label and how likely the network holds it for, or of a map the share of its places that it has."""

    label: str
    probability: float


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer of a network to a picture.

    `values` are those of the output's shape, of classes and labels probabilities. `guesses` are the likeliest classes,
    or the labels above `THRESHOLD`, best first; of a map those that have a share of its places. Values have none.
    """

    reading: Reading
    values: NDArray[np.float64]
    names: tuple[str, ...]
    guesses: tuple[Guess, ...] = ()

    @property
    def is_map(self) -> bool:
        """Whether there is an answer for every one of several places."""
        return self.values.ndim > 1


def reading_of(loss: Loss, end: Op, width: int, *, one_each: bool) -> tuple[Reading, Activation]:
    """How an output that a loss held is read, and what makes probabilities of what enters its last activation.

    Args:
        loss: the output's.
        end: its operator.
        width: its channels.
        one_each: whether the data had one class an example.
    """
    match loss:
        case CrossEntropy():
            return "classes", "softmax"
        case BinaryCrossEntropy():
            return "classes" if one_each or width == 1 else "labels", "sigmoid"
    activation: Activation = (
        "softmax" if isinstance(end, Softmax) else "sigmoid" if isinstance(end, Sigmoid) else "none"
    )
    return "classes" if one_each and width > 1 and activation != "none" else "values", activation


def stated_reading(trained: Trained, label: str) -> Reading | None:
    """How an output is read for certain: by the loss that a run was held to; None for a spec that does not tell."""
    losses = dict(trained.net.recipe.losses)
    loss = losses.get(label, losses.get(None))
    end = trained.net.graph[dict(trained.net.graph.outputs)[label]]
    if trained.folder is None and isinstance(loss, CrossEntropy | None):  # what a spec has that says nothing of it
        return "classes" if isinstance(end.op, Softmax) else None
    assert loss is not None, label
    return reading_of(loss, end.op, end.shape[-1], one_each=bool(trained.classes))[0]


def description_of(reading: Reading, end: Op) -> str:
    """The sentence with which a file describes an output that is read so and ends in an operator."""
    if reading == "values":
        return _ENDINGS[reading]
    kind = "probabilities" if isinstance(end, Softmax | Sigmoid) else "logits"
    return f"{kind} {_ENDINGS[reading]}"


def reading_in(description: str) -> Reading | None:
    """How an output is read of which a file says this; None where it says nothing of it."""
    return next((reading for reading, ending in _ENDINGS.items() if description.endswith(ending)), None)


def activated(values: NDArray[np.float64], activation: Activation) -> NDArray[np.float64]:
    """Values `(..., channels)` after an activation."""
    if activation == "softmax":
        raised = np.exp(values - values.max(axis=-1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=-1, keepdims=True))
    # Half a tangent is a sigmoid that does not overflow.
    return (1 + np.tanh(values / 2)) / 2 if activation == "sigmoid" else values


def of_two(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities `(..., classes)`; a single one is that of the second of two classes."""
    return np.concatenate([1 - shares, shares], axis=-1) if shares.shape[-1] == 1 else shares


def answer(values: NDArray[np.float64], reading: Reading, names: tuple[str, ...], top: int) -> Answer:
    """The answer that the values of an output give.

    Args:
        values: of the output's shape; of classes and labels their probabilities.
        reading: how they are read.
        names: of the channels, or none.
        top: so many classes are named.
    """
    if reading == "values":
        return Answer(reading, values, names)
    values = of_two(values) if reading == "classes" else values
    shares = values if values.ndim == 1 else _places(values, reading)
    least = THRESHOLD if reading == "labels" and values.ndim == 1 else 0 if values.ndim > 1 else -1
    found = [guess for guess in best(shares, names, len(shares)) if guess.probability > least]
    return Answer(reading, values, names, tuple(found if reading == "labels" else found[:top]))


def best(probabilities: NDArray[np.float64], classes: Sequence[str], top: int) -> list[Guess]:
    """The likeliest labels, best first."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    names = classes or tuple(map(str, range(len(probabilities))))
    return [Guess(names[i], float(probabilities[i])) for i in order]


def _places(shares: NDArray[np.float64], reading: Reading) -> NDArray[np.float64]:
    """Of which share of the places of a map each class is the likeliest, or each label holds."""
    flat = shares.reshape(-1, shares.shape[-1])
    if reading == "labels":
        return np.asarray((flat > THRESHOLD).mean(axis=0))
    return np.bincount(flat.argmax(axis=1), minlength=flat.shape[1]) / len(flat)
