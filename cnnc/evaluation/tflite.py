"""TFLite files as predictors, ours and others': what they see, and how what they give is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.tflite.litert.interpreter import Delegate
from cnnc.backends.tflite.litert.runner import Port, Runner, is_compiled, open_model
from cnnc.diagnostics import CnnError
from cnnc.evaluation.answers import Activation, reading_in
from cnnc.evaluation.class_labels import labels_of, without_background
from cnnc.evaluation.predictor import Input, Output, Values
from cnnc.ops import Shape, format_shape
from cnnc.recipe import BinaryCrossEntropy, CrossEntropy, MeanSquaredError
from cnnc.runs.calibration import NO_PIXELS
from cnnc.runs.data_note import DataNote
from cnnc.tflite_file.metadata import Description, InputNote, read_description
from cnnc.tflite_file.program import DTYPES, Program
from cnnc.tflite_file.read import read_bytes

End = Literal["softmax", "sigmoid", "logits"]
"""The last step of an output of classes."""

_THROUGH = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "CAST")
"""Operators that leave it to the one before them what their values are."""
_SHARES = 1 / 256
"""The step that TFLite's int8 specification gives to softmax and logistic."""


@dataclass(frozen=True, eq=False)
class TFLitePredictor:
    """A file made ready to run. `classes` are its labels and may be none; `notes` are what its user should know."""

    name: str
    runner: Runner
    description: Description | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    data: DataNote | None = None

    @property
    def program(self) -> Program:
        return self.runner.program

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(Input(port.name, port.shape, port.tensor.type.lower()) for port in self.runner.inputs)

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        return tuple(self._output(i, port) for i, port in enumerate(self.runner.outputs))

    def predict(self, inputs: Values, valid: NDArray[np.bool_] | None = None) -> Values:
        """The values `(batch, ...)` of every output in real numbers; one example is computed after another.

        Raises:
            CnnError: the file gives another number of values than it says.
        """
        rows = np.arange(len(inputs[0])) if valid is None else np.flatnonzero(valid)
        if not len(rows):
            return tuple(np.zeros((len(inputs[0]), *output.shape), np.float32) for output in self.outputs)
        found = self.runner(self.feed(tuple(array[rows] for array in inputs)))
        values = []
        for output in self.outputs:
            own = found[output.name].reshape(len(rows), -1)
            if own.shape[1] != prod(output.shape):
                raise CnnError.of(
                    "tflite",
                    f"`{self.name}` gives {own.shape[1]} values, and says that they are {format_shape(output.shape)}",
                )
            every = np.zeros((len(inputs[0]), *output.shape), np.float32)
            every[rows] = own.reshape(len(rows), *output.shape)
            values.append(every)
        return tuple(values)

    def feed(self, inputs: Values) -> dict[str, NDArray[Any]]:
        """Arrays `(batch, ...)` by the names of the inputs, pixels as the file's one input takes them."""
        if len(inputs) == 1 and inputs[0].dtype == np.uint8:
            return {self.runner.inputs[0].name: self.stored(inputs[0])}
        return {port.name: array for port, array in zip(self.runner.inputs, inputs, strict=True)}

    def stored(self, pictures: NDArray[np.uint8]) -> NDArray[Any]:
        """Pictures `(batch, height, width, channels)` of values 0 to 255 as the file's one input takes them.

        | input | gets |
        |---|---|
        | uint8 | the pixels |
        | int8 | the pixels less 128 |
        | float32 with a normalisation in the file's description | `(pixel - mean) / std` |
        | float32 without | the pixels |

        For files made by cnnc that is exact: they take pixels, and their own `normalize` is within. For others it is
        what TFLite's tools do, as an 8-bit input's scale and zero point undo the normalisation that the file describes.
        """
        (port,) = self.runner.inputs
        if port.tensor.type == "UINT8":
            return pictures
        if port.tensor.type == "INT8":
            return (pictures.astype(np.int16) - 128).astype(np.int8)
        note = self.normalization
        values: NDArray[Any] = pictures.astype(np.float32)
        if note is not None:
            values = (values - np.array(note.mean)) / np.array(note.std)
        return values.astype(DTYPES[port.tensor.type])

    @property
    def normalization(self) -> InputNote | None:
        """The file's note on how a pixel becomes a value of its float input, where it has one."""
        notes = self.description.inputs if self.description is not None else ()
        channels = (self.runner.inputs[0].shape or (1,))[-1]
        if notes and all(len(values) in (1, channels) for values in (notes[0].mean, notes[0].std)):
            return notes[0]
        return None

    def _output(self, index: int, port: Port) -> Output:
        """An output, read as the file says, or by what ends it, or by its labels."""
        notes = self.description.outputs if self.description is not None else ()
        end, shape = end_of(self.program, port.tensor.name), _squeezed(port.shape)
        reading = reading_in(notes[index].description) if index < len(notes) else None
        if reading is None and end == "sigmoid":
            reading = "classes" if shape[-1:] == (1,) else "labels"
        elif reading is None and (end == "softmax" or self.classes):
            reading = "classes"
        if reading == "values":
            return Output(port.name, shape, "none", reading, MeanSquaredError())
        is_binary = reading == "labels" or shape[-1:] == (1,) or end == "sigmoid"
        activation: Activation = "none" if end != "logits" else "sigmoid" if is_binary else "softmax"
        return Output(port.name, shape, activation, reading, BinaryCrossEntropy() if is_binary else CrossEntropy())


def _squeezed(shape: Shape) -> Shape:
    """A shape of which one axis alone is longer than 1 as that of a vector."""
    return (prod(shape),) if shape and prod(shape) == max(shape) else shape


def open_tflite(
    file: Path | bytes,
    *,
    labels: Path | None = None,
    threads: int | None = None,
    delegate: Delegate | None = None,
    all_tensors: bool = False,
) -> TFLitePredictor:
    """A TFLite file, or the bytes of one that this program has made, with its labels: those of a list, or its own.

    Raises:
        CnnError: the file is damaged or cannot be run, a library or device is missing, or the list cannot be read.
    """
    runner = open_model(file, threads=threads, delegate=delegate, all_tensors=all_tensors)
    path, notes = runner.what, []
    try:
        description = read_description(runner.file, file if isinstance(file, bytes) else read_bytes(file), path)
    except CnnError as error:  # it runs all the same
        description = None
        notes.append(f"left out: {error.diagnostics[0].message}")
    names: tuple[str, ...] = ()
    if labels is not None:
        names, told = without_background(labels_of(labels), _count(runner), str(labels))
        notes += told
    elif description is not None and description.outputs:
        names = description.outputs[0].labels
    if delegate == "edgetpu" and not is_compiled(runner.program):
        notes.append(f"no part of `{path}` is compiled for the Edge TPU: all of it runs on the CPU")
    model = TFLitePredictor(path, runner, description, names)
    if len(runner.inputs) == 1 and runner.inputs[0].tensor.type == "FLOAT32" and _is_foreign(model):
        notes.append(f"`{path}` does not say how pixels become its float input: it gets them as they are, 0 to 255")
    inputs = description.inputs if description is not None else ()
    if inputs and inputs[0].description.startswith(NO_PIXELS):
        notes.append(
            f"`{path}` takes {inputs[0].description}, and pixels go in as 0 to 255: what it says of pictures means"
            " little"
        )
    return replace(model, notes=tuple(notes))


def end_of(program: Program, name: str) -> End:
    """How the operator that computes a tensor of classes ends it."""
    while name in program.producers:
        operator = program.operators[program.producers[name]]
        if operator.kind in ("SOFTMAX", "LOGISTIC"):
            return "softmax" if operator.kind == "SOFTMAX" else "sigmoid"
        if operator.kind not in _THROUGH:
            break
        name = operator.inputs[0]
    found = program[name].quantization
    if found is not None and found.scale == (_SHARES,):  # a compiled operator hides what it ends with
        return "sigmoid" if program[name].shape[-1:] == (1,) else "softmax"
    return "logits"


def _is_foreign(model: TFLitePredictor) -> bool:
    """Whether neither a description nor its maker tells what a float input takes; files made by cnnc take pixels."""
    return model.normalization is None and (model.description is None or not model.description.spec_sha256)


def _count(runner: Runner) -> int:
    """How many values the file's last axis of outputs has."""
    return (runner.outputs[0].shape or (1,))[-1] if runner.outputs else 1
