"""How far apart the values of layers are in two models, on the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cnnc.activations.model_view import FileView, Layer, NetworkView, Values
from cnnc.activations.pairing import Pairing
from cnnc.backends.tflite.litert.runner import quantized
from cnnc.evaluation.distortion import ChannelSums, is_equalizable
from cnnc.passes import pipelines as passes
from cnnc.tflite_file.program import Tensor


@dataclass(frozen=True, eq=False)
class LayerComparison:
    """A layer's values in two models, `second` without the factors of its channels if it was equalised.

    `sqnr` and `cosine` are as in `cnnc.evaluation.distortion.Layer`, the first model being the signal, or the network
    where the other is a file. `largest` is the largest absolute difference.
    """

    layer: Layer
    first: NDArray[np.float32]
    second: NDArray[np.float32]
    sqnr: float | None
    cosine: float | None
    largest: float
    equalized: bool

    @property
    def difference(self) -> NDArray[np.float32]:
        """The second model's values less the first's."""
        return self.second - self.first


def compare_layers(
    pairing: Pairing, layers: Sequence[Layer], first: Values, second: Values
) -> tuple[LayerComparison, ...]:
    """The values of chosen layers of a pairing, and how far they are apart."""
    return tuple(_compare(pairing, layer, first[layer.name], second[pairing.partners[layer.name]]) for layer in layers)


def _compare(
    pairing: Pairing, layer: Layer, first: NDArray[np.float32], second: NDArray[np.float32]
) -> LayerComparison:
    second = second.reshape(first.shape)
    flip = isinstance(pairing.first, FileView) and isinstance(pairing.second, NetworkView)
    file, network = (pairing.first, pairing.second) if flip else (pairing.second, pairing.first)
    real, other = (second, first) if flip else (first, second)
    tensor, equalizable = Tensor(layer.name, first.shape), False
    if isinstance(file, FileView):
        tensor = replace(file.program[layer.name if flip else pairing.partners[layer.name]], shape=first.shape)
        if isinstance(network, NetworkView) and file.is_int8 and pairing.criterion == "by name":  # by our compiler
            graph = passes.run(network.trained.model, passes.INFERENCE_INT8).graph
            equalizable = is_equalizable(graph, layer.name)
    sums = ChannelSums(tensor)
    sums.see(real, quantized(tensor, other))
    figures = sums.layer(layer.name, layer.kind, layer.shape, equalizable=equalizable)
    if figures.equalized:
        factors = np.where(sums.factors > 0, sums.factors, 1).astype(np.float32)
        first, second = (first / factors, second) if flip else (first, second / factors)
    largest = float(np.abs(second - first).max())
    return LayerComparison(layer, first, second, figures.sqnr, figures.cosine, largest, figures.equalized)
