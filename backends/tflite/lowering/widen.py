"""Zeros at the ends of a kernel in place of a PAD before it, so that SAME is the padding.

SAME puts the odd zero at the end: under a 3x3 kernel and a stride of 2 an even size gets (0, 1), where the networks of
PyTorch have (1, 0). With a zero more at its end the kernel is one of 4x4, for which SAME is (1, 1); what the last zero
around the picture meets is the kernel's. Every sum keeps its terms, in int8 bit for bit.

The price is 16/9 of the products. What it buys depends on the device:

* The Edge TPU has products to spare, and what is written and read again is what takes time. Of even
  kernels a CONV_2D of 16x16 has been shown to be mapped, and no depthwise convolution, so those stay.
* XNNPACK pads while it convolves: a PAD costs nothing on a CPU, an operator less is worth little, and may cost little.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod
from typing import Final

import numpy as np

from cnnc.backends.tflite.lowering.lowering_site import Flavour
from cnnc.backends.tflite.lowering.work import LANES, macs
from cnnc.ops.window import window
from cnnc.tflite_file.program import Operator, Program, Tensor

_MACS_PER_BYTE: Final = 100
"""Products in the time of a byte in or out on the Edge TPU, as fitted to published latencies (`edgetpu.estimate`)."""
_SHARE: Final = 0.02
"""Of a network's products, how many more all wider kernels together may cost a CPU."""

_CONVOLUTIONS: Final = ("CONV_2D", "DEPTHWISE_CONV_2D")
_MARK: Final = re.compile(r".*:zeros=([0-9]{1,4}),([0-9]{1,4}),([0-9]{1,4}),([0-9]{1,4})", re.DOTALL)
"""The name of a kernel that was widened: above it, below it, before it and after it are so many zeros."""

_Ends = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Widening:
    """A PAD and the convolution that alone reads it, by index; `ends` are the zeros around the kernel down and across.

    `more` are the products that they add, `lanes` the same as XNNPACK's int8 kernels have them, and `moved` the bytes
    that the PAD reads and writes in int8.
    """

    pad: int
    convolution: int
    ends: _Ends
    more: int
    lanes: int
    moved: int


def widen(program: Program, flavour: Flavour) -> Program:
    """The float program without the PADs that wider kernels are cheap enough for, on the device that it is for."""
    chosen = () if flavour == "float" else _worthwhile(program, flavour)
    if not chosen:
        return program
    tensors, operators = dict(program.tensors), list[Operator | None](program.operators)
    for each in chosen:
        pad, convolution = program.operators[each.pad], program.operators[each.convolution]
        _, kernel, *rest = convolution.inputs
        wide = _with_zeros(tensors.pop(kernel), each.ends)
        tensors[wide.name] = wide
        options = {**convolution.options, "padding": "SAME"}
        inputs = (pad.inputs[0], wide.name, *rest)
        operators[each.convolution] = replace(convolution, inputs=inputs, options=options)
        operators[each.pad] = None
        for unread in (pad.outputs[0], pad.inputs[1]):
            del tensors[unread]
    return replace(program, tensors=tensors, operators=tuple(each for each in operators if each is not None))


def narrow(program: Program) -> Program:
    """A file's program with the kernels and the PADs that `widen` found: the kernels are the layers' own.

    The name of a wide kernel says how many zeros are around it. Where they are not there the name means nothing.
    """
    tensors, operators = dict(program.tensors), list[Operator]()
    for operator in program:
        found = _narrowed(program, operator) if operator.kind in _CONVOLUTIONS else None
        if found is None:
            operators.append(operator)
            continue
        added, pad, convolution = found
        tensors |= {tensor.name: tensor for tensor in added}
        operators += [pad, convolution]
    return replace(program, tensors=tensors, operators=tuple(operators))


def _narrowed(program: Program, operator: Operator) -> tuple[tuple[Tensor, ...], Operator, Operator] | None:
    """New tensors, a PAD and a convolution in the place of one whose kernel was widened; None where it was not."""
    if not {operator.inputs[0], *operator.outputs} <= program.tensors.keys():
        return None
    x, kernel = program[operator.inputs[0]], program.tensors.get(operator.inputs[1])
    mark = _MARK.fullmatch(kernel.name) if kernel is not None else None
    if kernel is None or mark is None or kernel.data is None or operator.options.get("padding") != "SAME":
        return None
    if not len(x.shape) == len(kernel.shape) == len(program[operator.outputs[0]].shape) == 4:
        return None
    axes = _axes(program, operator)
    ends = tuple((int(mark[i]), int(mark[i + 1])) for i in (1, 3))
    inner = tuple(slice(first, axis[1] - last) for axis, (first, last) in zip(axes, ends, strict=True))
    cut = kernel.data[:, *inner]
    zero = 0 if kernel.quantization is None else kernel.quantization.zero_point[0]
    if not cut.size or np.count_nonzero(kernel.data != zero) != np.count_nonzero(cut != zero):
        return None
    amounts = np.zeros((4, 2), np.int32)
    for i, ((size, _, stride, dilation, output), (first, _)) in enumerate(zip(axes, ends, strict=True), start=1):
        if min(stride, dilation) < 1:
            return None
        before = window(size, kernel.shape[i], stride, dilation, "same").before - first * dilation
        extent = (cut.shape[i] - 1) * dilation + 1
        amounts[i] = before, max((output - 1) * stride + extent - size - before, 0)
    name = f"{operator.outputs[0]}:padded"
    if amounts.min() < 0 or not {name, f"{name}:amounts"}.isdisjoint(program.tensors):
        return None
    padded = tuple(n + int(more) for n, more in zip(x.shape, amounts.sum(1), strict=True))
    added = (
        replace(kernel, shape=cut.shape, data=cut),
        replace(x, name=name, shape=padded, data=None, signature=None),
        Tensor(f"{name}:amounts", amounts.shape, "INT32", data=amounts),
    )
    pad = Operator("PAD", (x.name, f"{name}:amounts"), (name,), origin=operator.origin)
    options = {**operator.options, "padding": "VALID"}
    return added, pad, replace(operator, inputs=(name, *operator.inputs[1:]), options=options)


def _worthwhile(program: Program, flavour: Flavour) -> tuple[_Widening, ...]:
    found = list(_widenings(program))
    if flavour == "edgetpu":
        kinds = [program.operators[each.convolution].kind for each in found]
        pairs = zip(found, kinds, strict=True)
        return tuple(each for each, kind in pairs if kind == "CONV_2D" and each.more <= _MACS_PER_BYTE * each.moved)
    room = _SHARE * sum(macs(program, operator, LANES) for operator in program)
    cheapest = sorted(found, key=lambda each: each.lanes)
    costs = accumulate(each.lanes for each in cheapest)
    return tuple(each for each, cost in zip(cheapest, costs, strict=True) if cost <= room)


def _widenings(program: Program) -> Iterator[_Widening]:
    for i, pad in enumerate(program):
        if pad.kind != "PAD" or pad.outputs[0] in program.outputs:
            continue
        at, *others = program.consumers[pad.outputs[0]]
        operator = program.operators[at]
        if others or operator.kind not in _CONVOLUTIONS or operator.options["padding"] != "VALID":
            continue
        if any(len(program.consumers[own]) > 1 for own in (operator.inputs[1], pad.inputs[1])):
            continue
        ends = _ends(program, pad, operator)
        if ends is not None:
            taps = program[operator.inputs[1]].shape[1:3]
            wider = prod(n + sum(own) for n, own in zip(taps, ends, strict=True))
            more, lanes = (macs(program, operator, own) * (wider - prod(taps)) // prod(taps) for own in (1, LANES))
            yield _Widening(i, at, ends, more, lanes, program[pad.inputs[0]].size + program[pad.outputs[0]].size)


def _ends(program: Program, pad: Operator, convolution: Operator) -> _Ends | None:
    """The fewest zeros before and after a kernel, down and across, under which SAME gives what PAD does, if any."""
    amounts = program[pad.inputs[1]].data
    assert amounts is not None, pad
    if len(amounts) != 4 or amounts[[0, 3]].any():
        return None
    axes = _axes(program, replace(convolution, inputs=(pad.inputs[0], *convolution.inputs[1:])))
    pairs = zip(axes, amounts[1:3, 0].tolist(), strict=True)
    ends = tuple(found for axis, before in pairs if (found := _ends_along(*axis, before)) is not None)
    return ends if len(ends) == 2 else None


def _axes(program: Program, convolution: Operator) -> tuple[tuple[int, int, int, int, int], ...]:
    """Down and across: the input's size, the kernel's, the stride, the dilation and the output's size."""
    options = convolution.options
    found = zip(
        program[convolution.inputs[0]].shape[1:3],
        program[convolution.inputs[1]].shape[1:3],
        (options["stride_h"], options["stride_w"]),
        (options["dilation_h"], options["dilation_w"]),
        program[convolution.outputs[0]].shape[1:3],
        strict=True,
    )
    return tuple(found)


def _ends_along(size: int, kernel: int, stride: int, dilation: int, output: int, before: int) -> tuple[int, int] | None:
    for zeros in range(kernel + 1):
        same = window(size, kernel + zeros, stride, dilation, "same")
        first, rest = divmod(same.before - before, dilation)
        if same.size == output and rest == 0 and 0 <= first <= zeros:
            return first, zeros - first
    return None


def _with_zeros(kernel: Tensor, ends: _Ends) -> Tensor:
    assert kernel.data is not None, kernel
    wider = np.pad(kernel.data, ((0, 0), *ends, (0, 0)))
    counts = ",".join(str(count) for pair in ends for count in pair)
    return replace(kernel, name=f"{kernel.name}:zeros={counts}", shape=wider.shape, data=wider)
