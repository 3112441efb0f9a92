"""The content of a file of weights, whoever wrote it: layers of named arrays. Readers make it, matching reads it.

A reader gives what its format states and nothing more: names, arrays, and where the format has them the axes, the order
in which layers run, and which layer reads which. What it does not state stays unsaid, and alignment works it out from
shapes or asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cnnc.weights.importing.layers.steps import Step, Window, unknown

Array = NDArray[np.float32]
Role = Literal[
    "kernel",
    "bias",
    "gamma",
    "beta",
    "mean",
    "variance",
    "table",
    "alpha",
    "query_kernel",
    "query_bias",
    "key_kernel",
    "key_bias",
    "value_kernel",
    "value_bias",
    "output_kernel",
    "output_bias",
]
"""A weight's short name as the graph's operators have it."""

Kind = Literal[
    "linear",  # a convolution or a dense layer: papers and frameworks choose one or the other for 1x1
    "depthwise",
    "transposed",
    "batch_norm",
    "norm",  # layer and group norm
    "layer_scale",
    "prelu",
    "embedding",
    "attention",
]


@dataclass(frozen=True, eq=False)
class SourceTensor:
    """An array of the file, float32, quantised ones put back to numbers.

    `layouts` are the orders of axes that it may have, as letters, the likeliest first: O outputs, I inputs, H, W and D
    space, C channels, M multiplier, 1 an axis of size 1; `OIHW`, `HWIO`, `OHWI`, `OI`, `IO`, `HWCM`, `C1HW`, `1HWC`,
    `HW1C`, `IOHW`, `HWOI`, `O`. A convolution over a signal has W, over a volume DHW. In the depthwise ones with a 1,
    C are the outputs, those of an input channel side by side. An embedding's table is `IO`, a row an index. Attention's
    arrays have two axes, heads and their features in one; biases one. An array of one axis with a layout of several
    (`raw float32`) has them in that order, its sizes unknown. Of an array without any nothing is known.
    """

    name: str
    array: Array
    layouts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Read:
    """A layer that another one reads, through operators without weights.

    `place` tells apart what is not alike: `""` where order plays no part (a chain, a sum, a product), else the input's
    0-based place in the concatenation on the way, innermost first: `"1"`, or `"1.0"` for two of them.
    """

    layer: int
    place: str = ""


@dataclass(frozen=True, eq=False)
class SourceLayer:
    """Arrays that one operator owns.

    `kind` is None where the format does not say it (a `weight` of one axis could be a norm's or a layer
    scale's, and has the role gamma). `reads` are
    the layers whose values it sees, `None` where the format holds no graph; empty for one that sees the input alone.

    `epsilon` is what a norm adds to the variance, None where the format does not say. The target's may be another; then
    `gamma * sqrt((variance + target) / (variance + epsilon))` keeps what the layer does.

    `window` is how a convolution goes over its map, `sees` and `gives` are what enters a layer and what leaves it,
    where the format says so.
    """

    name: str
    kind: Kind | None
    tensors: Mapping[Role, SourceTensor]
    reads: tuple[Read, ...] | None = None
    epsilon: float | None = None
    window: Window | None = None
    sees: Step = field(default_factory=unknown)
    gives: Step = field(default_factory=unknown)


@dataclass(frozen=True, eq=False)
class Source:
    """A file read.

    Attributes:
        path: the file or folder.
        format: what it is in words: `safetensors`, `PyTorch state dict`, `Keras model`, `TFLite, int8`.
        layers: in the order that `order` says.
        order: `running` when it is a graph's topological order, `written` when it is that in which the author's code
            made the layers (a state dict's), `names` when it says nothing (safetensors sorts its names; then layers
            are in natural order of names, `layer2` before `layer10`).
        channels_first: whether activations are `(batch, channels, height, width)`, so that a dense layer after a
            flatten of a map reads its values in that order. None when unknown.
        bgr: whether pictures enter blue first (Caffe's way). Only said where the format implies it.
        ignored: tensors that are no weights, by name and why (`num_batches_tracked: a counter`).
        activation: the function between hidden layers, in a step's word; None where nothing says it.
    """

    path: Path
    format: str
    layers: tuple[SourceLayer, ...]
    order: Literal["running", "written", "names"]
    channels_first: bool | None = None
    bgr: bool | None = None
    ignored: Mapping[str, str] | None = None
    activation: str | None = None
