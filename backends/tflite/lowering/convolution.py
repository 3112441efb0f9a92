"""Convolutions, dense layers and affine maps of channels: CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

import numpy as np

from cnnc import ops
from cnnc.backends.tflite.lowering.lowering_site import Site, lower_op
from cnnc.backends.tflite.lowering.tensor_moves import crop, pad_with, rows
from cnnc.ops.window import Window, window, windows
from cnnc.tflite_file.program import Array

_FULL_REGISTER: Final = 16
"""Channels from which on XNNPACK's depthwise kernels are busy."""
_EMPTY_REGISTER: Final = 200
"""Products in the time that they lose on a pixel of 3 channels in int8: 0.2 to 0.4 ms on 224x224."""
_LITTLE: Final = 0.01
"""Of a network's products: so many more are little."""


@lower_op.register
def _(op: ops.Conv, site: Site) -> str:
    kernel, bias = site.weights["kernel"], _bias(site, op.filters)
    if len(op.kernel) == 3:
        return _convolve_volume(op, site, kernel, bias)
    geometry = windows(site.shapes[0], op.kernel, op.stride, op.dilation, op.padding)
    x, padding = pad(site, site.x, op, geometry)
    kernel, dilation = _square(site, op, kernel)
    options = _window_options(op.stride, dilation, padding)
    if op.groups == 1 or site.flavour != "edgetpu":
        return _conv_2d(site, x, kernel, bias, site.shape, site.name, options)
    # The Edge TPU's compiler knows no groups: each by itself.
    parts = site.out.split(x, op.groups, 3, site.name)
    kernels, biases = np.split(kernel, op.groups, -1), np.split(bias, op.groups)
    shape = (*site.shape[:-1], op.filters // op.groups)
    results = [
        _conv_2d(site, part, own, shift, shape, site.part("group"), options)
        for part, own, shift in zip(parts, kernels, biases, strict=True)
    ]
    return site.out.emit("CONCATENATION", results, site.shape, site.name, axis=3, activation="NONE")


@lower_op.register
def _(op: ops.Depthwise, site: Site) -> str:
    kernel = site.weights["kernel"]
    channels = kernel.shape[-2] * op.multiplier
    bias = _bias(site, channels)
    if len(op.kernel) == 3:
        # TFLite has no depthwise convolution of volumes: a full one whose kernel is zero between channels.
        full = np.zeros((*kernel.shape[:-1], channels), kernel.dtype)
        for c in range(kernel.shape[-2]):
            full[..., c, c * op.multiplier : (c + 1) * op.multiplier] = kernel[..., c, :]
        return _convolve_volume(op, site, full, bias)
    geometry = windows(site.shapes[0], op.kernel, op.stride, op.dilation, op.padding)
    x, padding = pad(site, site.x, op, geometry)
    kernel, dilation = _square(site, op, kernel)
    options = _window_options(op.stride, dilation, padding)
    return _depthwise(site, x, kernel, bias, site.shape, site.name, options, op.multiplier)


@lower_op.register
def _(op: ops.ConvTranspose, site: Site) -> str:
    bias, axes = site.weights.get("bias"), op.windows(site.shapes[0])
    cuts, extra = [(w.before, max(w.after, 0)) for w in axes], [(0, max(-w.after, 0)) for w in axes]
    full = tuple(w.before + w.size + max(w.after, 0) - more for w, (_, more) in zip(axes, extra, strict=True))
    if len(full) == 1:
        full, cuts, extra = (1, *full), [(0, 0), *cuts], [(0, 0), *extra]
    is_cut, is_extended = any(map(any, cuts)), any(map(any, extra))
    name = site.name if bias is None and not is_cut and not is_extended else site.part("full")
    y = _transposed_convolution(op, site, (1, *full, op.filters), name)
    if is_extended:
        y = pad_with(site, "PAD", y, extra, site.name if bias is None and not is_cut else site.part("extended"))
    if is_cut:
        y = crop(site, y, [before for before, _ in cuts], site.shape, site.name if bias is None else site.part("cut"))
    return y if bias is None else _add_bias(site, y, bias)


def _transposed_convolution(op: ops.ConvTranspose, site: Site, shape: tuple[int, ...], name: str) -> str:
    """A transposed convolution without padding or bias; its kernel is `(*sizes, filters, channels)`."""
    kernel, is_volume = _dilated(site.weights["kernel"], op.dilation), len(op.kernel) == 3
    if not is_volume:
        kernel = (kernel[None] if kernel.ndim == 3 else kernel).transpose(2, 0, 1, 3)
    where = site.out.constant(site.part("shape"), list(shape))
    inputs = (where, site.out.constant(f"{site.name}.kernel", kernel), site.x)
    if not is_volume:
        height, width = (1, *op.stride)[-2:]
        options = {"padding": "VALID", "stride_h": height, "stride_w": width}
        return site.out.emit("TRANSPOSE_CONV", inputs, shape, name, **options)
    site.out.islands = True
    y = site.out.emit("CONV_3D_TRANSPOSE", inputs, shape, name, **_volume_options(op.stride, (1, 1, 1), "VALID"))
    site.out.islands = False
    return y


def _add_bias(site: Site, y: str, bias: Array) -> str:
    flat = rows(site.shape)
    shift = site.out.constant(f"{site.name}.bias", bias.reshape(1, 1, 1, -1))
    y = site.out.reshape(y, flat, site.part("rows"))
    y = site.out.emit(
        "ADD", (y, shift), flat, site.name if flat == site.shape else site.part("shifted"), activation="NONE"
    )
    return site.out.reshape(y, site.shape, site.name)


@lower_op.register
def _(op: ops.Dense, site: Site) -> str:
    kernel, bias = site.weights["kernel"], _bias(site, op.units)
    if len(site.shapes[0]) == 1:
        weights = site.out.constant(f"{site.name}.kernel", kernel.T)
        shift = site.out.constant(f"{site.name}.bias", bias)
        return site.out.emit(
            "FULLY_CONNECTED",
            (site.x, weights, shift),
            site.shape,
            site.name,
            activation="NONE",
            weights_format=0,
            keep_num_dims=False,
        )
    shape = site.out.shape(site.x)
    x = site.out.reshape(site.x, rows(shape), site.part("rows"))
    flat = rows(site.shape)
    name = site.name if flat == site.shape else site.part("product")
    options = _window_options((1, 1), (1, 1), "VALID")
    y = _conv_2d(site, x, kernel[None, None], bias, flat, name, options)
    return site.out.reshape(y, site.shape, site.name)


@lower_op.register
def _(op: ops.BatchNorm, site: Site) -> str:
    """A batch norm that no convolution took in: the affine map of its statistics."""
    weights = site.weights
    scale = weights.get("gamma", np.float32(1)) / np.sqrt(weights["variance"] + np.float32(op.epsilon))
    shift = weights.get("beta", np.float32(0)) - weights["mean"] * scale
    return affine(site, np.asarray(scale), np.asarray(shift))


@lower_op.register
def _(op: ops.Normalize, site: Site) -> str:
    channels = site.shapes[0][-1]
    mean, std = (np.broadcast_to(np.asarray(v, np.float64), (channels,)) for v in (op.mean, op.std))
    return affine(site, (1 / std).astype(np.float32), (-mean / std).astype(np.float32))


@lower_op.register
def _(op: ops.Bgr, site: Site) -> str:
    """A colour order that no convolution took in: a convolution that swaps channels."""
    options = _window_options((1, 1), (1, 1), "VALID")
    x = site.out.reshape(site.x, rows(site.shape), site.part("rows"))
    channels = site.shape[-1]
    swap = np.eye(channels, dtype=np.float32)[::-1].reshape(1, 1, channels, channels)
    name = site.name if rows(site.shape) == site.shape else site.part("swapped")
    y = _conv_2d(site, x, swap, np.zeros(channels, np.float32), rows(site.shape), name, options)
    return site.out.reshape(y, site.shape, site.name)


def affine(site: Site, scale: Array, shift: Array) -> str:
    """Multiply every channel by its number and add another: a depthwise convolution of one value, exact in int8.

    Few channels, as of a picture, leave most of a vector register empty: off the Edge TPU a row of pixels counts as one
    pixel of so many times more channels. In int8 that gains less than its two reshapes are worth in a large network.
    """
    shape = rows(site.shape)
    is_little = site.flavour == "int8" and _EMPTY_REGISTER * prod(shape[:-1]) <= _LITTLE * site.work
    row = 1 if len(scale) >= _FULL_REGISTER or site.flavour == "edgetpu" or is_little else shape[2]
    wide = (1, shape[1], shape[2] // row, row * shape[3])
    x = site.out.reshape(site.x, wide, site.part("rows"))
    name = site.name if wide == site.shape else site.part("scaled")
    options = _window_options((1, 1), (1, 1), "VALID")
    y = _depthwise(site, x, np.tile(scale, row).reshape(1, 1, -1, 1), np.tile(shift, row), wide, name, options, 1)
    return site.out.reshape(y, site.shape, site.name)


def pad(site: Site, x: str, op: ops.Conv | ops.Depthwise, geometry: Sequence[Window]) -> tuple[str, str]:
    """A tensor with the zeros that TFLite's own padding does not give, and the name of the padding to ask for."""
    if all(axis.before == axis.after == 0 for axis in geometry):
        return x, "VALID"
    sizes = site.shapes[0][:-1]
    axes = zip(sizes, op.kernel, op.stride, op.dilation, geometry, strict=True)
    if all(window(n, k, s, d, "same") == own for n, k, s, d, own in axes):
        return x, "SAME"
    pairs = [(axis.before, axis.after) for axis in geometry]
    return pad_with(site, "PAD", x, [(0, 0), *pairs] if len(pairs) == 1 else pairs, site.part("padded")), "VALID"


def _bias(site: Site, count: int) -> Array:
    return site.weights.get("bias", np.zeros(count, np.float32))


def _window_options(stride: Sequence[int], dilation: Sequence[int], padding: str) -> dict[str, object]:
    height, width = (1, *stride) if len(stride) == 1 else stride
    down, across = (1, *dilation) if len(dilation) == 1 else dilation
    return {
        "padding": padding,
        "stride_h": height,
        "stride_w": width,
        "dilation_h": down,
        "dilation_w": across,
        "activation": "NONE",
    }


def _square(site: Site, op: ops.Conv | ops.Depthwise, kernel: Array) -> tuple[Array, tuple[int, int]]:
    """A kernel and its steps down and across, which the Edge TPU wants alike.

    Along an axis where the kernel has one value any step is the same. Otherwise the zeros between are written out.
    """
    (rows, columns), (down, across) = (1, 1, *op.kernel)[-2:], (1, 1, *op.dilation)[-2:]
    down, across = across if rows == 1 else down, down if columns == 1 else across
    if rows == columns == 1:
        return kernel, (1, 1)
    if down != across and site.flavour == "edgetpu":
        return _dilated(kernel, op.dilation), (1, 1)
    return kernel, (down, across)


def _volume_options(stride: Sequence[int], dilation: Sequence[int], padding: str) -> dict[str, object]:
    strides = dict(zip(("stride_d", "stride_h", "stride_w"), stride, strict=True))
    dilations = dict(zip(("dilation_d", "dilation_h", "dilation_w"), dilation, strict=True))
    return {"padding": padding, **strides, **dilations, "activation": "NONE"}


def _conv_2d(
    site: Site, x: str, kernel: Array, bias: Array, shape: Sequence[int], name: str, options: dict[str, object]
) -> str:
    """`kernel` is `(*sizes, channels, filters)` of one or two sizes."""
    square = kernel[None] if kernel.ndim == 3 else kernel
    weights = site.out.constant(f"{site.name}.kernel", square.transpose(3, 0, 1, 2))
    return site.out.emit("CONV_2D", (x, weights, site.out.constant(f"{site.name}.bias", bias)), shape, name, **options)


def _depthwise(
    site: Site,
    x: str,
    kernel: Array,
    bias: Array,
    shape: Sequence[int],
    name: str,
    options: dict[str, object],
    multiplier: int,
) -> str:
    square = kernel[None] if kernel.ndim == 3 else kernel
    weights = site.out.constant(f"{site.name}.kernel", square.reshape(1, *square.shape[:2], -1))
    inputs = (x, weights, site.out.constant(f"{site.name}.bias", bias))
    return site.out.emit("DEPTHWISE_CONV_2D", inputs, shape, name, **options, multiplier=multiplier)


def _convolve_volume(op: ops.Conv | ops.Depthwise, site: Site, kernel: Array, bias: Array) -> str:
    groups = op.groups if isinstance(op, ops.Conv) else 1
    if groups > 1:
        # Groups as a kernel that is zero between them.
        inside, filters = kernel.shape[-2], kernel.shape[-1] // groups
        full = np.zeros((*kernel.shape[:-2], inside * groups, kernel.shape[-1]), kernel.dtype)
        for g in range(groups):
            columns = slice(g * filters, (g + 1) * filters)
            full[..., g * inside : (g + 1) * inside, columns] = kernel[..., columns]
        kernel = full
    geometry = windows(site.shapes[0], op.kernel, op.stride, op.dilation, op.padding)
    site.out.islands = True
    x, padding = pad(site, site.x, op, geometry)
    weights = site.out.constant(f"{site.name}.kernel", kernel)
    shift = site.out.constant(f"{site.name}.bias", bias)
    options = _volume_options(op.stride, op.dilation, padding)
    y = site.out.emit("CONV_3D", (x, weights, shift), site.shape, site.name, **options)
    site.out.islands = False
    return y


def _dilated(kernel: Array, dilation: Sequence[int]) -> Array:
    """A kernel with the zeros between its values that dilation means."""
    if all(step == 1 for step in dilation):
        return kernel
    sizes = [(n - 1) * d + 1 for n, d in zip(kernel.shape, dilation, strict=False)]
    spread = np.zeros((*sizes, *kernel.shape[-2:]), kernel.dtype)
    spread[tuple(slice(None, None, step) for step in dilation)] = kernel
    return spread
