"""Random operators with input shapes that fit them, for property tests of the shape rules and of every backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnnc import ops
from cnnc.ops import Op, Shape

Array = NDArray[Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Case:
    """A resolved operator and the shapes, without batch, of inputs that fit it."""

    op: Op
    shapes: tuple[Shape, ...]


SPATIAL = (1, 2, 3)
ANY = (0, 1, 2, 3)

RANKS: Mapping[type[Op], tuple[int, ...]] = {
    ops.Conv: SPATIAL,
    ops.Depthwise: SPATIAL,
    ops.ConvTranspose: SPATIAL,
    ops.MaxPool: SPATIAL,
    ops.AvgPool: SPATIAL,
    ops.GlobalPool: SPATIAL,
    ops.Pad: SPATIAL,
    ops.Crop: SPATIAL,
    ops.Resize: SPATIAL,
    ops.SpaceToDepth: SPATIAL,
    ops.Attention: SPATIAL,
    ops.Matmul: SPATIAL,
    ops.Transpose: SPATIAL,
    ops.Embedding: (0, 1),
    ops.Positions: (1,),
}
"""The numbers of spatial axes an operator works with; those not named work with any."""


def ranks(cls: type[Op]) -> tuple[int, ...]:
    """The numbers of spatial axes that an operator's input may have."""
    return RANKS.get(cls, ANY)


def cases(cls: type[Op], rank: int | None = None) -> st.SearchStrategy[Case]:
    """Random cases of an operator class, of one rank or of all that it works with."""
    if rank is None:
        return st.one_of([cases(cls, each) for each in ranks(cls)])
    assert rank in ranks(cls), (cls, rank)
    return _case(cls, rank)


def random_weights(case: Case, seed: int) -> dict[str, Array]:
    """Standard normal weights in float64; variances from 0.5 up to 1.5."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.uniform(0.5, 1.5, weight.shape) if name == "variance" else rng.standard_normal(weight.shape)
        for name, weight in case.op.weights(*case.shapes).items()
    }


def random_inputs(case: Case, seed: int, batch: int = 2) -> list[Array]:
    """Standard normal inputs `(batch, *shape)` in float64, or valid indices for an embedding."""
    rng = np.random.default_rng([seed, 1])
    if isinstance(case.op, ops.Embedding):
        return [rng.integers(case.op.vocabulary, size=(batch, *shape)) for shape in case.shapes]
    return [rng.standard_normal((batch, *shape)) for shape in case.shapes]


@st.composite
def _case(draw: Draw, cls: type[Op], rank: int) -> Case:
    make = _MAKERS.get(cls)
    op, shapes = (cls(), (draw(_shapes(rank)),)) if make is None else make(draw, rank)
    op.validate()
    return Case(op.resolve(*shapes), shapes)


_CHANNELS = st.integers(1, 6)


def _shapes(rank: int, channels: st.SearchStrategy[int] = _CHANNELS) -> st.SearchStrategy[Shape]:
    return st.tuples(*[_sizes(rank)] * rank, channels)


def _sizes(rank: int) -> st.SearchStrategy[int]:
    return st.integers(1, {0: 1, 1: 12, 2: 7, 3: 5}[rank])


@dataclass(frozen=True)
class _Window:
    sizes: Shape
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str | tuple[tuple[int, int], ...]


def _window(draw: Draw, rank: int, *, pool: bool = False) -> _Window:
    """A window that fits the sizes drawn with it."""
    kernel = tuple(draw(st.integers(1, 5 - rank // 2)) for _ in range(rank))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    dilation = tuple(1 if pool else draw(st.integers(1, 2)) for _ in range(rank))
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    kind = draw(st.sampled_from(["same", "valid", "explicit"]))
    if kind == "same":
        return _Window(tuple(draw(_sizes(rank)) for _ in extents), kernel, stride, dilation, kind)
    if kind == "valid":
        sizes = tuple(extent + draw(st.integers(0, 4)) for extent in extents)
        return _Window(sizes, kernel, stride, dilation, kind)
    most = [min(2, k - 1) if pool else 2 for k in kernel]
    pairs = tuple((draw(st.integers(0, m)), draw(st.integers(0, m))) for m in most)
    sizes = tuple(
        max(1, extent - before - after) + draw(st.integers(0, 4))
        for extent, (before, after) in zip(extents, pairs, strict=True)
    )
    return _Window(sizes, kernel, stride, dilation, pairs)


def _conv(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    window = _window(draw, rank)
    groups = draw(st.integers(1, 3))
    op = ops.Conv(
        window.kernel,
        groups * draw(st.integers(1, 3)),
        window.stride,
        window.padding,
        window.dilation,
        groups,
        draw(st.booleans()),
    )
    # With a channel a group it is a depthwise convolution.
    return op, ((*window.sizes, groups * draw(st.integers(1 if groups == 1 else 2, 3))),)


def _depthwise(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    window = _window(draw, rank)
    multiplier = draw(st.integers(1, 3))
    op = ops.Depthwise(window.kernel, window.stride, window.padding, window.dilation, multiplier, draw(st.booleans()))
    return op, ((*window.sizes, draw(st.integers(1, 4))),)


def _conv_transpose(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    sizes = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    padding: Any = draw(st.sampled_from(["same", "valid", "explicit"]))
    if padding == "explicit":
        full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(sizes, stride, kernel, dilation, strict=True)]
        before = [draw(st.integers(0, min(2, size - 1))) for size in full]
        padding = tuple(
            (cut, draw(st.integers(0, min(2, size - 1 - cut)))) for cut, size in zip(before, full, strict=True)
        )
    op = ops.ConvTranspose(kernel, draw(st.integers(1, 4)), stride, padding, dilation, draw(st.booleans()))
    return op, ((*sizes, draw(st.integers(1, 4))),)


def _max_pool(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    window = _window(draw, rank, pool=True)
    return ops.MaxPool(window.kernel, window.stride, window.padding), ((*window.sizes, draw(st.integers(1, 4))),)


def _avg_pool(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    window = _window(draw, rank, pool=True)
    op = ops.AvgPool(window.kernel, window.stride, window.padding, draw(st.booleans()))
    return op, ((*window.sizes, draw(st.integers(1, 4))),)


def _global_pool(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    op = ops.GlobalPool(draw(st.sampled_from(["average", "max"])), draw(st.booleans()))
    return op, (draw(_shapes(rank)),)


def _dense(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    return ops.Dense(draw(st.integers(1, 6)), draw(st.booleans())), (draw(_shapes(rank)),)


def _batch_norm(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    op = ops.BatchNorm(
        draw(st.floats(0, 1)), draw(st.sampled_from([1e-5, 1e-3])), draw(st.booleans()), draw(st.booleans())
    )
    return op, (draw(_shapes(rank)),)


def _layer_norm(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    op = ops.LayerNorm(draw(st.sampled_from([1e-6, 1e-3])), draw(st.booleans()), draw(st.booleans()))
    return op, (draw(_shapes(rank)),)


def _group_norm(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    groups = draw(st.integers(1, 3))
    op = ops.GroupNorm(groups, draw(st.sampled_from([1e-5, 1e-3])), draw(st.booleans()), draw(st.booleans()))
    return op, (draw(_shapes(rank, st.integers(1, 3).map(lambda n: n * groups))),)


def _local_response_norm(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    op = ops.LocalResponseNorm(
        draw(st.integers(0, 4)), draw(st.floats(0, 2)), draw(st.floats(0.1, 2)), draw(st.floats(0.5, 2))
    )
    return op, (draw(_shapes(rank)),)


def _leaky_relu(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    return ops.LeakyRelu(draw(st.floats(0, 0.5))), (draw(_shapes(rank)),)


def _elu(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    return ops.Elu(draw(st.floats(0.1, 2))), (draw(_shapes(rank)),)


def _gelu(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    return ops.Gelu(draw(st.booleans())), (draw(_shapes(rank)),)


def _reshape(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    shape = draw(_shapes(rank))
    return ops.Reshape(draw(st.permutations(shape).map(tuple))), (shape,)


def _dropout(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    return ops.Dropout(draw(st.floats(0, 0.9))), (draw(_shapes(rank)),)


def _drop_path(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    return ops.DropPath(draw(st.floats(0, 0.9))), (draw(_shapes(rank)),)


def _add(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    return ops.Add(), _broadcast(draw, rank, draw(st.integers(2, 4)))


def _sub(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    return ops.Sub(), _broadcast(draw, rank, 2)


def _mul(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    return ops.Mul(), _broadcast(draw, rank, draw(st.integers(2, 4)))


def _broadcast(draw: Draw, rank: int, count: int) -> tuple[Shape, ...]:
    """Shapes of which one is full, and the others have an axis of 1 here and there."""
    shape = draw(_shapes(rank))
    others = [tuple(draw(st.sampled_from([1, size])) for size in shape) for _ in range(count - 1)]
    return tuple(draw(st.permutations([shape, *others])))


def _matmul(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    *before, rows, inner, columns = (draw(st.integers(1, 5)) for _ in range(rank + 2))
    return ops.Matmul(), ((*before, rows, inner), (*before, inner, columns))


def _positions(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    return ops.Positions(draw(st.floats(2, 1e5))), (draw(_shapes(rank)),)


def _concat(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    sizes = draw(_shapes(rank))[:-1]
    return ops.Concat(), tuple((*sizes, draw(st.integers(1, 4))) for _ in range(draw(st.integers(1, 4))))


def _pad(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    amount = tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in range(rank))
    return ops.Pad(amount, draw(st.floats(-2, 2))), (draw(_shapes(rank)),)


def _crop(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    amount = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(rank))
    sizes = tuple(sum(pair) + draw(st.integers(1, 4)) for pair in amount)
    return ops.Crop(amount), ((*sizes, draw(st.integers(1, 4))),)


def _resize(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    method = draw(st.sampled_from(["nearest", "bilinear"]))
    dims = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    if draw(st.booleans()):
        return ops.Resize(scale=dims, method=method), (draw(_shapes(rank)),)
    return ops.Resize(size=tuple(draw(_sizes(rank)) for _ in range(rank)), method=method), (draw(_shapes(rank)),)


def _space_to_depth(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    block = draw(st.integers(1, 3))
    sizes = tuple(block * draw(st.integers(1, 3)) for _ in range(rank))
    return ops.SpaceToDepth(block), ((*sizes, draw(st.integers(1, 3))),)


def _slice(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    start, size, after = draw(st.integers(0, 3)), draw(st.integers(1, 4)), draw(st.integers(0, 3))
    stop = draw(st.sampled_from([None, start + size])) if after == 0 else start + size
    return ops.Slice(start, stop), (draw(_shapes(rank, st.just(start + size + after))),)


def _channel_shuffle(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    groups = draw(st.integers(1, 4))
    return ops.ChannelShuffle(groups), (draw(_shapes(rank, st.integers(1, 3).map(lambda run: run * groups))),)


def _layer_scale(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    return ops.LayerScale(draw(st.floats(-2, 2))), (draw(_shapes(rank)),)


def _normalize(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    shape = draw(_shapes(rank))
    if draw(st.booleans()):
        return ops.Normalize(draw(st.sampled_from(["imagenet", "unit", "symmetric"]))), (shape,)
    counts = st.sampled_from([1, shape[-1]])
    mean = tuple(draw(st.floats(-2, 2)) for _ in range(draw(counts)))
    std = tuple(draw(st.floats(0.5, 2)) for _ in range(draw(counts)))
    return ops.Normalize(mean=mean, std=std), (shape,)


def _bgr(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    return ops.Bgr(), (draw(_shapes(rank, st.sampled_from([1, 3]))),)


def _embedding(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    op = ops.Embedding(draw(st.integers(1, 9)), draw(st.integers(1, 5)))
    return op, (tuple(draw(st.integers(1, 6)) for _ in range(rank + 1)),)


def _attention(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    heads = draw(st.integers(1, 3))
    op = ops.Attention(heads, draw(st.one_of(st.none(), st.integers(1, 4))))
    sizes = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    return op, ((*sizes, heads * draw(st.integers(1, 3))),)


def _input(draw: Draw, rank: int) -> tuple[Op, tuple[Shape, ...]]:
    return ops.Input(draw(_shapes(rank))), ()


_MAKERS: Mapping[type[Op], Callable[[Draw, int], tuple[Op, tuple[Shape, ...]]]] = {
    ops.Add: _add,
    ops.Attention: _attention,
    ops.AvgPool: _avg_pool,
    ops.BatchNorm: _batch_norm,
    ops.Bgr: _bgr,
    ops.ChannelShuffle: _channel_shuffle,
    ops.Concat: _concat,
    ops.Conv: _conv,
    ops.ConvTranspose: _conv_transpose,
    ops.Crop: _crop,
    ops.Dense: _dense,
    ops.Depthwise: _depthwise,
    ops.DropPath: _drop_path,
    ops.Dropout: _dropout,
    ops.Elu: _elu,
    ops.Embedding: _embedding,
    ops.Gelu: _gelu,
    ops.GlobalPool: _global_pool,
    ops.GroupNorm: _group_norm,
    ops.Input: _input,
    ops.LayerNorm: _layer_norm,
    ops.LayerScale: _layer_scale,
    ops.LeakyRelu: _leaky_relu,
    ops.LocalResponseNorm: _local_response_norm,
    ops.Matmul: _matmul,
    ops.MaxPool: _max_pool,
    ops.Mul: _mul,
    ops.Normalize: _normalize,
    ops.Pad: _pad,
    ops.Positions: _positions,
    ops.Reshape: _reshape,
    ops.Resize: _resize,
    ops.Slice: _slice,
    ops.SpaceToDepth: _space_to_depth,
    ops.Sub: _sub,
}
"""Every class with attributes, several inputs or a condition on its input; the others take any shape."""
