"""Keras's layers without weights as steps, and how those with weights go over their maps, from their configurations.

Defaults are Keras's: `leaky_relu` has a slope of 0.2 as a function and of 0.3 as a layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cnnc.weights.importing.layers.steps import (
    JOINED,
    PAD,
    PRODUCT,
    SUM,
    Padding,
    Step,
    Window,
    activation,
    combined,
    unknown,
)

Config = Mapping[str, Any]
_FUNCTIONS: Final[Mapping[str, tuple[str, tuple[object, ...]]]] = {
    "linear": ("linear", ()),
    "relu": ("relu", ()),
    "relu6": ("relu6", ()),
    "sigmoid": ("sigmoid", ()),
    "tanh": ("tanh", ()),
    "softmax": ("softmax", ()),
    "silu": ("swish", ()),
    "swish": ("swish", ()),
    "hard_silu": ("hard swish", ()),
    "hard_swish": ("hard swish", ()),
    "hard_sigmoid": ("hard sigmoid", ()),
    "mish": ("mish", ()),
    "elu": ("elu", (1.0,)),
    "gelu": ("gelu", ()),
    "leaky_relu": ("leaky relu", (0.2,)),
}
_NOTHING: Final = re.compile(
    r"Flatten|Reshape|Dropout|(Spatial|Gaussian|Alpha)Dropout(\dD)?|GaussianNoise|ActivityRegularization"
    r"|Normalization|Rescaling|InputLayer|Identity|Random\w+"
)
_MERGES: Final = {"Add": SUM, "Multiply": PRODUCT, "Concatenate": JOINED}
_POOLS: Final = re.compile(r"(Global)?(Max|Average)Pool(?:ing)?(\d)D")
_WINDOWED: Final = re.compile(r"(Depthwise|Separable)?Conv(\d)D(Transpose)?")


def step_of(kind: str, config: Config, inputs: Sequence[Step]) -> Step:
    """A layer without weights as a step on what it takes."""
    if not inputs:
        return unknown()
    if kind in _MERGES:
        # An operator with a number for its second operand has one input.
        is_last = kind != "Concatenate" or config.get("axis", -1) in (-1, 3)
        return combined(_MERGES[kind], inputs) if len(inputs) > 1 and is_last else unknown(*inputs)
    if len(inputs) > 1:
        return unknown(*inputs)
    if _NOTHING.fullmatch(kind):
        return inputs[0]
    maker = _MAKERS.get(kind) or _makers_of(kind)
    found = maker(config, inputs[0]) if maker is not None else None
    return unknown(*inputs) if found is None else found


def activated(config: Config, value: Step) -> Step:
    """The step that the activation of a layer takes."""
    given = config.get("activation", "linear")
    name = given.get("config") if isinstance(given, Mapping) else given
    if name is None:
        return value
    kind, facts = _FUNCTIONS.get(str(name), ("", ()))
    return activation(kind, value, *facts) if kind else unknown(value)


def window_of(kind: str, config: Config) -> Window | None:
    """How a convolution goes over its map; None for what is none."""
    found = _WINDOWED.fullmatch(kind)
    if found is None:
        return None
    rank = int(found[2])
    padding = _padding(config)
    dilation = sizes(config.get("dilation_rate", 1), rank)
    if found[3] and config.get("output_padding") is not None:
        padding = None
    if config.get("padding") == "causal":
        (kernel,) = sizes(config["kernel_size"], 1)
        padding = ((dilation[0] * (kernel - 1), 0),)
    return Window(sizes(config.get("strides", 1), rank), dilation, padding)


def sizes(given: Any, rank: int) -> tuple[int, ...]:
    """One number for each axis, of one for all or of as many."""
    found = tuple(int(each) for each in given) if isinstance(given, list | tuple) else (int(given),) * rank
    if len(found) != rank:
        raise ValueError(f"a configuration has {len(found)} sizes for {rank} axes")
    return found


def _padding(config: Config) -> Padding | None:
    given = config.get("padding", "valid")
    return given if given in ("same", "valid") else None


def _pool(found: re.Match[str], config: Config, value: Step) -> Step | None:
    if config.get("data_format", "channels_last") == "channels_first":
        return None
    kind, rank = f"{found[2].lower()} pool", int(found[3])
    if found[1]:
        return Step(kind, (value,), window=Window())
    kernel = sizes(config["pool_size"], rank)
    strides = config.get("strides")
    stride = kernel if strides is None else sizes(strides, rank)
    return Step(kind, (value,), window=Window(stride, None, _padding(config), kernel))


def _makers_of(kind: str) -> Callable[[Config, Step], Step | None] | None:
    found = _POOLS.fullmatch(kind)
    if found is None:
        return None
    return lambda config, value: _pool(found, config, value)


def _relu(config: Config, value: Step) -> Step | None:
    slope, most = config.get("negative_slope") or 0.0, config.get("max_value")
    if config.get("threshold") or (slope and most is not None) or most not in (None, 6.0):
        return None
    if slope:
        return activation("leaky relu", value, round(float(slope), 6))
    return activation("relu" if most is None else "relu6", value)


def _leaky_relu(config: Config, value: Step) -> Step:
    slope = config.get("negative_slope", config.get("alpha", 0.3))
    return activation("leaky relu", value, round(float(slope), 6))


def _zeros(config: Config, value: Step) -> Step | None:
    given = config["padding"]
    if config.get("data_format") == "channels_first" or isinstance(given, int):
        return None
    pairs = [given] if all(isinstance(each, int) for each in given) else given
    return Step(PAD, (value,), window=Window(padding=tuple((int(before), int(after)) for before, after in pairs)))


def _resize(config: Config, value: Step) -> Step | None:
    size, method = config.get("size"), config.get("interpolation", "nearest")
    if not isinstance(size, list | tuple) or config.get("data_format") == "channels_first":
        return None
    return Step("resize", (value,), (method, tuple(map(int, size))))


_MAKERS: Final[Mapping[str, Callable[[Config, Step], Step | None]]] = {
    "Activation": lambda config, value: activated(config, value),
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": lambda config, value: activation("elu", value, round(float(config.get("alpha", 1.0)), 6)),
    "Softmax": lambda _, value: activation("softmax", value),
    "ZeroPadding1D": _zeros,
    "ZeroPadding2D": _zeros,
    "ZeroPadding3D": _zeros,
    "UpSampling2D": _resize,
}
