"""Cross-layer equalisation (Nagel et al. 2019, section 4.1): ranges evened out between a layer and the next.

A function that is positively homogeneous, f(s x) = s f(x) for s > 0 as relu is, lets a factor for each channel move
from one layer to the next: L2 f(L1 x + b1) = (L2 S) f(S^-1 (L1 x + b1)). Equation 11 takes s = sqrt(r1 / r2), after
which both layers' ranges r of channel i are sqrt(r1 r2). relu6 is not homogeneous: its bound would move.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cnnc import ops
from cnnc.ir import Graph, Node
from cnnc.ir.model import Arrays, Model
from cnnc.passes.edit import hidden_readers, rewrite
from cnnc.passes.linear import Array, Linear, Vector, magnitudes, scale_inputs, scale_outputs

HOMOGENEOUS = ops.Relu | ops.LeakyRelu | ops.Prelu | ops.MaxPool | ops.AvgPool | ops.GlobalPool
BOUNDS = 1e-2, 1e2
"""No factor leaves these, lest a bias outgrow the 32 bits that its layer's scale leaves it."""
SWEEPS = 30
"""A layer is in two pairs, so that the second disturbs the first; a few sweeps settle them."""
SETTLED = 1e-2


@dataclass
class _Layer:
    """A layer's magnitudes over all taps, its kernel's last two axes, and the factors of its channels so far.

    Kernels are large and sweeps many: `widest_inputs`, the largest magnitude of each filter under the inputs' factors,
    and `widest_outputs`, that of each channel under the outputs', are kept until those factors change.
    """

    op: Linear
    size: Array
    inputs: Vector | None = None
    outputs: Vector | None = None
    widest_inputs: Vector | None = None
    widest_outputs: Vector | None = None

    def of_filters(self) -> Vector:
        """The range of each filter, `(filters,)`."""
        if self.widest_inputs is None:
            size = self.size if self.inputs is None else scale_inputs(self.op, self.size, self.inputs)
            axis = -1 if isinstance(self.op, ops.ConvTranspose) else -2
            widest = size.reshape(-1) if isinstance(self.op, ops.Depthwise) else size.max(axis)
            self.widest_inputs = widest.astype(np.float64)
        return self.widest_inputs if self.outputs is None else self.widest_inputs / self.outputs

    def of_channels(self) -> Vector:
        """The range of the weights that read each channel, `(channels,)`."""
        if self.widest_outputs is None:
            size = self.size if self.outputs is None else scale_outputs(self.op, self.size, 1 / self.outputs)
            self.widest_outputs = size.max(-1).astype(np.float64)
        return self.widest_outputs if self.inputs is None else self.widest_outputs * self.inputs


def equalize(model: Model, maxima: Mapping[str, Vector] | None = None) -> Model:
    """The model with its ranges evened out between layers, the same function.

    Args:
        model: after batch norms are folded.
        maxima: the largest magnitude of every channel, `(channels,)`, of the values that layers read, by their nodes'
            names. With them a factor balances the range of these values against the weights of the layer that reads
            them, s = sqrt(maximum / r2), around a mean of 1; or evens out the values alone, where a depthwise
            convolution reads them, whose channels have scales of their own. Pairs without maxima stay as they are.
    """
    graph = model.graph
    pairs = list(_pairs(graph))
    layers = {
        node.name: _Layer(node.op, magnitudes(model.weights[node.name]["kernel"]))
        for pair in pairs
        for node in pair
        if isinstance(node.op, Linear)
    }
    if maxima is None:
        _balance_weights([(layers[first.name], layers[second.name]) for first, second in pairs])
    else:
        for first, second in pairs:
            if second.inputs[0] in maxima:
                _move(layers[first.name], layers[second.name], _balance(maxima[second.inputs[0]], layers[second.name]))
    return rewrite(model, weights=dict(_applied(model, layers)))


def _pairs(graph: Graph) -> Iterator[tuple[Node, Node]]:
    """Layers, each with the next, where only homogeneous functions stand between and nothing else reads any of it."""
    readers = hidden_readers(graph)
    for first in graph:
        if not isinstance(first.op, Linear):
            continue
        consumers = readers[first.name]
        while len(consumers) == 1 and isinstance(consumers[0].op, HOMOGENEOUS):
            consumers = readers[consumers[0].name]
        if len(consumers) == 1 and _reads_channels(consumers[0]):
            yield first, consumers[0]


def _reads_channels(node: Node) -> bool:
    return isinstance(node.op, ops.Depthwise | ops.Dense) or (isinstance(node.op, ops.Conv) and node.op.groups == 1)


def _balance_weights(pairs: list[tuple[_Layer, _Layer]]) -> None:
    for _ in range(SWEEPS):
        most = max((_move(a, b, _ratio(a.of_filters(), b.of_channels())) for a, b in pairs), default=1.0)
        if most < 1 + SETTLED:
            return


def _balance(maxima: Vector, second: _Layer) -> Vector:
    """The factors that balance values against the weights that read them; their geometric mean is 1."""
    values = np.asarray(maxima, np.float64)
    weights = second.of_channels()
    factors = _ratio(values, weights)
    if isinstance(second.op, ops.Depthwise):
        factors = _ratio(values, np.ones_like(values)) ** 2
    alive = (values > 0) & (weights > 0)
    level = np.exp(np.log(factors[alive]).mean()) if alive.any() else 1.0
    return np.where(alive, factors / level, 1.0)


def _ratio(first: Vector, second: Vector) -> Vector:
    """sqrt(first / second), and 1 for a channel that is dead in either."""
    alive = (first > 0) & (second > 0)
    return np.where(alive, np.sqrt(np.where(alive, first, 1.0) / np.where(alive, second, 1.0)), 1.0)


def _move(first: _Layer, second: _Layer, factors: Vector) -> float:
    """Move factors from one layer to the next, within the bounds; the largest change, 1 or more."""
    before = np.ones_like(factors) if first.outputs is None else first.outputs
    after = np.clip(before * factors, *BOUNDS)
    first.outputs = second.inputs = after
    first.widest_outputs = second.widest_inputs = None
    return float(np.exp(np.abs(np.log(after / before)).max()))


def _applied(model: Model, layers: Mapping[str, _Layer]) -> Iterator[tuple[str, Arrays]]:
    for name, layer in layers.items():
        if layer.inputs is None and layer.outputs is None:
            continue
        own = dict(model.weights[name])
        if layer.inputs is not None:
            own["kernel"] = scale_inputs(layer.op, own["kernel"], layer.inputs)
        if layer.outputs is not None:
            own["kernel"] = scale_outputs(layer.op, own["kernel"], 1 / layer.outputs)
            if "bias" in own:
                own["bias"] = (own["bias"] / layer.outputs).astype(own["bias"].dtype)
        yield name, own
