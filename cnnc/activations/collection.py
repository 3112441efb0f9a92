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
from cnnc.activations.models import Layer, Values, Watched
from cnnc.activations.prediction import Predicted, class_index, output_of, predicted
from cnnc.activations.selection import choose
from cnnc.activations.statistics import Figures, figures
from cnnc.diagnostics import CnnError
from cnnc.evaluation.class_labels import without_background
from cnnc.ir.pixels import is_picture_shape

if TYPE_CHECKING:  # a TFLite file by itself needs no jax
    from cnnc.activations.pairing import Compared, Paired


@dataclass(frozen=True, eq=False)
class Shown:
    """A layer, its values on the picture, their figures, and what a second model makes of it."""

    layer: Layer
    values: NDArray[np.float32]
    figures: Figures
    compared: Compared | None = None


@dataclass(frozen=True, eq=False)
class Look:
    """All that there is to see.

    `value` is what went in, `(height, width, channels)` of uint8 for a picture, whose `channels` are then split.
    `no_cam` says why there is no `cam`, `other` and `how` are of the second model and how layers were paired.
    """

    watched: Watched
    image: Path
    value: NDArray[Any]
    channels: tuple[Channel, ...]
    shown: tuple[Shown, ...]
    filters: Filters | None
    predicted: Predicted | None
    cam: Cam | None
    no_cam: str
    other: Watched | None = None
    other_predicted: Predicted | None = None
    how: str = ""

    @property
    def worst_first(self) -> list[Compared]:
        """The layers in both models by their SQNR; those without any error last."""
        found = [shown.compared for shown in self.shown if shown.compared is not None]
        return sorted(found, key=lambda each: float("inf") if each.sqnr is None else each.sqnr)


def look(
    watched: Watched,
    image: Path,
    *,
    patterns: Sequence[str] = (),
    other: Watched | None = None,
    wanted: str | None = None,
    cam_layer: str | None = None,
) -> Look:
    """Send a picture through a model, or through two that are compared, and gather what there is to see.

    Args:
        watched: the model.
        image: the picture, or a `.npy` file with an array of the input's shape.
        patterns: the layers to show, by name, label or glob; by default those that a person wants to see.
        other: a model to compare it with. Only layers that both have are shown then.
        wanted: the class that Grad-CAM is of, by name or number; by default the likeliest.
        cam_layer: the layer that Grad-CAM is of, by default the last that is a map.

    Raises:
        CnnError: the picture does not fit, a pattern or class is unknown, or the two models are of other networks.
    """
    value = read_input(image, watched)
    watched, other, paired = _pair(watched, other)
    layers = choose(watched.layers if paired is None else paired.layers, patterns, watched.what)
    values, found = _evaluated(watched, value, () if paired else [layer.name for layer in layers])
    index = _index(found, wanted)
    heat, reason = _cam(watched, value, values, index, cam_layer)
    split = channels(watched, value) if is_picture_shape(watched.input) and value.dtype == np.uint8 else ()
    shown, other_found = (
        (_alone(layers, values), None) if paired is None else _beside(paired, layers, watched, other, value)
    )
    how = paired.how if paired else ""
    filters = first_filters(watched)
    return Look(watched, image, value, split, shown, filters, found, heat, reason, other, other_found, how)


def _pair(watched: Watched, other: Watched | None) -> tuple[Watched, Watched | None, Paired | None]:
    """Two models with the labels of either, and their layers in pairs, where there is a second."""
    if other is None:
        return watched, None, None
    from cnnc.activations.pairing import pair

    watched, other = _with_labels(watched, other), _with_labels(other, watched)
    return watched, other, pair(watched, other)


def _evaluated(watched: Watched, value: NDArray[Any], names: Sequence[str]) -> tuple[Values, Predicted | None]:
    """The layers' values, with what the output and CAM need, and what the model predicts."""
    output = output_of(watched)
    target = cam_tensor(watched) if watched.file is not None else None
    wanted = dict.fromkeys([*names, *(name for name in (output, target) if name is not None)])
    values = watched.evaluate(value, list(wanted)) if wanted else {}
    return values, None if output is None else predicted(watched, output, values)


def _with_labels(watched: Watched, other: Watched) -> Watched:
    """A model without labels with those of another that has as many classes."""
    output = output_of(watched)
    if watched.labels or not other.labels or output is None:
        return watched
    count = max(2, watched[output].shape[-1])
    labels, _ = without_background(other.labels, count, "the list")
    return replace(watched, labels=labels) if len(labels) == count else watched


def _index(found: Predicted | None, wanted: str | None) -> int | None:
    if found is None:
        if wanted is not None:
            raise CnnError.of("argument", f"there is no class `{wanted}`: the network has no single output of classes")
        return None
    return class_index(found, wanted)


def _cam(
    watched: Watched, value: NDArray[Any], values: Values, index: int | None, layer: str | None
) -> tuple[Cam | None, str]:
    """Where the class is seen, or why that cannot be told."""
    if not is_picture_shape(watched.input) or value.dtype != np.uint8:
        return None, "Grad-CAM is laid over pictures, and this is none"
    if index is None:
        return None, "Grad-CAM is of a class, and the network has no single output of classes"
    if watched.file is not None:
        if layer is not None:
            raise CnnError.of(
                "argument",
                f"`{watched.what}` is a TFLite file, which has no gradients to make Grad-CAM of a chosen layer of",
                help="call the command on the run or spec that it was compiled of",
            )
        if cam_tensor(watched) is None:
            return None, (
                "a TFLite file has no gradients, and CAM is only of networks that end in an average over their last"
                " map and one dense layer: look at the run or spec that it was compiled of"
            )
        return _finite(cam(watched, values, index))
    if layer is None and last_map(watched) is None:
        return None, "the network has no maps of height and width"
    return _finite(grad_cam(watched, value, index, layer))


def _finite(found: Cam) -> tuple[Cam | None, str]:
    if not np.isfinite(found.heat).all():
        return None, f"values of `{found.layer}` or their gradients are not finite"
    return found, ""


def _alone(layers: Sequence[Layer], values: Values) -> tuple[Shown, ...]:
    return tuple(Shown(layer, values[layer.name], figures(values[layer.name])) for layer in layers)


def _beside(
    paired: Paired, layers: Sequence[Layer], watched: Watched, other: Watched | None, value: NDArray[Any]
) -> tuple[tuple[Shown, ...], Predicted | None]:
    from cnnc.activations.pairing import compare

    assert other is not None
    first = paired.first.evaluate(value, [layer.name for layer in layers])
    names = [paired.partners[layer.name] for layer in layers]
    output = output_of(other)
    if paired.second is other:
        second = other.evaluate(value, [*names, *([output] if output else [])])
        outputs = second
    else:
        second = paired.second.evaluate(value, names)
        outputs = other.evaluate(value, [output]) if output else {}
    found = compare(paired, layers, first, second)
    shown = tuple(Shown(each.layer, each.first, figures(each.first), each) for each in found)
    return shown, predicted(other, output, outputs) if output else None
