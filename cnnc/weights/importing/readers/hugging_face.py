"""Hugging Face's `config.json`: settings that leave no mark in the weights beside it and change values.

Strides of ResNets are said by `downsample_in_bottleneck`, the function of hidden layers by `hidden_act`, and what norms
add to the variance by `layer_norm_eps` and `batch_norm_eps` (transformers' configuration classes of these models).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from cnnc.documents import BadDocument, parse_json
from cnnc.files import read_bytes
from cnnc.weights.importing.layers.file_errors import fault
from cnnc.weights.importing.layers.file_layers import Kind, Source, SourceLayer
from cnnc.weights.importing.layers.steps import Window

_NAME: Final = "config.json"
_MOST_BYTES: Final = 1 << 20
_FIRST_BLOCK: Final = re.compile(r"(?:^|\.)encoder\.stages\.(\d+)\.layers\.0\.layer\.([01])\.convolution$")
_ACTIVATIONS: Final[Mapping[str, str]] = {
    "relu": "relu",
    "relu6": "relu6",
    "gelu": "gelu",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "silu": "swish",
    "swish": "swish",
    "hard_swish": "hard swish",
    "hardswish": "hard swish",
    "mish": "mish",
}
_BATCH_NORMS: Final = ("mobilenet_v1", "mobilenet_v2")
"""Models whose `layer_norm_eps` is that of their batch norms."""


def with_config(source: Source) -> Source:
    """A source with what the configuration beside its file says, if that is one of Hugging Face's.

    Raises:
        CnnError: the configuration is larger than any, or no JSON.
    """
    path = source.path.parent / _NAME
    if source.order == "running" or not source.path.is_file() or not path.is_file():
        return source
    try:
        config = parse_json(read_bytes(path, _MOST_BYTES))
    except (OSError, BadDocument) as error:
        reason = getattr(error, "strerror", None) or error
        raise fault(
            source.path,
            f"`{_NAME}` beside it, which may say how its network computes, cannot be read: {reason}",
            help="mend it, or put the weights into a folder without it",
        ) from error
    if not isinstance(config, Mapping) or not isinstance(config.get("model_type"), str):
        return source
    strides = _strides(config)
    epsilons = _epsilons(config)
    layers = tuple(_with_settings(layer, strides, epsilons) for layer in source.layers)
    return replace(source, layers=layers, activation=_ACTIVATIONS.get(str(config.get("hidden_act"))))


def _with_settings(
    layer: SourceLayer, strides: Mapping[tuple[bool, int], int], epsilons: Mapping[Kind, float]
) -> SourceLayer:
    found = _FIRST_BLOCK.search(layer.name)
    if found is not None and strides:
        stride = strides[int(found[1]) == 0, int(found[2])]
        return replace(layer, window=Window((stride, stride)))
    if layer.kind is not None and layer.kind in epsilons and layer.epsilon is None:
        return replace(layer, epsilon=epsilons[layer.kind])
    return layer


def _strides(config: Mapping[str, Any]) -> Mapping[tuple[bool, int], int]:
    """Of the first and second convolution in the first block of a stage; by whether it is the first stage."""
    if config["model_type"] != "resnet" or config.get("layer_type", "bottleneck") != "bottleneck":
        return {}
    halves_first = config.get("downsample_in_first_stage") is True
    place = 0 if config.get("downsample_in_bottleneck") is True else 1
    return {
        (is_first, each): 2 if each == place and (halves_first or not is_first) else 1
        for is_first in (False, True)
        for each in (0, 1)
    }


def _epsilons(config: Mapping[str, Any]) -> Mapping[Kind, float]:
    layer, batch = (config.get(name) for name in ("layer_norm_eps", "batch_norm_eps"))
    if config["model_type"] in _BATCH_NORMS:
        layer, batch = None, layer
    given: tuple[tuple[Kind, Any], ...] = (("norm", layer), ("batch_norm", batch))
    return {kind: value for kind, value in given if isinstance(value, float) and 0 < value < 1}
