"""Forms: what a layer of a file and an operator of a graph must have in common to be one and the same.

A form is a kind with sizes, whatever the order of axes: `("linear", (3, 3), 64, 128)` for a convolution of 3x3 from 64
to 128 channels. A window of one position has no taps, so that a 1x1 convolution and a dense layer are of one form.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Final

from cnnc.weights.importing.layers.file_layers import Kind, Role, SourceLayer, SourceTensor

Form = tuple[Any, ...]

_SPACE: Final = "DHW"
_NORMS: Final[tuple[Role, ...]] = ("gamma", "beta", "mean", "variance")


@dataclass(frozen=True)
class Reading:
    """A way to see a layer of a file: its form if its kernel's axes are as `layout` says; empty for no kernel."""

    form: Form
    layout: str = ""


def readings(layer: SourceLayer, dropped: int = 0) -> tuple[Reading, ...]:
    """All that a layer may be, the likeliest first; none for one that lacks its kernel.

    Args:
        layer: the layer.
        dropped: so many classes a `linear` layer is to lose.
    """
    if "kernel" in layer.tensors:
        tensor = layer.tensors["kernel"]
        found = [Reading(_kernel_form(tensor, layout, layer.kind, dropped), layout) for layout in tensor.layouts]
        return tuple(reading for reading in found if reading.form)
    if "table" in layer.tensors:
        return (Reading(("embedding", *layer.tensors["table"].array.shape), "IO"),)
    if "query_kernel" in layer.tensors:
        return (Reading(("attention", *layer.tensors["query_kernel"].array.shape)),)
    if "alpha" in layer.tensors:
        return (Reading(("prelu", layer.tensors["alpha"].array.size)),)
    sizes = {layer.tensors[role].array.size for role in _NORMS if role in layer.tensors}
    if len(sizes) != 1:
        return ()
    kinds: tuple[Kind, ...] = (layer.kind,) if layer.kind is not None else _kinds_of(layer)
    return tuple(Reading((kind, *sizes)) for kind in kinds)


def linear_form(taps: tuple[int, ...], inputs: int, outputs: int, kind: Kind = "linear") -> Form:
    """The form of a convolution or dense layer."""
    return (kind, () if prod(taps) == 1 else taps, inputs, outputs)


def depthwise_form(taps: tuple[int, ...], outputs: int) -> Form:
    """The form of a depthwise convolution; of its channels and their multiplier only the product is known."""
    return ("depthwise", () if prod(taps) == 1 else taps, outputs)


def flat_form(count: int) -> Form:
    """The form of a kernel of which only the number of values is known."""
    return ("values", count)


def _kernel_form(tensor: SourceTensor, layout: str, kind: Kind | None, dropped: int) -> Form:
    array = tensor.array
    if array.ndim == 1 and len(layout) > 1:
        return flat_form(array.size)
    if array.ndim != len(layout):
        return ()
    sizes = dict(zip(layout, array.shape, strict=True))
    taps = tuple(sizes[letter] for letter in _SPACE if letter in sizes)
    if "C" in sizes:
        return depthwise_form(taps, sizes["C"] * sizes.get("M", 1)) if sizes.get("1", 1) == 1 else ()
    if "I" not in sizes:
        return ()
    is_transposed = bool(taps) and (layout.startswith("IO") or layout.endswith("OI"))
    found: Kind = kind or ("transposed" if is_transposed else "linear")
    return linear_form(taps, sizes["I"], sizes["O"] - (dropped if found == "linear" else 0), found)


def _kinds_of(layer: SourceLayer) -> tuple[Kind, ...]:
    """Kinds of layers that vectors alone may belong to."""
    if "mean" in layer.tensors or "variance" in layer.tensors:
        return ("batch_norm",)
    if "beta" in layer.tensors:
        return ("norm", "batch_norm")
    return ("layer_scale", "norm", "prelu")
