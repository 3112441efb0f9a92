"""A network with weights as a predictor, computed by jax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.protocols import Devices, EvaluationStep, load_training
from cnnc.evaluation.answers import reading_of
from cnnc.evaluation.output_losses import output_losses
from cnnc.evaluation.predictor import Input, Output, Values
from cnnc.ir import Graph
from cnnc.net import Net
from cnnc.ops import Input as InputOp
from cnnc.runs.data_note import DataNote
from cnnc.runs.trained import Trained


@dataclass(frozen=True, eq=False)
class NetworkPredictor:
    """A network with weights. `replace` changes the weights and keeps what is compiled."""

    trained: Trained
    step: EvaluationStep
    devices: Devices

    @property
    def name(self) -> str:
        return self.trained.net.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.trained.classes

    @property
    def data(self) -> DataNote:
        return self.trained.data

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        return inputs_of(self.trained.net.graph)

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        # The classes of a run are those of its data, one a picture; with a spec they are but names.
        return outputs_of(self.trained.net, one_each=self.trained.folder is not None and bool(self.classes))

    def predict(self, inputs: Values, valid: NDArray[np.bool_] | None = None) -> Values:
        """The logits or values `(batch, ...)` of every output in float32; where devices share a batch, of all of it."""
        named = name_inputs(self.trained.net.graph, self.devices.place_batch(inputs))
        values = self.devices.whole(self.step(self.trained.weights, named))
        return tuple(np.asarray(each) for each in values)


def network_predictor(trained: Trained, devices: Devices | None = None) -> NetworkPredictor:
    """The predictor of a network, on one device unless others are given."""
    backend = load_training()
    devices = devices or backend.ONE_DEVICE
    step = backend.evaluation_step(trained.net.graph, trained.net.recipe, devices)
    return NetworkPredictor(trained, step, devices)


def name_inputs(graph: Graph, inputs: Values) -> Mapping[str, NDArray[np.generic]]:
    """A batch's arrays by the names of the graph's inputs."""
    return {node.name: array for node, array in zip(graph.inputs, inputs, strict=True)}


def inputs_of(graph: Graph) -> tuple[Input, ...]:
    """The inputs of a graph, of pixels or other numbers, or of whole numbers that stand for something."""
    kinds = {node.name: node.op.dtype for node in graph.inputs if isinstance(node.op, InputOp)}
    return tuple(
        Input(node.name, node.shape, "int32" if kinds.get(node.name) == "int" else "float32") for node in graph.inputs
    )


def outputs_of(net: Net, *, one_each: bool = False) -> tuple[Output, ...]:
    """The outputs of a network, as the losses of its recipe read them; `one_each` where an example is of one class.

    Raises:
        CnnError: `train` where an output has no loss, or one that does not fit it.
    """
    found = []
    for loss, (label, name) in zip(output_losses(net), net.graph.outputs, strict=True):
        node = net.graph[name]
        reading, activation = reading_of(loss, node.op, node.shape[-1], one_each=one_each)
        found.append(Output(label, node.shape, activation, reading, loss))
    return tuple(found)
