"""The prediction for a picture: the likeliest classes, and the class that a name or a number means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cnnc.activations.model_view import ModelView, Values
from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.evaluation.answers import Guess, activated, best, of_two
from cnnc.evaluation.class_labels import require_labels, without_background

_TOP: Final = 5


@dataclass(frozen=True, eq=False)
class Prediction:
    """Probabilities `(classes,)`; of a single sigmoid, those of two classes. `label` names a class."""

    probabilities: NDArray[np.float64]
    labels: tuple[str, ...]

    @property
    def top(self) -> list[Guess]:
        """The likeliest classes, best first."""
        return best(self.probabilities, self.labels, _TOP)

    @property
    def winner(self) -> int:
        return int(self.probabilities.argmax())

    def label(self, index: int) -> str:
        return self.labels[index] if self.labels else str(index)


def predict_class(view: ModelView, values: Values, classes: tuple[str, ...]) -> Prediction | None:
    """The prediction that a model's output of classes gives; None where it has none.

    Args:
        view: the model.
        values: those of layers, the output's among them.
        classes: names of the classes, or none. A `background` that a list of one name more starts with is left out.

    Raises:
        CnnError: there are names, and not as many as classes.
    """
    if view.output is None:
        return None
    values_of_output = np.asarray(values[view.output.layer], np.float64).reshape(1, -1)
    shares = activated(values_of_output, view.output.activation)
    shares = (shares if view.output.reading == "labels" else of_two(shares))[0]
    labels, _ = without_background(classes, len(shares), "the list")
    if labels:
        require_labels(labels, len(shares), f"`{view.name}`")
    return Prediction(shares, labels)


def class_names(view: ModelView, other: ModelView | None) -> tuple[str, ...]:
    """The names of a model's classes, or where it has none those of another that has as many classes."""
    if view.classes or other is None or view.output is None:
        return view.classes
    count = max(2, view.output.width)
    names, _ = without_background(other.classes, count, "the list")
    return names if len(names) == count else ()


def class_index(prediction: Prediction, wanted: str | None) -> int:
    """The class of a name or a 0-based number, or the likeliest.

    A label may list names, `tench, Tinca tinca`: each of them will do.

    Raises:
        CnnError: there is no such class.
    """
    if wanted is None:
        return prediction.winner
    names = [_names(label) for label in prediction.labels]
    for level in (1, None):
        matches = [i for i, each in enumerate(names) if wanted.lower() in each[:level]]
        if len(matches) == 1:
            return matches[0]
    if wanted.isdecimal() and int(wanted) < len(prediction.probabilities):
        return int(wanted)
    count = len(prediction.probabilities)
    known = [name for label in prediction.labels for name in (label, *label.split(", "))]
    raise CnnError.of(
        "argument",
        f"there is no class `{wanted}`",
        help=did_you_mean(wanted, known) or f"give a class's name, or its number from 0 to {count - 1}",
    )


def _names(label: str) -> Sequence[str]:
    """The whole of a label, then the names that it lists, in small letters."""
    return [label.lower(), *(part.strip().lower() for part in label.split(","))]
