"""Where in the picture a network sees a class: Grad-CAM, and CAM for TFLite files.

Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization"):
the weight of map k is the mean over its places of the gradient of the class's score, equation 1,
alpha_k = 1/Z sum_ij dy/dA_k(i, j), and the result is L = relu(sum_k alpha_k A_k), equation 2.

A TFLite file has no gradients. Where its maps are averaged and a dense layer makes scores of the averages, w, CAM
(Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", equation 2) is sum_k w_k A_k, which is
Z times Grad-CAM's sum: the same picture, as each is scaled by its largest value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnc import backends, ops
from cnnc.activations.model_view import FileView, NetworkView, Values, title_of
from cnnc.activations.palettes import HEAT, placed
from cnnc.activations.selection import select_layers
from cnnc.diagnostics import CnnError
from cnnc.tflite_file.program import Operator, Program
from cnnc.weights.importing.readers.tflite_constants import dequantized, producer, stored

_POOLS: Final = ops.AvgPool | ops.GlobalPool | ops.MaxPool
_OPACITY: Final = 0.72
"""Of the hottest place over the picture; the coldest lets the picture through."""
_THROUGH: Final = ("RESHAPE", "SQUEEZE", "SOFTMAX", "LOGISTIC", "QUANTIZE", "DEQUANTIZE", "CAST")


@dataclass(frozen=True, eq=False)
class Cam:
    """`heat` is `(height, width)` of the layer's map, at least 0; `method` is `Grad-CAM` or `CAM`."""

    method: str
    layer: str
    index: int
    heat: NDArray[np.float32]

    def over(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The heat laid over a picture `(height, width, 3)`, enlarged bilinearly and scaled by its largest value."""
        height, width = picture.shape[:2]
        top = float(self.heat.max())
        small = Image.fromarray(self.heat / top if top > 0 else self.heat)
        large = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR), np.float64)
        shares = np.clip(large, 0, 1)[..., None]
        grey = picture.mean(axis=-1, keepdims=True)
        pale = 0.35 * picture + 0.65 * grey  # so that the colours are those of the heat
        opacity = _OPACITY * np.sqrt(shares)
        mixed = (1 - opacity) * pale + opacity * HEAT[placed(shares[..., 0], 0, 1)]
        return np.asarray(np.rint(mixed), np.uint8)


def grad_cam(view: NetworkView, value: NDArray[Any], index: int, layer: str | None = None) -> Cam:
    """Grad-CAM of a class of a network, over its last map, or over the last one that a pattern names.

    Raises:
        CnnError: the pattern matches no layer, or none whose output is a map of height and width.
    """
    graph = view.trained.net.graph
    name = last_map(view) if layer is None else _map_named(view, layer)
    if name is None:
        raise CnnError.of("argument", f"`{view.name}` has no map of height and width to lay Grad-CAM over")
    gradient = backends.load("jax", "layer_gradient").score_gradient
    inputs = {graph.inputs[0].name: value[None]}
    maps, slopes = (array[0] for array in gradient(graph, view.trained.weights, inputs, name, index))
    alpha = slopes.mean(axis=(0, 1))
    return Cam("Grad-CAM", name, index, np.maximum(maps @ alpha, 0))


def cam_tensor(view: FileView) -> str | None:
    """The map of a TFLite file that CAM is of, where it is averaged and a dense layer makes the scores; else None."""
    head = _head(view.program)
    return None if head is None else head[0]


def cam(view: FileView, values: Values, index: int) -> Cam:
    """CAM of a class of a TFLite file whose `cam_tensor` is not None, of which `values` has the value."""
    head = _head(view.program)
    assert head is not None
    name, dense = head
    weights = stored(view.program, dense.inputs[1])
    assert weights is not None
    rows = dequantized(weights)
    rows = rows.reshape(len(rows), -1)
    row = rows[index] if len(rows) > 1 else rows[0] if index else -rows[0]
    return Cam("CAM", title_of(name), index, np.maximum(values[name] @ row, 0).astype(np.float32))


def last_map(view: NetworkView) -> str | None:
    """The last map that is worth seeing before pools make less of it."""
    graph = view.trained.net.graph
    maps = [
        layer.name
        for layer in view.layers
        if len(layer.shape) == 3 and layer.is_map and layer.is_end and not isinstance(graph[layer.name].op, _POOLS)
    ]
    return maps[-1] if maps else None


def _map_named(view: NetworkView, pattern: str) -> str:
    layers = select_layers(view.layers, [pattern], view.name)
    maps = [layer.name for layer in layers if len(layer.shape) == 3 and layer.is_map]
    if not maps:
        last = last_map(view)
        raise CnnError.of(
            "argument",
            f"`{pattern}` names no map of height and width, which Grad-CAM is laid over",
            help=f"the last one is `{last}`" if last else None,
        )
    return maps[-1]


def _head(program: Program) -> tuple[str, Operator] | None:
    """The map that is averaged, and the dense layer that makes the only output's scores of the averages."""
    if len(program.outputs) != 1:
        return None
    dense = _producer(program, program.outputs[0])
    if dense is None or not _is_dense(program, dense):
        return None
    pool = _producer(program, dense.inputs[0])
    if pool is None or pool.kind not in ("MEAN", "AVERAGE_POOL_2D"):
        return None
    source, pooled = program[pool.inputs[0]].shape, program[pool.outputs[0]]
    if len(source) != 4 or pooled.size != source[-1] or source[1] * source[2] == 1:
        return None
    return pool.inputs[0], dense


def _is_dense(program: Program, operator: Operator) -> bool:
    """Whether an operator makes scores of features: a fully connected layer, or a 1x1 convolution of one place."""
    if operator.kind not in ("FULLY_CONNECTED", "CONV_2D") or stored(program, operator.inputs[1]) is None:
        return False
    if operator.options.get("activation", "NONE") != "NONE":
        return False
    shape = program[operator.outputs[0]].shape
    return operator.kind == "FULLY_CONNECTED" or all(size == 1 for size in shape[:-1])


def _producer(program: Program, name: str) -> Operator | None:
    """The operator that computes a tensor, seen through those that only give it another form."""
    while (operator := producer(program, name)) is not None and operator.kind in _THROUGH:
        name = operator.inputs[0]
    return operator
