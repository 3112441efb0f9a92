"""A picture through a network or a TFLite file, and all that there is to see of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnc.activations.cam import Cam, cam, cam_tensor, grad_cam, last_map
from cnnc.activations.first_filters import Filters, first_filters
from cnnc.activations.input_picture import Channel, channels, read_input
from cnnc.activations.model_view import Layer, ModelView, Values
from cnnc.activations.prediction import Prediction, class_index, output_of, prediction
from cnnc.activations.selection import choose
from cnnc.activations.statistics import Figures, figures
from cnnc.diagnostics import CnnError
from cnnc.evaluation.class_labels import without_background
from cnnc.ir.pixels import is_picture_shape

if TYPE_CHECKING:  # a TFLite file by itself needs no jax
    from cnnc.activations.pairing import LayerComparison, Pairing


@dataclass(frozen=True, eq=False)
class LayerView:
    """A layer, its values on the picture, their figures, and what a second model makes of it."""

    layer: Layer
    values: NDArray[np.float32]
    figures: Figures
    comparison: LayerComparison | None = None


@dataclass(frozen=True, eq=False)
class Inspection:
    """All that there is to see.

    `value` is what went in, `(height, width, channels)` of uint8 for a picture, whose `channels` are then split.
    `no_cam` says why there is no `cam`, `other` and `how` are of the second model and how layers were paired.
    """

    model: ModelView
    image: Path
    value: NDArray[Any]
    channels: tuple[Channel, ...]
    views: tuple[LayerView, ...]
    filters: Filters | None
    prediction: Prediction | None
    cam: Cam | None
    no_cam: str
    other: ModelView | None = None
    other_prediction: Prediction | None = None
    how: str = ""

    @property
    def worst_first(self) -> list[LayerComparison]:
        """The layers in both models by their SQNR; those without any error last."""
        found = [view.comparison for view in self.views if view.comparison is not None]
        return sorted(found, key=lambda each: float("inf") if each.sqnr is None else each.sqnr)


def inspect(
    model: ModelView,
    image: Path,
    *,
    patterns: Sequence[str] = (),
    other: ModelView | None = None,
    wanted: str | None = None,
    cam_layer: str | None = None,
) -> Inspection:
    """Send a picture through a model, or through two that are compared, and gather what there is to see.

    Args:
        model: the model.
        image: the picture, or a `.npy` file with an array of the input's shape.
        patterns: the layers to show, by name, label or glob; by default those that a person wants to see.
        other: a model to compare it with. Only layers that both have are shown then.
        wanted: the class that Grad-CAM is of, by name or number; by default the likeliest.
        cam_layer: the layer that Grad-CAM is of, by default the last that is a map.

    Raises:
        CnnError: the picture does not fit, a pattern or class is unknown, or the two models are of other networks.
    """
    value = read_input(image, model)
    model, other, pairing = _pair(model, other)
    layers = choose(model.layers if pairing is None else pairing.layers, patterns, model.what)
    values, found = _evaluate(model, value, () if pairing else [layer.name for layer in layers])
    index = _index(found, wanted)
    heat, reason = _cam(model, value, values, index, cam_layer)
    split = channels(model, value) if is_picture_shape(model.input) and value.dtype == np.uint8 else ()
    view, other_found = (
        (_alone(layers, values), None) if pairing is None else _beside(pairing, layers, model, other, value)
    )
    how = pairing.how if pairing else ""
    filters = first_filters(model)
    return Inspection(model, image, value, split, view, filters, found, heat, reason, other, other_found, how)


def _pair(model: ModelView, other: ModelView | None) -> tuple[ModelView, ModelView | None, Pairing | None]:
    """Two models with the labels of either, and their layers in pairs, where there is a second."""
    if other is None:
        return model, None, None
    from cnnc.activations.pairing import pair

    model, other = _with_labels(model, other), _with_labels(other, model)
    return model, other, pair(model, other)


def _evaluate(model: ModelView, value: NDArray[Any], names: Sequence[str]) -> tuple[Values, Prediction | None]:
    """The layers' values, with what the output and CAM need, and what the model predicts."""
    output = output_of(model)
    target = cam_tensor(model) if model.file is not None else None
    wanted = dict.fromkeys([*names, *(name for name in (output, target) if name is not None)])
    values = model.evaluate(value, list(wanted)) if wanted else {}
    return values, None if output is None else prediction(model, output, values)


def _with_labels(model: ModelView, other: ModelView) -> ModelView:
    """A model without labels with those of another that has as many classes."""
    output = output_of(model)
    if model.labels or not other.labels or output is None:
        return model
    count = max(2, model[output].shape[-1])
    labels, _ = without_background(other.labels, count, "the list")
    return replace(model, labels=labels) if len(labels) == count else model


def _index(found: Prediction | None, wanted: str | None) -> int | None:
    if found is None:
        if wanted is not None:
            raise CnnError.of("argument", f"there is no class `{wanted}`: the network has no single output of classes")
        return None
    return class_index(found, wanted)


def _cam(
    model: ModelView, value: NDArray[Any], values: Values, index: int | None, layer: str | None
) -> tuple[Cam | None, str]:
    """Where the class is seen, or why that cannot be told."""
    if not is_picture_shape(model.input) or value.dtype != np.uint8:
        return None, "Grad-CAM is laid over pictures, and this is none"
    if index is None:
        return None, "Grad-CAM is of a class, and the network has no single output of classes"
    if model.file is not None:
        if layer is not None:
            raise CnnError.of(
                "argument",
                f"`{model.what}` is a TFLite file, which has no gradients to make Grad-CAM of a chosen layer of",
                help="call the command on the run or spec that it was compiled of",
            )
        if cam_tensor(model) is None:
            return None, (
                "a TFLite file has no gradients, and CAM is only of networks that end in an average over their last"
                " map and one dense layer: look at the run or spec that it was compiled of"
            )
        return _finite(cam(model, values, index))
    if layer is None and last_map(model) is None:
        return None, "the network has no maps of height and width"
    return _finite(grad_cam(model, value, index, layer))


def _finite(found: Cam) -> tuple[Cam | None, str]:
    if not np.isfinite(found.heat).all():
        return None, f"values of `{found.layer}` or their gradients are not finite"
    return found, ""


def _alone(layers: Sequence[Layer], values: Values) -> tuple[LayerView, ...]:
    return tuple(LayerView(layer, values[layer.name], figures(values[layer.name])) for layer in layers)


def _beside(
    pairing: Pairing, layers: Sequence[Layer], model: ModelView, other: ModelView | None, value: NDArray[Any]
) -> tuple[tuple[LayerView, ...], Prediction | None]:
    from cnnc.activations.pairing import compare

    assert other is not None
    first = pairing.first.evaluate(value, [layer.name for layer in layers])
    names = [pairing.partners[layer.name] for layer in layers]
    output = output_of(other)
    if pairing.second is other:
        second = other.evaluate(value, [*names, *([output] if output else [])])
        outputs = second
    else:
        second = pairing.second.evaluate(value, names)
        outputs = other.evaluate(value, [output]) if output else {}
    found = compare(pairing, layers, first, second)
    view = tuple(LayerView(each.layer, each.first, figures(each.first), each) for each in found)
    return view, prediction(other, output, outputs) if output else None
