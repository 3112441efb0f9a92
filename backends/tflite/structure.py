"""The int8 program of a graph without its weights: right in operators, types and shapes, which is what devices ask.

Weights are zeros and ranges made up, so no value of it means anything; what a checker asks does not depend on them.
"""

from __future__ import annotations

import numpy as np

from cnnc import ops
from cnnc.backends.tflite.lowering.graph import lower
from cnnc.backends.tflite.lowering.lowering_site import Flavour
from cnnc.backends.tflite.quantization.input_normalization import absorb
from cnnc.backends.tflite.quantization.quantize import Io, quantize
from cnnc.ir import Graph
from cnnc.ir.model import Model
from cnnc.passes.pipelines import INFERENCE_INT8, run
from cnnc.tflite_file.program import Program


def outline(graph: Graph, flavour: Flavour = "edgetpu", io: Io = "uint8") -> Program:
    """The program that `compile_int8` would make, but for its numbers."""
    weights = {
        node.name: {short: np.zeros(weight.shape, np.float32) for short, weight in own.items()}
        for node in graph
        if (own := graph.weights(node))
    }
    pixels = [node.name for node in graph.inputs if isinstance(node.op, ops.Input) and node.op.dtype == "float"]
    model, given = absorb(run(Model(graph, weights), INFERENCE_INT8), pixels)
    lowered = lower(model, flavour)
    return quantize(lowered, dict.fromkeys(lowered.program.tensors, (-1.0, 1.0)), io=io, given=given)
