"""Merge two convolutions in a row into one: L (K x + k) + l = (L K) x + (L k + l).

The second reads zeros where it pads, and not what the first would make of the zeros around x: that is the same only
where the first has no bias and looks at single places.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from cnnc import ops
from cnnc.ir import Node
from cnnc.ir.model import Model
from cnnc.ops import Shape
from cnnc.passes.convolution import Convolution, convolution_of, sequence, written_as
from cnnc.passes.edit import Draft
from cnnc.passes.padding import zeros_read


def merge_convolutions(model: Model) -> Model:
    """Merge every convolution that another alone reads into that one, where it is no more work and no larger kernel."""
    draft = Draft(model)
    for node in model.graph:
        if isinstance(node.op, ops.Conv | ops.Depthwise):
            while _merge(draft, draft.node(node.name)):
                pass
    return draft.finish()


def _merge(draft: Draft, second: Node) -> bool:
    first = draft.node(second.inputs[0])
    if not isinstance(first.op, ops.Conv | ops.Depthwise) or not draft.has_one_reader(first):
        return False
    source = draft.node(first.inputs[0])
    inner = convolution_of(first, source.shape, draft.weights(first))
    outer = convolution_of(second, first.shape, draft.weights(second))
    assert inner is not None, first
    assert outer is not None, second
    if not _keeps_borders(inner, second, first.shape) or _strides_apart(inner, outer):
        return False
    places, wanted = prod(first.shape[:-1]), prod(second.shape[:-1])
    work = (inner.macs * places + outer.macs * wanted) // wanted
    merged = sequence(inner, outer, min(work, inner.kernel.size + outer.kernel.size))
    if merged is None:
        return False
    node, weights = written_as(merged, second, source.shape, draft.weights(second)["kernel"].dtype)
    draft.put(replace(node, inputs=(source.name,)), weights)
    draft.bypass(first, source)
    return True


def _keeps_borders(inner: Convolution, second: Node, shape: Shape) -> bool:
    """Whether the zeros that the second reads, of an input of `shape`, are what the first makes of those around x."""
    assert isinstance(second.op, ops.Conv | ops.Depthwise), second
    axes = zip(zeros_read(second.op, shape), inner.offsets, strict=True)
    return all(not any(zeros) or (inner.bias is None and taps == range(1)) for zeros, taps in axes)


def _strides_apart(inner: Convolution, outer: Convolution) -> bool:
    """Whether the kernel would come out dilated by the first's stride, which few runtimes have beside a stride."""
    return any(step > 1 and len(taps) > 1 for step, taps in zip(inner.stride, outer.offsets, strict=True))
