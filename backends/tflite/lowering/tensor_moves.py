"""Padding, cutting and turning of tensors, which the lowerings of several operators need."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from cnnc.backends.tflite.lowering.lowering_site import Site


def pad_with(site: Site, kind: str, x: str, pairs: Sequence[tuple[int, int]], name: str, value: str = "") -> str:
    """PAD with zeros, or PADV2 with the constant `value`, around the spatial axes of a tensor."""
    before = site.out.shape(x)
    amounts = site.out.constant(f"{name}:amounts", np.array([(0, 0), *pairs, (0, 0)]))
    sizes = [n + first + last for n, (first, last) in zip(before[1:-1], pairs, strict=True)]
    shape = (before[0], *sizes, before[-1])
    return site.out.emit(kind, (x, amounts, value) if value else (x, amounts), shape, name)


def crop(site: Site, x: str, begin: Sequence[int], shape: Sequence[int], name: str) -> str:
    """The part of a tensor of a shape that starts at `begin` along the spatial axes."""
    start = site.out.constant(f"{name}:begin", [0, *begin, 0])
    return site.out.emit("SLICE", (x, start, site.out.constant(f"{name}:size", list(shape))), shape, name)


def transpose(site: Site, x: str, axes: Sequence[int], name: str) -> str:
    """A tensor with its axes in another order."""
    shape = [site.out.shape(x)[axis] for axis in axes]
    return site.out.emit("TRANSPOSE", (x, site.out.constant(f"{name}:axes", list(axes))), shape, name)


def rows(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape of four axes for work on every position by itself; kernels of old readers broadcast no more axes."""
    if len(shape) == 2:
        return (1, 1, *shape)
    return tuple(shape) if len(shape) == 4 else (1, prod(shape[1:-2]), shape[-2], shape[-1])
