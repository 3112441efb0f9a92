"""The prediction for a picture: the likeliest classes, and the class that a name or a number means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cnnc.activations.models import Values, Watched
from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.evaluation.answers import Activation, Guess, Reading, activated, best, of_two, stated_reading
from cnnc.evaluation.class_labels import require_labels, without_background
from cnnc.ops import Sigmoid, Softmax

_TOP: Final = 5


@dataclass(frozen=True, eq=False)
class Predicted:
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


def output_of(watched: Watched) -> str | None:
    """The name of the one output of classes that a network or file has; None where it has none, or several outputs."""
    if watched.network is not None:
        graph = watched.network.net.graph
        ends = [graph[name] for _, name in graph.outputs]
        if len(ends) != 1 or len(ends[0].shape) != 1 or _meaning(watched)[0] == "values":
            return None
        return ends[0].name if ends[0].shape[0] > 1 or isinstance(ends[0].op, Sigmoid) else None
    assert watched.file is not None
    outputs = watched.file.outputs
    if len(outputs) != 1 or len(outputs[0].shape) != 1 or outputs[0].reading == "values":
        return None
    is_logit = outputs[0].shape == (1,) and outputs[0].activation != "none"
    return None if is_logit else watched.file.runner.outputs[0].tensor.name


def predicted(watched: Watched, output: str, values: Values) -> Predicted:
    """The prediction of an output of classes; a `background` that a list of one label more starts with is left out.

    Raises:
        CnnError: there are labels, and not as many as classes.
    """
    flat = np.asarray(values[output], np.float64).reshape(1, -1)
    reading, activation = _meaning(watched)
    shares = activated(flat, activation)
    shares = (shares if reading == "labels" else of_two(shares))[0]
    labels, _ = without_background(watched.labels, len(shares), "the list")
    if labels:
        require_labels(labels, len(shares), f"`{watched.what}`")
    return Predicted(shares, labels)


def class_index(found: Predicted, wanted: str | None) -> int:
    """The class of a name or a 0-based number, or the likeliest.

    A label may list names, `tench, Tinca tinca`: each of them will do.

    Raises:
        CnnError: there is no such class.
    """
    if wanted is None:
        return found.winner
    names = [_names(label) for label in found.labels]
    for level in (1, None):
        matches = [i for i, each in enumerate(names) if wanted.lower() in each[:level]]
        if len(matches) == 1:
            return matches[0]
    if wanted.isdecimal() and int(wanted) < len(found.probabilities):
        return int(wanted)
    count = len(found.probabilities)
    known = [name for label in found.labels for name in (label, *label.split(", "))]
    raise CnnError.of(
        "argument",
        f"there is no class `{wanted}`",
        help=did_you_mean(wanted, known) or f"give a class's name, or its number from 0 to {count - 1}",
    )


def _names(label: str) -> Sequence[str]:
    """The whole of a label, then the names that it lists, in small letters."""
    return [label.lower(), *(part.strip().lower() for part in label.split(","))]


def _meaning(watched: Watched) -> tuple[Reading | None, Activation]:
    """How the values of the only output are read, and what still makes probabilities of them."""
    if watched.file is not None:
        return watched.file.outputs[0].reading, watched.file.outputs[0].activation
    assert watched.network is not None
    graph = watched.network.net.graph
    ((label, name),) = graph.outputs
    reading, end = stated_reading(watched.network, label), graph[name]
    if isinstance(end.op, Softmax | Sigmoid):
        return reading, "none"
    return reading, "sigmoid" if reading == "labels" or end.shape[-1] == 1 else "softmax"
