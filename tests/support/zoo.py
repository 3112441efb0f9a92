"""The bundled networks at sizes that a test computes in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cnnc
from cnnc.net import Net

SMALL: Mapping[str, Mapping[str, Any]] = {
    "alexnet": {"input": (67, 67, 3)},
    "alphafold": {"input": (8, 8, 675), "depth": 1 / 28},
    "inception_v3": {"input": (75, 75, 3)},
    "qanet": {
        "input": {
            "context": (12,),
            "context_characters": (12, 16),
            "question": (6,),
            "question_characters": (6, 16),
        },
        "width": 1 / 4,
        "depth": 2 / 7,
        "words": 50,
        "characters": 30,
    },
    "resnet3d": {"input": (4, 28, 28, 3)},
    "unet": {"input": (188, 188, 1), "width": 1 / 8},
    "wavenet": {"input": (64,)},
    "xception": {"input": (71, 71, 3)},
}


def small(name: str) -> Net:
    """A bundled network with a small input: one of 224x224 or more as 32x32 unless `SMALL` says otherwise."""
    if name in SMALL:
        return cnnc.load(name, **SMALL[name])
    net = cnnc.load(name)
    is_large = len(net.graph.inputs) == 1 and net.graph.inputs[0].shape[0] >= 224
    return cnnc.load(name, input=(32, 32, net.graph.inputs[0].shape[-1])) if is_large else net


def samples(net: Net, batch: int) -> dict[str, NDArray[Any]]:
    """Inputs from 0 to 1, or of ones and zeros where indices are wanted."""
    rng = np.random.default_rng(0)
    return {
        node.name: rng.integers(2, size=(batch, *node.shape))
        if getattr(node.op, "dtype", "float") == "int"
        else rng.uniform(0, 1, (batch, *node.shape)).astype(np.float32)
        for node in net.graph.inputs
    }
