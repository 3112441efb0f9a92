"""An inspection: a picture sent through a network or a TFLite file, and all that there is to see of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.activations.cam import Cam, cam, cam_tensor, grad_cam, last_map
from cnnc.activations.comparison import LayerComparison, compare_layers
from cnnc.activations.first_filters import Filters, first_filters
from cnnc.activations.input_picture import Channel, channels, read_input
from cnnc.activations.model_view import FileView, Layer, ModelView, Values
from cnnc.activations.pairing import Pairing, pair_layers
from cnnc.activations.prediction import Prediction, class_index, class_names, predict_class
from cnnc.activations.selection import select_layers
from cnnc.activations.statistics import Figures, figures
from cnnc.diagnostics import CnnError
from cnnc.ir.pixels import is_picture_shape


@dataclass(frozen=True, eq=False)
class LayerView:
    """A layer, its values on the picture, and how a second model's differ."""

    layer: Layer
    values: NDArray[np.float32]
    comparison: LayerComparison | None = None

    @cached_property
    def figures(self) -> Figures:
        """The figures of the values."""
        return figures(self.values)


@dataclass(frozen=True, eq=False)
class Inspection:
    """All that there is to see.

    `value` is what went in, `(height, width, channels)` of uint8 for a picture, whose `channels` are then split.
    `no_cam` says why there is no `cam`. `other` is the second model, and `criterion` how layers were paired with its.
    """

    view: ModelView
    image: Path
    value: NDArray[Any]
    channels: tuple[Channel, ...]
    layers: tuple[LayerView, ...]
    filters: Filters | None
    prediction: Prediction | None
    cam: Cam | None
    no_cam: str
    other: ModelView | None = None
    other_prediction: Prediction | None = None
    criterion: str = ""

    @property
    def comparisons(self) -> list[LayerComparison]:
        """The layers in both models from the lowest SQNR to the highest; those without any error last."""
        comparisons = [each.comparison for each in self.layers if each.comparison is not None]
        return sorted(comparisons, key=lambda each: float("inf") if each.sqnr is None else each.sqnr)


def inspect(
    view: ModelView,
    image: Path,
    *,
    patterns: Sequence[str] = (),
    other: ModelView | None = None,
    cam_class: str | None = None,
    cam_layer: str | None = None,
) -> Inspection:
    """Send a picture through a model, or through two that are compared, and gather what there is to see.

    Args:
        view: the model.
        image: the picture, or a `.npy` file with an array of the input's shape.
        patterns: the layers to show, by name, label or glob; by default those that a person wants to see.
        other: a model to compare it with. Only layers that both have are shown then.
        cam_class: the class that Grad-CAM is of, by name or number; by default the likeliest.
        cam_layer: the layer that Grad-CAM is of, by default the last that is a map.

    Raises:
        CnnError: the picture does not fit, a pattern or class is unknown, or the two models are of other networks.
    """
    value = read_input(image, view)
    pairing = None if other is None else pair_layers(view, other)
    layers = select_layers(view.layers if pairing is None else pairing.layers, patterns, view.name)
    values = _evaluate(view, value, [] if pairing else [layer.name for layer in layers])
    prediction = predict_class(view, values, class_names(view, other))
    index = _class_index(prediction, cam_class)
    heat, no_cam = _class_activation_map(view, value, values, index, cam_layer)
    split = channels(view, value) if is_picture_shape(view.input_shape) and value.dtype == np.uint8 else ()
    other_prediction = None
    if pairing is None or other is None:
        views = tuple(LayerView(layer, values[layer.name]) for layer in layers)
    else:
        views, other_values = _compare(pairing, layers, other, value)
        other_prediction = predict_class(other, other_values, class_names(other, view))
    filters = first_filters(view)
    criterion = pairing.criterion if pairing else ""
    return Inspection(
        view, image, value, split, views, filters, prediction, heat, no_cam, other, other_prediction, criterion
    )


def _evaluate(view: ModelView, value: NDArray[Any], names: Sequence[str]) -> Values:
    """The values of layers, and of those that the prediction and CAM are of."""
    output = view.output.layer if view.output else None
    target = cam_tensor(view) if isinstance(view, FileView) else None
    wanted = dict.fromkeys([*names, *(name for name in (output, target) if name is not None)])
    return view.evaluate(value, list(wanted)) if wanted else {}


def _class_index(prediction: Prediction | None, cam_class: str | None) -> int | None:
    if prediction is not None:
        return class_index(prediction, cam_class)
    if cam_class is not None:
        raise CnnError.of("argument", f"there is no class `{cam_class}`: the network has no single output of classes")
    return None


def _class_activation_map(
    view: ModelView, value: NDArray[Any], values: Values, index: int | None, layer: str | None
) -> tuple[Cam | None, str]:
    """Where the class is seen, or why that cannot be told."""
    if not is_picture_shape(view.input_shape) or value.dtype != np.uint8:
        return None, "Grad-CAM is laid over pictures, and this is none"
    if index is None:
        return None, "Grad-CAM is of a class, and the network has no single output of classes"
    if isinstance(view, FileView):
        if layer is not None:
            raise CnnError.of(
                "argument",
                f"`{view.name}` is a TFLite file, which has no gradients to make Grad-CAM of a chosen layer of",
                help="call the command on the run or spec that it was compiled of",
            )
        if cam_tensor(view) is None:
            return None, (
                "a TFLite file has no gradients, and CAM is only of networks that end in an average over their last"
                " map and one dense layer: look at the run or spec that it was compiled of"
            )
        return _require_finite(cam(view, values, index))
    if layer is None and last_map(view) is None:
        return None, "the network has no maps of height and width"
    return _require_finite(grad_cam(view, value, index, layer))


def _require_finite(heat: Cam) -> tuple[Cam | None, str]:
    if not np.isfinite(heat.heat).all():
        return None, f"values of `{heat.layer}` or their gradients are not finite"
    return heat, ""


def _compare(
    pairing: Pairing, layers: Sequence[Layer], other: ModelView, value: NDArray[Any]
) -> tuple[tuple[LayerView, ...], Values]:
    """Views of layers in both models, and the values of the other's output."""
    first = pairing.first.evaluate(value, [layer.name for layer in layers])
    partners = [pairing.partners[layer.name] for layer in layers]
    output = [other.output.layer] if other.output else []
    if pairing.second is other:
        second = outputs = other.evaluate(value, [*partners, *output])
    else:  # passes have made another graph of it, where the output may have another name
        second = pairing.second.evaluate(value, partners)
        outputs = other.evaluate(value, output) if output else {}
    comparisons = compare_layers(pairing, layers, first, second)
    return tuple(LayerView(each.layer, each.first, each) for each in comparisons), outputs
