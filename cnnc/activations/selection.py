"""Which layers are shown: those that a person wants to see, or those that patterns name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from cnnc.activations.model_view import Layer
from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.ir import scopes_of

_LISTED: Final = 12


def select_layers(layers: Sequence[Layer], patterns: Sequence[str], model: str) -> tuple[Layer, ...]:
    """The layers to show, in the network's order.

    Without patterns these are the maps: of a convolution, its norm and its activation the last alone, for the others
    show the same again; merges and pools; and every end of that kind where a network has no maps at all.

    Args:
        layers: those there are.
        patterns: each a layer's name, a label or block that layers lie in (its ends are meant), or a glob of either.
        model: the network's name, for an error.

    Raises:
        CnnError: a pattern that no layer matches.
    """
    if not patterns:
        ends = tuple(layer for layer in layers if layer.is_end)
        return tuple(layer for layer in ends if layer.is_map) or ends or tuple(layers)
    names = {layer.name for pattern in patterns for layer in _matches(layers, pattern, model)}
    return tuple(layer for layer in layers if layer.name in names)


def _matches(layers: Sequence[Layer], pattern: str, model: str) -> list[Layer]:
    named = [layer for layer in layers if fnmatchcase(layer.name, pattern) or fnmatchcase(layer.title, pattern)]
    if named:
        return named
    within = [layer for layer in layers if any(fnmatchcase(scope, pattern) for scope in scopes_of(layer.title))]
    if not within:
        known = [name for layer in layers for name in (layer.title, *scopes_of(layer.title))]
        listed = ", ".join(f"`{layer.title}`" for layer in layers[:_LISTED]) + (", ..." if layers[_LISTED:] else "")
        raise CnnError.of(
            "argument",
            f"`{pattern}` matches no layer of `{model}`",
            help=did_you_mean(pattern, known) or f"its layers are {listed}",
        )
    return [layer for layer in within if layer.is_end] or within
