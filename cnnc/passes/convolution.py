"""Convolutions as affine maps, whichever operator writes them: what a sum of them is, and one after another.

Along an axis, output p is the sum over the taps t of kernel[t] x[stride p + offset[t]], x being 0 outside, and the
bias. So is a batch norm, with one tap and each channel by itself, and so is what changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import gcd, prod

import numpy as np
from numpy.typing import DTypeLike

from cnnc import ops
from cnnc.ir import Node
from cnnc.ir.model import Arrays
from cnnc.ops import Shape
from cnnc.ops.window import windows
from cnnc.passes.fold_batch_norm import affine_of
from cnnc.passes.linear import Array, Vector


@dataclass(frozen=True, eq=False)
class Convolution:
    """A kernel `(*sizes, channels / groups, filters)`, a bias `(filters,)` or none, and what the taps read an axis.

    `macs` are its multiply-accumulates for one place of the output; what changes nothing has none.
    """

    kernel: Array
    bias: Vector | None
    groups: int
    stride: tuple[int, ...]
    offsets: tuple[range, ...]
    macs: int

    @property
    def channels(self) -> int:
        return int(self.kernel.shape[-2]) * self.groups

    @property
    def filters(self) -> int:
        return int(self.kernel.shape[-1])


def identity(shape: Shape) -> Convolution:
    """Operators that change nothing of a map `(..., channels)`."""
    rank = len(shape) - 1
    return Convolution(np.ones((1,) * (rank + 1) + shape[-1:]), None, shape[-1], (1,) * rank, (range(1),) * rank, 0)


def convolution_of(node: Node, shape: Shape, weights: Arrays) -> Convolution | None:
    """That of a node which reads `shape`; None where it is neither a convolution nor a batch norm of a map."""
    op = node.op
    if isinstance(op, ops.BatchNorm) and 2 <= len(shape) <= 4:
        scale, shift = affine_of(op, weights)
        kept = identity(shape)
        return replace(kept, kernel=kept.kernel * scale, bias=shift, macs=len(scale))
    if not isinstance(op, ops.Conv | ops.Depthwise):
        return None
    groups = shape[-1] if isinstance(op, ops.Depthwise) else op.groups
    kernel = weights["kernel"].reshape(*op.kernel, shape[-1] // groups, -1)
    geometry = windows(shape, op.kernel, op.stride, op.dilation, op.padding)
    offsets = tuple(
        range(-axis.before, size * step - axis.before, step)
        for axis, size, step in zip(geometry, op.kernel, op.dilation, strict=True)
    )
    return Convolution(kernel, weights.get("bias"), groups, op.stride, offsets, kernel.size)


def written_as(convolution: Convolution, node: Node, shape: Shape, dtype: DTypeLike) -> tuple[Node, Arrays]:
    """The node with another operator, that of `convolution` of an input of `shape`, and its weights."""
    axes = zip(shape, node.shape, convolution.stride, convolution.offsets, strict=False)
    padding = tuple((-taps[0], max((size - 1) * stride + taps[-1] - n + 1, 0)) for n, size, stride, taps in axes)
    sizes, dilation = tuple(map(len, convolution.offsets)), tuple(taps.step for taps in convolution.offsets)
    op = ops.Conv(
        sizes,
        convolution.filters,
        convolution.stride,
        padding,
        dilation,
        convolution.groups,
        bias=convolution.bias is not None,
    ).resolve(shape)
    assert op.infer(shape) == node.shape, (op, shape, node)
    declared = op.weights(shape)
    weights = {"kernel": convolution.kernel.reshape(declared["kernel"].shape).astype(dtype)}
    if convolution.bias is not None:
        weights["bias"] = convolution.bias.astype(dtype)
    return replace(node, op=op), weights


def total(first: Convolution, second: Convolution) -> Convolution | None:
    """The sum of two convolutions of one input; None where their strides differ, or where it would be more work."""
    if first.stride != second.stride:
        return None
    groups = gcd(first.groups, second.groups)
    pairs = list(zip(first.offsets, second.offsets, strict=True))
    offsets = tuple(_lattice([*one, *other], one.step) for one, other in pairs)
    size = _size(offsets, first.channels // groups, first.filters)
    if size > first.macs + second.macs:
        return None
    kernel = np.zeros((*map(len, offsets), first.channels // groups, first.filters))
    for part in (first, second):
        kernel[_slices(offsets, part.offsets)] += _regrouped(part.kernel, part.groups, groups)
    return Convolution(kernel, _sum(first.bias, second.bias), groups, first.stride, offsets, size)


def sequence(first: Convolution, second: Convolution, most: int) -> Convolution | None:
    """The second after the first; None where its kernel would have more than `most` values.

    What the second reads must not be padding, unless the first has no bias, and along that axis one tap at 0 and no
    stride. Then it is sum_u L[u] (sum_t K[t] x[s (r p + e[u]) + d[t]] + k) + l: strides multiply, offsets are s e + d.
    """
    groups = gcd(first.groups, second.groups)
    axes = list(zip(first.offsets, second.offsets, first.stride, strict=True))
    offsets = tuple(_lattice((s * e + d for e in outer for d in inner), inner.step) for inner, outer, s in axes)
    size = _size(offsets, first.channels // groups, second.filters)
    if size > most:
        return None
    inner = _split(_regrouped(first.kernel, first.groups, groups), groups)
    outer = _split(_regrouped(second.kernel, second.groups, groups), groups)
    kernel = np.zeros((*map(len, offsets), groups, first.channels // groups, second.filters // groups))
    for tap in np.ndindex(*outer.shape[:-3]):
        read = tuple(
            range(s * e[u] + d[0], s * e[u] + d[-1] + 1, d.step) for (d, e, s), u in zip(axes, tap, strict=True)
        )
        kernel[_slices(offsets, read)] += inner @ outer[tap]
    bias = second.bias
    if first.bias is not None:
        taps = outer.sum(tuple(range(outer.ndim - 3)))
        bias = _sum(bias, (first.bias.reshape(groups, 1, -1) @ taps).reshape(-1))
    stride = tuple(s * r for s, r in zip(first.stride, second.stride, strict=True))
    joined = np.moveaxis(kernel, -3, -2).reshape(*kernel.shape[:-3], -1, second.filters)
    return Convolution(joined, bias, groups, stride, offsets, size)


def _lattice(offsets: Iterable[int], step: int) -> range:
    """The fewest evenly spaced offsets that hold all of these; `step` apart where it is a single one."""
    ordered = sorted(set(offsets))
    return range(ordered[0], ordered[-1] + 1, gcd(*(each - ordered[0] for each in ordered)) or step)


def _slices(whole: Sequence[range], parts: Sequence[range]) -> tuple[slice, ...]:
    """Where the offsets of a part are among those of the whole, axis by axis."""
    pairs = zip(whole, parts, strict=True)
    return tuple(slice(a.index(b[0]), a.index(b[-1]) + 1, max(b.step // a.step, 1)) for a, b in pairs)


def _size(offsets: Sequence[range], channels: int, filters: int) -> int:
    return prod(map(len, offsets)) * channels * filters


def _regrouped(kernel: Array, groups: int, fewer: int) -> Array:
    """A kernel of `groups` groups as one of `fewer`, which divide them, with zeros between what was apart."""
    if groups == fewer:
        return kernel
    *sizes, channels, filters = kernel.shape
    runs = groups // fewer
    whole = np.zeros((*sizes, runs, channels, fewer, runs, filters // groups), kernel.dtype)
    parts = kernel.reshape(*sizes, channels, fewer, runs, filters // groups)
    for run in range(runs):
        whole[..., run, :, :, run, :] = parts[..., run, :]
    return whole.reshape(*sizes, runs * channels, filters)


def _split(kernel: Array, groups: int) -> Array:
    """`(*sizes, groups, channels / groups, filters / groups)`, in double precision."""
    apart = kernel.reshape(*kernel.shape[:-1], groups, -1).astype(np.float64)
    return np.moveaxis(apart, -2, -3)


def _sum(one: Vector | None, other: Vector | None) -> Vector | None:
    return other if one is None else one if other is None else one + other
