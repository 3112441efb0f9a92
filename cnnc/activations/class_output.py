"""The output of classes of a network or a TFLite file: the layer that gives it, and how its values are read."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.evaluation.answers import Activation, Reading, stated_reading
from cnnc.evaluation.tflite import TFLitePredictor
from cnnc.ops import Sigmoid, Softmax
from cnnc.runs.trained import Trained


@dataclass(frozen=True)
class ClassOutput:
    """An output of `width` classes; of a single sigmoid there are two.

    `activation` makes probabilities of the values of `layer`. `reading` is None where nothing tells.
    """

    layer: str
    width: int
    activation: Activation
    reading: Reading | None


def network_output(trained: Trained) -> ClassOutput | None:
    """The output of classes of a network; None where it has none, or several outputs.

    A predictor's outputs are held to the losses of the recipe, and a spec whose loss does not fit can be looked into.
    """
    graph = trained.net.graph
    outputs = [(label, graph[name]) for label, name in graph.outputs]
    if len(outputs) != 1 or len(outputs[0][1].shape) != 1:
        return None
    ((label, end),) = outputs
    (width,), reading = end.shape, stated_reading(trained, label)
    if reading == "values" or (width == 1 and not isinstance(end.op, Sigmoid)):
        return None
    if isinstance(end.op, Softmax | Sigmoid):
        return ClassOutput(end.name, width, "none", reading)
    return ClassOutput(end.name, width, "sigmoid" if reading == "labels" else "softmax", reading)


def file_output(predictor: TFLitePredictor) -> ClassOutput | None:
    """The output of classes of a file; None where it has none, or several outputs."""
    if len(predictor.outputs) != 1:
        return None
    (output,) = predictor.outputs
    is_logit = output.shape == (1,) and output.activation != "none"
    if len(output.shape) != 1 or output.reading == "values" or is_logit:
        return None
    return ClassOutput(predictor.runner.outputs[0].tensor.name, output.shape[0], output.activation, output.reading)
