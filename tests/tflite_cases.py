"""Random TFLite programs of one operator, float or quantised, for property tests of what runs or changes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnnc.ops.window import transposed_window, window
from cnnc.tflite.program import Program, Tensor
from tests.tflite_maker import Maker, Shape, whole
from tests.tflite_programs import constant, one_operator, tensor


def cases(kind: str, type: str) -> st.SearchStrategy[Program]:
    """Programs of one operator of a type."""

    @st.composite
    def case(draw: Any) -> Program:
        seed = draw(st.integers(0, 2**31 - 1))
        return CASES[kind](Maker(draw, type, np.random.default_rng(seed)))

    return case()


@dataclass(frozen=True)
class _Window:
    before: Shape
    after: Shape
    kernel: Shape
    options: Mapping[str, Any]


def _window(m: Maker, rank: int = 2, *, dilation: bool = True, pool: bool = False) -> _Window:
    kernel = tuple(m.whole(1, 4) for _ in range(rank))
    stride = tuple(m.whole(1, 3) for _ in range(rank))
    dilations = tuple(m.whole(1, 2) if dilation and max(stride) == 1 else 1 for _ in range(rank))
    padding = m.pick("SAME", "VALID")
    least = [(k - 1) * d + 1 if padding == "VALID" else 1 for k, d in zip(kernel, dilations, strict=True)]
    before = tuple(size + m.whole(0, 5) for size in least)
    axes = zip(before, kernel, stride, dilations, strict=True)
    after = tuple(window(*axis, padding.lower()).size for axis in axes)
    names = "dhw"[-rank:]
    options: dict[str, Any] = {"padding": padding, "activation": m.activation()}
    options |= {f"stride_{name}": s for name, s in zip(names, stride, strict=True)}
    if pool:
        options |= {f"filter_{name}": k for name, k in zip(names, kernel, strict=True)}
    elif dilation:
        options |= {f"dilation_{name}": d for name, d in zip(names, dilations, strict=True)}
    return _Window(before, after, kernel, options)


def _convolution(m: Maker) -> Program:
    found, channels, filters, n = _window(m), m.whole(1, 20), m.whole(1, 12), m.whole(1, 2)
    x, w = m.x("x", (n, *found.before, channels)), m.weights((filters, *found.kernel, channels), 0)
    y = m.weighed((n, *found.after, filters), x, channels * prod(found.kernel))
    return one_operator("CONV_2D", [x, w, m.bias(x, w, filters)], y, **found.options)


def _depthwise(m: Maker) -> Program:
    found, channels, times, n = _window(m), m.whole(1, 12), m.whole(1, 3), m.whole(1, 2)
    x, w = m.x("x", (n, *found.before, channels)), m.weights((1, *found.kernel, channels * times), 3)
    y = m.weighed((n, *found.after, channels * times), x, prod(found.kernel))
    inputs = [x, w, m.bias(x, w, channels * times)]
    return one_operator("DEPTHWISE_CONV_2D", inputs, y, multiplier=times, **found.options)


def _fully_connected(m: Maker) -> Program:
    channels, filters, keep = m.whole(1, 60), m.whole(1, 30), m.pick(True, False)
    shape = (m.whole(1, 3), m.whole(1, 3), channels)
    x, w = m.x("x", shape), m.weights((filters, channels), 0)
    y = m.weighed((*shape[:-1], filters) if keep else (prod(shape[:-1]), filters), x, channels)
    inputs = [x, w, m.bias(x, w, filters)]
    return one_operator("FULLY_CONNECTED", inputs, y, keep_num_dims=keep, activation=m.activation())


def _transposed(m: Maker, rank: int = 2) -> Program:
    # XNNPACK takes those whose kernel is as large as the stride at least; LiteRT's own kernels round otherwise.
    strides = tuple(m.whole(1, 3) for _ in range(rank))
    kernel = tuple(s + m.whole(0, 2) for s in strides)
    sizes, channels, filters, padding = m.shape(rank + 1)[1:], m.whole(1, 8), m.whole(1, 8), m.pick("SAME", "VALID")
    axes = zip(sizes, kernel, strides, strict=True)
    output = (1, *(transposed_window(n, k, s, 1, padding.lower()).size for n, k, s in axes), filters)
    x = m.x("x", (1, *sizes, channels))
    shape = (filters, *kernel, channels) if rank == 2 else (*kernel, filters, channels)
    w, y = m.weights(shape, 0), m.weighed(output, x, channels * prod(kernel))
    options = {f"stride_{name}": s for name, s in zip("dhw"[-rank:], strides, strict=True)}
    inputs = [whole("shape", output), w, x, *([m.bias(x, w, filters)] if m.pick(True, False) else [])]
    return one_operator("TRANSPOSE_CONV" if rank == 2 else "CONV_3D_TRANSPOSE", inputs, y, padding=padding, **options)


def _convolution_3d(m: Maker) -> Program:
    found, channels, filters = _window(m, 3, dilation=False), m.whole(1, 4), m.whole(1, 4)
    x, w = m.x("x", (1, *found.before, channels)), m.weights((*found.kernel, channels, filters), 4)
    inputs = [x, w, m.bias(x, w, filters)]
    return one_operator("CONV_3D", inputs, m.x("y", (1, *found.after, filters)), **found.options)


def _binary(kind: str, *, keeps: bool = False, activation: bool = True) -> Callable[[Maker], Program]:
    def make(m: Maker) -> Program:
        shape = m.shape()
        other = tuple(m.pick(1, size) for size in shape)[m.whole(0, 3) :]
        x = m.x("x", shape)
        z, y = (m.like(name, s, x) if keeps else m.x(name, s) for name, s in (("z", other), ("y", shape)))
        return one_operator(kind, [x, z], y, **({"activation": m.activation()} if activation else {}))

    return make


def _unary(kind: str, *, scale: float | None = None, zero_point: int = 0, **options: Any) -> Callable[[Maker], Program]:
    def make(m: Maker) -> Program:
        shape, least = m.shape(), -128 if m.type == "INT8" else 0
        x = m.x("x", shape, zero_point=least if kind == "RSQRT" else None)
        y = m.x("y", shape, scale, None if scale is None else least + zero_point)
        return one_operator(kind, [x], y, **options)

    return make


def _leaky_relu(m: Maker) -> Program:
    return _unary("LEAKY_RELU", alpha=m.pick(0.01, 0.1, 0.2, 0.3))(m)


def _softmax(m: Maker) -> Program:
    return _unary("SOFTMAX", scale=1 / 256, beta=m.pick(1.0, 0.5))(m)


def _negate(m: Maker) -> Program:
    x = m.x("x", m.shape(), zero_point=0)
    return one_operator("NEG", [x], m.like("y", x.shape, x))


def _prelu(m: Maker) -> Program:
    x = m.x("x", m.shape())
    slopes = m.rng.standard_normal((1, 1, x.shape[-1])).astype(np.float32)
    integers = m.rng.integers(-127, 128, slopes.shape).astype(np.int8)
    alpha = constant("a", integers, 0.006, m.whole(-5, 5)) if m.quantized else constant("a", slopes)
    return one_operator("PRELU", [x, alpha], m.x("y", x.shape))


def _pool(kind: str) -> Callable[[Maker], Program]:
    def make(m: Maker) -> Program:
        found, n, channels = _window(m, dilation=False, pool=True), m.whole(1, 2), m.whole(1, 9)
        x = m.x("x", (n, *found.before, channels))
        return one_operator(kind, [x], m.like("y", (n, *found.after, channels), x), **found.options)

    return make


def _reduced(kind: str) -> Callable[[Maker], Program]:
    def make(m: Maker) -> Program:
        x, keep, axes = m.x("x", m.shape()), m.pick(True, False), m.pick([1, 2], [1, 2], [3], [1])
        kept = tuple(1 if i in axes else size for i, size in enumerate(x.shape))
        shape = kept if keep else tuple(size for i, size in enumerate(x.shape) if i not in axes)
        return one_operator(kind, [x, whole("axes", axes)], m.x("y", shape), keep_dims=keep)

    return make


def _resize(kind: str) -> Callable[[Maker], Program]:
    def make(m: Maker) -> Program:
        x, size, mode = m.x("x", m.shape()), [m.whole(1, 20), m.whole(1, 20)], m.whole(0, 2)
        y = m.like("y", (x.shape[0], *size, x.shape[3]), x)
        return one_operator(kind, [x, whole("size", size)], y, align_corners=mode == 1, half_pixel_centers=mode == 2)

    return make


def _batch_matmul(m: Maker) -> Program:
    batch, rows, inner, columns = (m.whole(1, high) for high in (3, 12, 30, 12))
    turn_x, turn_y = m.pick(True, False), m.pick(True, False)
    x = m.x("x", (batch, inner, rows) if turn_x else (batch, rows, inner))
    z = m.x("z", (batch, columns, inner) if turn_y else (batch, inner, columns))
    found = [each.quantization for each in (x, z)]
    scale = None if found[0] is None or found[1] is None else found[0].scale[0] * found[1].scale[0] * 74 * sqrt(inner)
    y = m.x("y", (batch, rows, columns), scale)
    return one_operator("BATCH_MATMUL", [x, z], y, adjoint_x=turn_x, adjoint_y=turn_y)


def _local_response(m: Maker) -> Program:
    x = m.x("x", m.shape())
    options = {"radius": m.whole(1, 3), "bias": 1.0, "alpha": 0.1, "beta": m.pick(0.5, 0.75)}
    return one_operator("LOCAL_RESPONSE_NORMALIZATION", [x], m.x("y", x.shape), **options)


def _reshape(m: Maker) -> Program:
    x = m.x("x", m.shape())
    shape = m.pick((x.shape[0], prod(x.shape[1:])), (1, x.size), (x.size, 1))
    return one_operator("RESHAPE", [x, whole("shape", shape)], m.like("y", shape, x), new_shape=shape)


def _pad(m: Maker) -> Program:
    x = m.x("x", m.shape())
    sides = [(0, 0), *((m.whole(0, 2), m.whole(0, 2)) for _ in range(2)), (0, 0)]
    y = m.like("y", [before + n + after for n, (before, after) in zip(x.shape, sides, strict=True)], x)
    if m.pick(True, False):
        return one_operator("PAD", [x, whole("sides", sides)], y)
    value = np.array(m.zero_point(), m.type.lower()) if m.quantized else np.array(-1.5, np.float32)
    fill = Tensor("value", (), x.type, x.quantization, value)
    return one_operator("PADV2", [x, whole("sides", sides), fill], y)


def _slice(m: Maker) -> Program:
    x = m.x("x", m.shape())
    start = [m.whole(0, size - 1) for size in x.shape]
    size = [m.whole(1, n - first) for n, first in zip(x.shape, start, strict=True)]
    return one_operator("SLICE", [x, whole("start", start), whole("size", size)], m.like("y", size, x))


def _tile(m: Maker) -> Program:
    x = m.x("x", m.shape())
    copies = [1, *(m.whole(1, 3) for _ in x.shape[1:])]
    y = [n * count for n, count in zip(x.shape, copies, strict=True)]
    return one_operator("TILE", [x, whole("copies", copies)], m.like("y", y, x))


def _strided_slice(m: Maker) -> Program:
    x = m.x("x", m.shape())
    begin = [0, *(m.whole(-n, n - 1) for n in x.shape[1:])]
    strides = [1, *(m.pick(1, 2, -1) for _ in range(3))]
    end = [m.whole(-n, n) for n in x.shape]
    shrink = m.pick(0, 2, 8)
    mask = m.whole(0, 15)
    index = tuple(
        b if shrink >> i & 1 else slice(None if mask >> i & 1 else b, None, s)
        for i, (b, s) in enumerate(zip(begin, strides, strict=True))
    )
    shape = np.empty(x.shape)[index].shape
    inputs = [
        x,
        whole("begin", begin),
        whole("end", end),
        whole("strides", [1 if shrink >> i & 1 else s for i, s in enumerate(strides)]),
    ]
    options = {"begin_mask": mask, "end_mask": 15, "shrink_axis_mask": shrink}
    return one_operator("STRIDED_SLICE", inputs, m.like("y", shape, x), **options)


def _split(m: Maker) -> Program:
    count, axis, shape = m.whole(1, 3), m.whole(1, 3), list(m.shape())
    part = shape.copy()
    shape[axis] *= count
    x = m.x("x", shape)
    outputs = [m.like(f"y{i}", part, x) for i in range(count)]
    return one_operator("SPLIT", [whole("axis", axis), x], outputs, splits=count)


def _concatenation(m: Maker) -> Program:
    shape, axis = list(m.shape()), m.whole(1, 3)
    sizes = [m.whole(1, 5) for _ in range(m.whole(1, 3))]
    first = m.x("x0", [*shape[:axis], sizes[0], *shape[axis + 1 :]])
    others = [m.like(f"x{i}", [*shape[:axis], n, *shape[axis + 1 :]], first) for i, n in enumerate(sizes) if i]
    y = m.like("y", [*shape[:axis], sum(sizes), *shape[axis + 1 :]], first)
    return one_operator("CONCATENATION", [first, *others], y, axis=axis)


def _transpose(m: Maker) -> Program:
    x, order = m.x("x", m.shape()), m.draw(st.permutations(range(4)))
    return one_operator("TRANSPOSE", [x, whole("order", order)], m.like("y", [x.shape[i] for i in order], x))


def _space_to_depth(m: Maker) -> Program:
    n, height, width, channels = m.shape()
    block = m.whole(2, 3)
    x = m.x("x", (n, height * block, width * block, channels))
    y = m.like("y", (n, height, width, channels * block**2), x)
    return one_operator("SPACE_TO_DEPTH", [x], y, block=block)


def _gather(m: Maker) -> Program:
    x, axis = m.x("x", m.shape()), m.whole(0, 3)
    indices = [m.whole(0, x.shape[axis] - 1) for _ in range(m.whole(1, 5))]
    y = m.like("y", [*x.shape[:axis], len(indices), *x.shape[axis + 1 :]], x)
    return one_operator("GATHER", [x, whole("indices", indices)], y, axis=axis)


def _quantize(m: Maker) -> Program:
    shape, source = m.shape(), m.pick("FLOAT32", "INT8", "UINT8")
    x = Maker(m.draw, source, m.rng).x("x", shape)
    return one_operator("QUANTIZE", [x], m.x("y", shape))


def _dequantize(m: Maker) -> Program:
    x = Maker(m.draw, m.pick("INT8", "UINT8"), m.rng).x("x", m.shape())
    return one_operator("DEQUANTIZE", [x], tensor("y", x.shape))


def _cast(m: Maker) -> Program:
    source = tensor("x", m.shape(), m.pick("INT32", "UINT8", "INT8"))
    return one_operator("CAST", [source], tensor("y", source.shape))


CASES: Mapping[str, Callable[[Maker], Program]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transposed,
    "CONV_3D": _convolution_3d,
    "CONV_3D_TRANSPOSE": lambda m: _transposed(m, 3),
    "BATCH_MATMUL": _batch_matmul,
    "ADD": _binary("ADD"),
    "SUB": _binary("SUB"),
    "MUL": _binary("MUL"),
    "DIV": _binary("DIV"),
    "SQUARED_DIFFERENCE": _binary("SQUARED_DIFFERENCE", activation=False),
    "MAXIMUM": _binary("MAXIMUM", keeps=True, activation=False),
    "MINIMUM": _binary("MINIMUM", keeps=True, activation=False),
    "AVERAGE_POOL_2D": _pool("AVERAGE_POOL_2D"),
    "MAX_POOL_2D": _pool("MAX_POOL_2D"),
    "MEAN": _reduced("MEAN"),
    "SUM": _reduced("SUM"),
    "RESIZE_BILINEAR": _resize("RESIZE_BILINEAR"),
    "RESIZE_NEAREST_NEIGHBOR": _resize("RESIZE_NEAREST_NEIGHBOR"),
    "LOCAL_RESPONSE_NORMALIZATION": _local_response,
    "CONCATENATION": _concatenation,
    "RESHAPE": _reshape,
    "PAD": _pad,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "SPLIT": _split,
    "TILE": _tile,
    "TRANSPOSE": _transpose,
    "SPACE_TO_DEPTH": _space_to_depth,
    "GATHER": _gather,
    "QUANTIZE": _quantize,
    "DEQUANTIZE": _dequantize,
    "CAST": _cast,
    "SOFTMAX": _softmax,
    "LOGISTIC": _unary("LOGISTIC", scale=1 / 256),
    "TANH": _unary("TANH", scale=1 / 128, zero_point=128),
    "RELU": _unary("RELU"),
    "RELU6": _unary("RELU6"),
    "RELU_N1_TO_1": _unary("RELU_N1_TO_1"),
    "LEAKY_RELU": _leaky_relu,
    "PRELU": _prelu,
    "ELU": _unary("ELU"),
    "HARD_SWISH": _unary("HARD_SWISH"),
    "ABS": _unary("ABS"),
    "NEG": _negate,
    "EXP": _unary("EXP"),
    "RSQRT": _unary("RSQRT"),
}
"""How to draw a program of each operator; PADV2 comes with PAD."""
