"""TFLite files run on pictures, ours and others': what they see, and how often they are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.tflite.litert.interpreter import Delegate
from cnnc.backends.tflite.litert.runner import Port, Runner, is_compiled, open_model
from cnnc.data.feeding.batches import evaluation_batches, prefetch
from cnnc.data.feeding.feed import Feed, prepare
from cnnc.data.pictures.decode import MODES, centred, decode, undecodable
from cnnc.data.sources.folder import Options
from cnnc.data.sources.parts import HELD_OUT
from cnnc.diagnostics import CnnError
from cnnc.evaluation.answers import Answer, Reading, activated, answer, of_two, reading_in
from cnnc.evaluation.class_labels import labels_of as labels_of
from cnnc.evaluation.class_labels import places_in_order, places_of, require_labels, without_background
from cnnc.evaluation.test_set import Measured, of_present, part_to_test, relabelled
from cnnc.ops import format_shape
from cnnc.runs.calibration import NO_PIXELS
from cnnc.runs.events import Report, ignore
from cnnc.runs.metrics import Outcome, gather, score
from cnnc.tflite_file.metadata import Description, InputNote, read_description
from cnnc.tflite_file.program import DTYPES, Program
from cnnc.tflite_file.read import read_bytes

End = Literal["softmax", "sigmoid", "logits"]
"""What the values of an output of classes are."""

_THROUGH = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "CAST")
"""Operators that leave it to the one before them what their values are."""
_SHARES = 1 / 256
"""The step that TFLite's int8 specification gives to softmax and logistic."""
_LEAST = 1e-7
"""A probability counts as this much at least in the loss: what quantised ones leave is 0."""


@dataclass(frozen=True, eq=False)
class Model:
    """A file made ready to run. `labels` name its classes and may be none; `notes` are what its user should know."""

    path: Path
    runner: Runner
    description: Description | None = None
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def open_tflite(
    path: Path,
    *,
    labels: Path | None = None,
    threads: int | None = None,
    delegate: Delegate | None = None,
    all_tensors: bool = False,
) -> Model:
    """A TFLite file with its labels: those of a list of lines, or those that it brings.

    Raises:
        CnnError: the file is damaged or cannot be run, a library or device is missing, or the list cannot be read.
    """
    runner = open_model(path, threads=threads, delegate=delegate, all_tensors=all_tensors)
    notes = []
    try:
        description = read_description(runner.file, read_bytes(path), str(path))
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
    model = Model(path, runner, description, names)
    if len(runner.inputs) == 1 and runner.inputs[0].tensor.type == "FLOAT32" and _is_foreign(model):
        notes.append(f"`{path}` does not say how pixels become its float input: it gets them as they are, 0 to 255")
    inputs = description.inputs if description is not None else ()
    if inputs and inputs[0].description.startswith(NO_PIXELS):
        notes.append(
            f"`{path}` takes {inputs[0].description}, and pixels go in as 0 to 255: what it says of pictures means"
            " little"
        )
    return replace(model, notes=tuple(notes))


def stored(model: Model, pictures: NDArray[np.uint8]) -> NDArray[Any]:
    """Pictures `(batch, height, width, channels)` of values 0 to 255 as the file's one input takes them.

    | input | gets |
    |---|---|
    | uint8 | the pixels |
    | int8 | the pixels less 128 |
    | float32 with a normalisation in the file's description | `(pixel - mean) / std` |
    | float32 without | the pixels |

    For files made by cnnc that is exact: they take pixels, and their own `normalize` is within. For others it is what
    TFLite's tools do, as an 8-bit input's scale and zero point undo the normalisation that the file describes.
    """
    (port,) = model.runner.inputs
    if port.tensor.type == "UINT8":
        return pictures
    if port.tensor.type == "INT8":
        return (pictures.astype(np.int16) - 128).astype(np.int8)
    note = normalization(model)
    values: NDArray[Any] = pictures.astype(np.float32)
    if note is not None:
        values = (values - np.array(note.mean)) / np.array(note.std)
    return values.astype(DTYPES[port.tensor.type])


def normalization(model: Model) -> InputNote | None:
    """What the file says of how a pixel becomes a value of its float input, where it says it."""
    notes = model.description.inputs if model.description is not None else ()
    channels = (model.runner.inputs[0].shape or (1,))[-1]
    if notes and all(len(values) in (1, channels) for values in (notes[0].mean, notes[0].std)):
        return notes[0]
    return None


def predict(model: Model, pictures: Sequence[Path], top: int = 5, *, crop: float = 1.0) -> list[Answer]:
    """What a file says of every picture; `crop` is the share of its shorter side that is looked at.

    Raises:
        CnnError: a picture cannot be decoded, or the file is none of pictures with one output.
    """
    height, width, channels = _picture_shape(model)
    port = _output(model)
    end, reading = end_of(model.runner.program, port.tensor.name), reading_of(model) or "values"
    if reading != "values":
        _require_labels(model, port.shape[-1] if reading == "labels" else max(port.shape[-1], 2))
    answers = []
    for path in pictures:
        batch = decode(path, (height, width), channels, centred((height, width), crop))[None]
        flat = _values(model, batch)[0]
        values = flat if max(port.shape) == flat.size else flat.reshape(port.shape)
        values = values if reading == "values" else probabilities(values, end, reading)
        answers.append(answer(values, reading, model.labels, top))
    return answers


def reading_of(model: Model) -> Reading | None:
    """How a file's output is read: as the file says, by what ends it, or by its labels; None where nothing tells."""
    port = _output(model)
    notes = model.description.outputs if model.description is not None else ()
    if notes and (said := reading_in(notes[0].description)) is not None:
        return said
    match end_of(model.runner.program, port.tensor.name):
        case "softmax":
            return "classes"
        case "sigmoid":
            return "classes" if port.shape[-1] == 1 else "labels"
    return "classes" if model.labels else None


def measure(
    model: Model,
    data: str,
    *,
    folder: Path | None = None,
    held_out: float | None = None,
    skip_corrupt: bool = False,
    batch: int = 128,
    classes: Path | None = None,
    crop: float = 1.0,
    report: Report = ignore,
) -> Measured:
    """The scores of a file on the test part of a data set; a folder of class folders counts as a whole.

    `classes` lists the classes of a folder's pictures by their place (`read_class_list`); `crop` is the share of the
    shorter side of every picture that is looked at.

    The loss is the cross-entropy of the probabilities that come out, which in 8 bits are coarse.
    """
    options = Options(HELD_OUT if held_out is None else held_out, 0, skip_corrupt)
    tested = part_to_test(data, folder, options, whole=held_out is None, classes=classes, report=report)
    count, end = _classes(model)
    _require_labels(model, count)
    names = model.labels or tested.classes
    part = tested.part
    if tested.is_listed:
        order, names = places_in_order(model.labels, tested.classes, count, f"`{model.path}`")
        part = relabelled(part, order)
    elif tested.classes and not model.labels:
        part = relabelled(part, places(model, tested.classes, count))
    elif tested.classes:
        part = of_present(part, tested.classes, lambda names: places(model, names, count))
    feed = prepare(part, [_input(model).shape], skip_corrupt=skip_corrupt, crop=crop)
    outcome = _outcome(model, feed, end, batch, count)
    return Measured(score(outcome, count), names, tested.what, tuple(sorted(feed.broken)))


def probabilities(values: NDArray[np.float64], end: End, reading: Reading = "classes") -> NDArray[np.float64]:
    """The probabilities `(..., classes)` that values of an output stand for; a single one is of two classes."""
    if end == "logits":
        values = activated(values, "sigmoid" if reading == "labels" or values.shape[-1] == 1 else "softmax")
    return of_two(values) if reading == "classes" else values


def _is_foreign(model: Model) -> bool:
    """Whether neither a description nor its maker tells what a float input takes; files made by cnnc take pixels."""
    return normalization(model) is None and (model.description is None or not model.description.spec_sha256)


def _count(runner: Runner) -> int:
    """How many values the file's last axis of outputs has."""
    return (runner.outputs[0].shape or (1,))[-1] if runner.outputs else 1


def only_input(model: Model) -> Port:
    """The file's one input. Raises CnnError when it has none, or several."""
    ports = model.runner.inputs
    if len(ports) != 1:
        names = ", ".join(f"`{port.name}`" for port in ports)
        has = f"several inputs, {names}," if ports else "no input,"
        raise CnnError.of("data", f"`{model.path}` has {has} and one of pictures is wanted")
    return ports[0]


def _input(model: Model) -> Port:
    port = only_input(model)
    if port.tensor.type not in ("UINT8", "INT8", "FLOAT32", "FLOAT16"):
        raise CnnError.of(
            "data", f"`{model.path}` takes {port.tensor.type.lower()}, and pictures go in as uint8, int8 or float32"
        )
    return port


def _picture_shape(model: Model) -> tuple[int, int, int]:
    shape = _input(model).shape
    if len(shape) != 3 or shape[-1] not in MODES:
        raise CnnError.of(
            "data", f"`{model.path}` takes {format_shape(shape)}, and a picture is height x width x 1, 3 or 4"
        )
    return shape[0], shape[1], shape[2]


def _output(model: Model) -> Port:
    """The file's only output."""
    ports = model.runner.outputs
    if len(ports) != 1 or not ports[0].shape:
        found = ", ".join(f"`{port.name}` of {format_shape(port.shape)}" for port in ports)
        raise CnnError.of("data", f"`{model.path}` gives {found}, and a prediction is of one output")
    return ports[0]


def _classes(model: Model) -> tuple[int, End]:
    """How many classes the file's only output has, and what its values are."""
    ports = model.runner.outputs
    if len(ports) != 1 or not ports[0].shape or any(size != 1 for size in ports[0].shape[:-1]):
        found = ", ".join(f"`{port.name}` of {_size(port)}" for port in ports) or "nothing"
        raise CnnError.of("data", f"`{model.path}` gives {found}, and one output of classes is wanted")
    count, end = ports[0].shape[-1], end_of(model.runner.program, ports[0].tensor.name)
    if count == 1 and end != "sigmoid":
        raise CnnError.of("data", f"`{model.path}` gives a single number, which says nothing of classes")
    return max(count, 2), end


def _size(port: Port) -> str:
    return format_shape(port.shape) if port.shape else "a size that is not said"


def end_of(program: Program, name: str) -> End:
    """What the values of a tensor of classes are, by what computes it."""
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


def _require_labels(model: Model, count: int) -> None:
    if model.labels:
        require_labels(model.labels, count, f"`{model.path}`")


def places(model: Model, classes: tuple[str, ...], count: int) -> list[int]:
    """At which output the file has each class of the data: by name where it brings labels, else in order."""
    return places_of(model.labels, classes, count, f"`{model.path}`")


def _values(model: Model, pictures: NDArray[Any]) -> NDArray[np.float64]:
    """The output of classes `(batch, classes)` in real numbers; what is no picture goes in as real numbers."""
    (given,), (wanted,) = model.runner.inputs, model.runner.outputs
    array = stored(model, pictures) if pictures.dtype == np.uint8 else pictures
    found = model.runner({given.name: array})[wanted.name]
    values = np.asarray(found.reshape(len(found), -1), np.float64)
    if values.shape[1] != prod(wanted.shape):
        raise CnnError.of(
            "tflite",
            f"`{model.path}` gives {values.shape[1]} values, and says that they are {format_shape(wanted.shape)}",
        )
    return values


def _outcome(model: Model, feed: Feed, end: End, batch: int, count: int) -> Outcome:
    parts = []
    for item in prefetch(evaluation_batches(feed, min(batch, len(feed)))):
        if not item.valid.any():
            continue
        values = _values(model, item.inputs[0][item.valid])
        parts.append(_scored(values, item.targets[0][item.valid], end, count))
    if not parts:
        raise undecodable(len(feed))
    return gather(parts)


def _scored(values: NDArray[np.float64], truth: NDArray[np.int32], end: End, count: int) -> Outcome:
    shares = probabilities(values, end)
    if truth.max() >= count or truth.min() < 0:
        raise CnnError.of(
            "labels", f"the data's labels go to {int(truth.max())}, and the file's classes to {count - 1}"
        )
    rows = np.arange(len(truth))
    true = shares[rows, truth][:, None]
    earlier = np.arange(count) < truth[:, None]  # equals count by order, as for runs
    ranks = ((shares > true) | ((shares == true) & earlier)).sum(axis=1)
    if end == "sigmoid" and values.shape[-1] > 1:
        aim = np.eye(count)[truth]
        held = np.clip(shares, _LEAST, 1 - _LEAST)
        losses = -(aim * np.log(held) + (1 - aim) * np.log(1 - held)).mean(axis=1)
    else:
        losses = -np.log(np.maximum(true[:, 0], _LEAST))
    return Outcome(
        losses.astype(np.float32), ranks.astype(np.int32), truth.astype(np.int32), shares.argmax(1).astype(np.int32)
    )
