"""Leave the normalisation of pixels to the quantisation of the input: the bytes stay, and their scale says more.

Pixel p is the int8 code p - 128. With scale 1 / std and zero point round(mean) - 128 the code stands for the real value
(p - round(mean)) / std: the input of the model without its `normalize` holds normalised values. What a mean between two
pixels leaves over, (round(mean) - mean) / std, goes into the biases of the layers that read the input; zeros of their
padding are off by it, half a pixel's step at most. A float input that takes pixels keeps its `normalize`, whose result
has steps of a pixel: there the rest would be an error of all values, and goes into the biases as well.

Everything after this knows the model without its `normalize` alone, and feeds it what the codes stand for. Whatever is
measured on it, ranges and means, is in the space of the file.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

import numpy as np

from cnnc import ops
from cnnc.backends.tflite.quantization.scales import PIXELS
from cnnc.ir import Graph, Node
from cnnc.ir.model import Arrays, Model
from cnnc.passes.edit import hidden_readers, rewrite
from cnnc.passes.fold_normalize import is_input_scaling
from cnnc.passes.linear import affine_before, with_bias
from cnnc.passes.verify import verify_model
from cnnc.tflite_file.program import Quantization

_TAKES_CONSTANT: Final = ops.Conv | ops.Depthwise | ops.Dense


def absorb(model: Model, pixels: Collection[str]) -> tuple[Model, dict[str, Quantization]]:
    """The model without the normalisations that inputs of bytes absorb, and the quantisation of each such input.

    Args:
        model: after the passes for int8, which leave a normalisation of an input by one mean and deviation alone.
        pixels: the names of the inputs that take bytes. One whose normalisation stays gets the codes' own scale of 1.
    """
    model = round_means(model, pixels)
    quantizations = dict.fromkeys(pixels, PIXELS)
    aliases: dict[str, str] = {}
    for node in _absorbable(model.graph, pixels):
        assert isinstance(node.op, ops.Normalize), node
        aliases[node.name] = node.inputs[0]
        quantizations[node.inputs[0]] = Quantization((1 / node.op.std[0],), (round(node.op.mean[0]) - 128,))
    absorbed = rewrite(model, aliases=aliases)
    verify_model(absorbed)
    return absorbed, quantizations


def round_means(model: Model, pixels: Collection[str]) -> Model:
    """The model with whole means in the normalisations that inputs of bytes absorb; biases take what that leaves over.

    Args:
        model: as for `absorb`.
        pixels: the names of the inputs that take bytes.
    """
    graph = model.graph
    nodes: dict[str, Node] = {}
    weights: dict[str, Arrays] = {}
    for node in _absorbable(graph, pixels):
        assert isinstance(node.op, ops.Normalize), node
        mean = node.op.mean[0]
        rest = (round(mean) - mean) / node.op.std[0]
        if not rest:
            continue
        nodes[node.name] = replace(node, op=replace(node.op, mean=(float(round(mean)),)))
        for reader in graph.consumers[node.name]:
            assert isinstance(reader.op, _TAKES_CONSTANT), reader
            shift = np.full(node.shape[-1], rest)
            nodes[reader.name] = with_bias(reader)
            weights[reader.name] = affine_before(reader.op, model.weights[reader.name], np.ones_like(shift), shift)
    rounded = rewrite(model, nodes=nodes, weights=weights)
    verify_model(rounded)
    return rounded


def _absorbable(graph: Graph, pixels: Collection[str]) -> list[Node]:
    return [
        node
        for node in graph
        if is_input_scaling(graph, node) and node.inputs[0] in pixels and _is_absorbable(graph, node)
    ]


def _is_absorbable(graph: Graph, node: Node) -> bool:
    """Whether a normalisation is all that reads its input, and its readers take what a whole zero point leaves over."""
    assert isinstance(node.op, ops.Normalize), node
    mean = node.op.mean[0]
    if hidden_readers(graph)[node.inputs[0]] != (node,) or not 0 <= round(mean) <= 255:
        return False
    readers = hidden_readers(graph)[node.name]
    is_exact = round(mean) == mean
    return is_exact or (bool(readers) and all(isinstance(reader.op, _TAKES_CONSTANT) for reader in readers))
