"""Which inputs take pictures: by their shape, and by the layers that bring their pixels to the network's range."""

from __future__ import annotations

from typing import Final

from cnnc.ir.graph import Graph
from cnnc.ops import Bgr, Normalize, Shape

PICTURE_CHANNELS: Final = (1, 3, 4)
"""Grey, red with green and blue, and these with opacity."""
PIXEL_LAYERS: Final = Normalize | Bgr
"""Operators that bring pixels of 0 to 255, red before blue, to the range and order that a network wants."""


def is_picture_shape(shape: Shape) -> bool:
    """Whether pictures can have a shape: height, width and as many channels as there are kinds of picture."""
    return len(shape) == 3 and shape[-1] in PICTURE_CHANNELS


def takes_pixels(graph: Graph, name: str) -> bool:
    """Whether an input is of pixels of 0 to 255, in pictures or else: the network itself normalises all it reads there.

    It says nothing of the input's shape: films and scans have pixels too.
    """
    readers = graph.consumers[name]
    return bool(readers) and all(isinstance(reader.op, PIXEL_LAYERS) for reader in readers)
