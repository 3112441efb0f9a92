"""A predictor: arrays to outputs, whatever computes them, and how these are read.

A network with weights is one (`cnnc.evaluation.network`), a TFLite file another (`cnnc.evaluation.tflite`). Whatever
measures a network, or shows it pictures, is written once, for any predictor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnc.data.pictures.decode import centred, decode
from cnnc.diagnostics import CnnError
from cnnc.evaluation.answers import Activation, Answer, Reading, activated, answer
from cnnc.evaluation.class_labels import require_labels
from cnnc.ir.pixels import is_picture_shape
from cnnc.ops import Shape, format_shape
from cnnc.recipe import Loss
from cnnc.runs.data_note import DataNote

Values = tuple[NDArray[Any], ...]
"""An array `(batch, ...)` for every input, or for every output, in order."""
_PIXELS: Final = ("uint8", "int8", "float32", "float16")


@dataclass(frozen=True)
class Input:
    """An input, the shape of one example, and the type of number that it takes."""

    name: str
    shape: Shape
    type: str = "float32"


@dataclass(frozen=True)
class Output:
    """An output, and what its values mean.

    Attributes:
        name: the spec's, or the file's.
        shape: of one example, `(..., channels)`.
        activation: what makes of the values what the network answers: `softmax` or `sigmoid` of logits, or `none`.
        reading: how the answer is read; None where nothing tells.
        loss: what the answer is held to where the truth is known.
    """

    name: str
    shape: Shape
    activation: Activation
    reading: Reading | None
    loss: Loss


class Predictor(Protocol):
    """Arrays to outputs, and what they stand for.

    Attributes:
        name: the network's, or the path of the file.
        classes: the names of the classes in the order of the outputs, or none.
        data: what it was trained on, where that is known.
    """

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def data(self) -> DataNote | None: ...
    @property
    def inputs(self) -> tuple[Input, ...]: ...
    @property
    def outputs(self) -> tuple[Output, ...]: ...

    def predict(self, inputs: Values, valid: NDArray[np.bool_] | None = None) -> Values:
        """The values `(batch, ...)` of every output, before its activation.

        Args:
            inputs: for every input `(batch, ...)`: of uint8 pixels, of any other type numbers as they are.
            valid: which examples are wanted, by default all; the values of the others may be anything.
        """
        ...


def predict(predictor: Predictor, pictures: Sequence[Path], top: int = 5, *, crop: float = 1.0) -> list[Answer]:
    """The answer of a predictor to every picture.

    Args:
        predictor: of pictures, with one output.
        pictures: the files.
        top: so many classes are named.
        crop: the share of a picture's shorter side that is looked at.

    Raises:
        CnnError: a picture cannot be decoded, the predictor is none of pictures with one output, or it has another
            number of classes than names for them.
    """
    height, width, channels = picture_shape(predictor)
    output = single_output(predictor)
    reading = output.reading or "values"
    if predictor.classes and reading != "values":
        count = output.shape[-1] if reading == "labels" else max(output.shape[-1], 2)
        require_labels(predictor.classes, count, f"`{predictor.name}`")
    answers = []
    for path in pictures:
        picture = decode(path, (height, width), channels, centred((height, width), crop))
        values = np.asarray(predictor.predict((picture[None],))[0][0], np.float64)
        if output.reading is not None:
            values = activated(values, output.activation)
        answers.append(answer(values, reading, predictor.classes, top))
    return answers


def picture_shape(predictor: Predictor) -> tuple[int, int, int]:
    """Height, width and channels of the pictures that a predictor takes.

    Raises:
        CnnError: it takes something else, or has several inputs.
    """
    wanted = single_input(predictor)
    if wanted.type not in _PIXELS:
        raise CnnError.of(
            "data", f"`{predictor.name}` takes {wanted.type}, and pictures go in as uint8, int8 or float32"
        )
    if not is_picture_shape(wanted.shape):
        raise CnnError.of(
            "data",
            f"`{predictor.name}` takes {format_shape(wanted.shape)}, and a picture is height x width x 1, 3 or 4",
        )
    height, width, channels = wanted.shape
    return height, width, channels


def single_input(predictor: Predictor) -> Input:
    """A predictor's only input. Raises CnnError where it has none, or several."""
    if len(predictor.inputs) != 1:
        names = ", ".join(f"`{each.name}`" for each in predictor.inputs)
        has = f"several inputs, {names}," if names else "no input,"
        raise CnnError.of("data", f"`{predictor.name}` has {has} and one of pictures is wanted")
    return predictor.inputs[0]


def single_output(predictor: Predictor) -> Output:
    """A predictor's only output. Raises CnnError where it has several, or one of a size that is not known."""
    if len(predictor.outputs) != 1 or not predictor.outputs[0].shape:
        found = ", ".join(f"`{each.name}` of {format_shape(each.shape)}" for each in predictor.outputs)
        raise CnnError.of("data", f"`{predictor.name}` gives {found}, and a prediction is of one output")
    return predictor.outputs[0]
