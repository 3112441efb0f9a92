"""Conditions of the rules on an operator and its tensors: each is true where the operator stays on the CPU."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.edgetpu import facts
from cnnc.backends.edgetpu.operator_view import EIGHT_BITS, Site
from cnnc.tflite_file.program import Tensor


def is_unregistered(site: Site) -> bool:
    _, probable = facts.REGISTERED.get(site.kind, (0, 0))
    return site.operator.version > probable


def is_float_in_or_out(site: Site) -> bool:
    return any(tensor.type == "FLOAT32" for tensor in site.activations)


def is_island(site: Site) -> bool:
    """Whether it is part of a layer that our own emitter left in float."""
    return bool(site.operator.origin) and is_float_in_or_out(site)


def has_other_types(site: Site) -> bool:
    return any(tensor.type not in EIGHT_BITS for tensor in site.activations)


def computes_sizes(site: Site) -> bool:
    """Whether it works sizes out: whole numbers in a list, of a tensor's shape or of such numbers."""
    given = site.kind == "SHAPE" or (bool(site.inputs) and all(map(_is_size, site.inputs)))
    return given and bool(site.outputs) and all(map(_is_size, site.outputs))


def _is_size(tensor: Tensor) -> bool:
    return tensor.type in ("INT32", "INT64") and len(tensor.shape) < 2


def mixes_types(site: Site) -> bool:
    return len({tensor.type for tensor in site.activations}) > 1


def has_high_rank(site: Site) -> bool:
    return any(any(size > 1 for size in tensor.shape[:-3]) for tensor in site.activations)


def has_computed_weights(site: Site) -> bool:
    """Weights and bias are inputs 1 and 2; a PRELU has its slopes for weights, a bias may be absent."""
    places = (0, 1, 3) if site.kind == "TRANSPOSE_CONV" else (1,) if site.kind == "PRELU" else (1, 2)
    given = [site.input(place) for place in places]
    return site.input(1) is None or any(tensor is not None and tensor.data is None for tensor in given)


def has_rows(site: Site) -> bool:
    return prod(site.result[:-1]) > 1


def concatenates_constants(site: Site) -> bool:
    constants = [tensor for tensor in site.operands if tensor.data is not None]
    if not constants:
        return False
    zeros = all(_is_zero(tensor.data, tensor.quantization.zero_point[0] if tensor.quantization else 0)
                for tensor in constants)  # fmt: skip
    return len(site.operands) != 2 or not zeros


def _is_zero(data: NDArray[Any] | None, zero_point: int) -> bool:
    return data is not None and bool(np.all(data == zero_point))


def is_along_batch(site: Site) -> bool:
    axis = int(site.option("axis", -1))
    rank = len(site.result)
    return rank > 0 and axis % rank == 0 and rank > 1 and len(site.operands) > 1


def splits_batch(site: Site) -> bool:
    """A split into one part is none: a compiled YAMNet has one along the batch."""
    found = site.numbers(0) or [-1]
    shape = site.input(1)
    is_cut = len(site.operator.outputs) > 1
    return is_cut and shape is not None and len(shape.shape) > 1 and found[0] % len(shape.shape) == 0


def has_unequal_dilation(site: Site) -> bool:
    return bool(site.option("dilation_h", 1) != site.option("dilation_w", 1))


def has_huge_kernel(site: Site) -> bool:
    weights = site.input(1)
    return weights is not None and prod(weights.shape[1:3]) >= 64 * 64


def reduces_batch(site: Site) -> bool:
    axes = site.axes(1)
    return axes is None or (0 in axes and len(site.first) > 1)


def reduces_odd_channels(site: Site) -> bool:
    axes, shape = site.axes(1), site.first
    return axes is not None and len(shape) - 1 in axes and shape[-1] % 4 != 0


def reduces_much(site: Site) -> bool:
    axes = site.axes(1)
    return axes is not None and prod(site.first[axis] for axis in axes) > 16_384


def pads_batch(site: Site) -> bool:
    found = site.numbers(1)
    return found is None or (len(site.first) > 3 and any(found[:2]))


def has_tall_alpha(site: Site) -> bool:
    alpha = site.input(1)
    return alpha is not None and prod(alpha.shape[:-1]) > 1


def resizes_far(site: Site) -> bool:
    before, after = site.first, site.result
    if len(before) != 4 or len(after) != 4:
        return True
    return any(after[axis] > 16 * before[axis] for axis in (1, 2))


def resizes_to_much(site: Site) -> bool:
    return any(size > 128 for size in site.result[1:3])


def steps(site: Site) -> bool:
    strides = site.numbers(3)
    masks = site.option("ellipsis_mask", 0) or site.option("new_axis_mask", 0)
    return strides is None or any(stride != 1 for stride in strides) or bool(masks)


def moves_batch(site: Site) -> bool:
    order = site.numbers(1)
    return order is None or (len(order) > 3 and order[0] != 0)


def overflows(site: Site) -> bool:
    return sum(tensor.nbytes for tensor in site.activations) >= 3 * 2**20


def has_format(site: Site) -> bool:
    return bool(site.option("weights_format", 0))


def fuses(site: Site) -> bool:
    return bool(site.option("activation", "NONE") != "NONE")
