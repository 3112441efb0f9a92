"""Operators that move, join or interpolate values, and those that a device does without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Final

import numpy as np

from cnnc import ops
from cnnc.backends.tflite.lowering.lowering_site import Site, lower_op
from cnnc.backends.tflite.lowering.tensor_moves import crop, pad_with, rows, transpose

_KINDS: Final = {ops.Add: "ADD", ops.Sub: "SUB", ops.Mul: "MUL"}


@lower_op.register
def _(op: ops.Flatten | ops.Reshape | ops.Squeeze, site: Site) -> str:
    return site.out.reshape(site.x, site.shape, site.name)


@lower_op.register
def _(op: ops.Dropout | ops.DropPath, site: Site) -> str:
    return site.x


@lower_op.register
def _(op: ops.Add | ops.Sub | ops.Mul, site: Site) -> str:
    kind = _KINDS[type(op)]
    inputs = _flattened(site)
    total = inputs[0]
    for i, other in enumerate(inputs[1:], start=2):
        shape = tuple(map(max, site.out.shape(total), site.out.shape(other)))
        name = site.name if i == len(inputs) and shape == site.shape else site.part("partial")
        total = site.out.emit(kind, (total, other), shape, name, activation="NONE")
    return site.out.reshape(total, site.shape, site.name)


def _flattened(site: Site) -> list[str]:
    """The inputs with four axes at most, where broadcasting allows it: each of a volume's size, or of one position."""
    full = site.shape[1:-1]
    shapes = [site.out.shape(x) for x in site.inputs]
    if len(site.shape) < 5 or not all(shape[1:-1] in (full, (1,) * len(full)) for shape in shapes):
        return list(site.inputs)
    return [site.out.reshape(x, rows(shape), site.part("rows")) for x, shape in zip(site.inputs, shapes, strict=True)]


@lower_op.register
def _(op: ops.Concat, site: Site) -> str:
    if len(site.inputs) == 1:
        return site.x
    return site.out.emit(
        "CONCATENATION", site.inputs, site.shape, site.name, axis=len(site.shape) - 1, activation="NONE"
    )


@lower_op.register
def _(op: ops.Pad, site: Site) -> str:
    assert not isinstance(op.amount, str), op
    pairs = op.amount if len(op.amount) > 1 else ((0, 0), *op.amount)
    if op.value == 0:
        return pad_with(site, "PAD", site.x, pairs, site.name)
    value = site.out.constant(site.part("value"), np.float32(op.value))
    return pad_with(site, "PADV2", site.x, pairs, site.name, value)


@lower_op.register
def _(op: ops.Crop, site: Site) -> str:
    assert not isinstance(op.amount, str), op
    begin = [before for before, _ in op.amount]
    return crop(site, site.x, begin if len(begin) > 1 else [0, *begin], site.shape, site.name)


@lower_op.register
def _(op: ops.Resize, site: Site) -> str:
    resize = _nearest if op.method == "nearest" else _bilinear
    if len(site.shape) == 4:
        return _resized(site, site.x, site.shape[1:3], resize, site.name)
    # A volume: its planes first, then its depth with height and width as one axis.
    _, depth, height, width, channels = site.out.shape(site.x)
    _, deep, high, wide, _ = site.shape
    planes = site.out.reshape(site.x, (depth, height, width, channels), site.part("planes"))
    planes = _resized(site, planes, (high, wide), resize, site.part("within"))
    column = site.out.reshape(planes, (1, depth, high * wide, channels), site.part("column"))
    y = _resized(site, column, (deep, high * wide), resize, site.part("along"))
    return site.out.reshape(y, site.shape, site.name)


_Resize = Callable[[Site, str, Sequence[int], str], str]


def _resized(site: Site, x: str, sizes: Sequence[int], resize: _Resize, name: str) -> str:
    shape = site.out.shape(x)
    if tuple(shape[1:3]) == tuple(sizes):
        return x
    if tuple(shape[1:3]) == (1, 1) and site.flavour == "edgetpu":
        # All are copies of the one; the Edge TPU resizes by no such factor, and Google's DeepLab slim has this instead.
        copies = site.out.constant(f"{name}:copies", [1, *sizes, 1])
        return site.out.emit("TILE", (x, copies), (shape[0], *sizes, shape[-1]), name)
    return resize(site, x, sizes, name)


def _nearest(site: Site, x: str, sizes: Sequence[int], name: str) -> str:
    # Whole factors take the same values without half-pixel centres, which versions 1 and 2 lack.
    whole = all(m % n == 0 for n, m in zip(site.out.shape(x)[1:3], sizes, strict=True))
    return _resize(site, "RESIZE_NEAREST_NEIGHBOR", x, sizes, name, half_pixel=not whole)


def _bilinear(site: Site, x: str, sizes: Sequence[int], name: str) -> str:
    return _resize(site, "RESIZE_BILINEAR", x, sizes, name, half_pixel=True)


def _resize(site: Site, kind: str, x: str, sizes: Sequence[int], name: str, *, half_pixel: bool) -> str:
    shape = site.out.shape(x)
    where = site.out.constant(f"{name}:size", list(sizes))
    return site.out.emit(
        kind, (x, where), (shape[0], *sizes, shape[-1]), name, align_corners=False, half_pixel_centers=half_pixel
    )


@lower_op.register
def _(op: ops.SpaceToDepth, site: Site) -> str:
    block = op.block
    if block == 1:
        return site.x
    shape = site.out.shape(site.x)
    if len(site.shapes[0]) == 2:  # neighbours along the only axis lie side by side already
        return site.out.reshape(site.x, site.shape, site.name)
    if len(shape) == 4:
        return site.out.emit("SPACE_TO_DEPTH", (site.x,), site.shape, site.name, block=block)
    depth, height, width, channels = shape[1:]
    high, wide, inner = height // block, width // block, channels * block**2
    planes = site.out.reshape(site.x, (depth, height, width, channels), site.part("planes"))
    cells = site.out.emit("SPACE_TO_DEPTH", (planes,), (depth, high, wide, inner), site.part("cells"), block=block)
    layers = site.out.reshape(cells, (depth // block, block, high * wide, inner), site.part("layers"))
    turned = transpose(site, layers, (0, 2, 1, 3), site.part("turned"))
    return site.out.reshape(turned, site.shape, site.name)


@lower_op.register
def _(op: ops.Slice, site: Site) -> str:
    start = site.out.constant(site.part("begin"), [*[0] * (len(site.shape) - 1), op.start])
    size = site.out.constant(site.part("size"), list(site.shape))
    return site.out.emit("SLICE", (site.x, start, size), site.shape, site.name)


@lower_op.register
def _(op: ops.Transpose, site: Site) -> str:
    x = site.out.reshape(site.x, rows(site.out.shape(site.x)), site.part("rows"))
    name = site.name if len(site.shape) == 4 else site.part("turned")
    return site.out.reshape(transpose(site, x, (0, 1, 3, 2), name), site.shape, site.name)


@lower_op.register
def _(op: ops.ChannelShuffle, site: Site) -> str:
    channels = site.shape[-1]
    runs = (1, prod(site.shape[1:-1]), op.groups, channels // op.groups)
    turned = transpose(site, site.out.reshape(site.x, runs, site.part("runs")), (0, 1, 3, 2), site.part("turned"))
    return site.out.reshape(turned, site.shape, site.name)


@lower_op.register
def _(op: ops.Embedding, site: Site) -> str:
    table = site.out.constant(f"{site.name}.table", site.weights["table"])
    indices = site.out.reshape(site.x, (1, *site.shapes[0]), site.part("indices"))
    shape = (1, *site.shapes[0], op.features)
    name = site.name if shape == site.shape else site.part("rows")
    y = site.out.emit("GATHER", (table, indices), shape, name, axis=0)
    return site.out.reshape(y, site.shape, site.name)
