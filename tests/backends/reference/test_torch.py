"""PyTorch's opinion of the reference, in float64: explicit padding above all, and what Keras does not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnc import ops
from cnnc.backends.reference import evaluate
from cnnc.ops import Op
from tests.support.strategies import Case, cases, random_inputs, random_weights

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")

Tensor = Any
Tensors = Mapping[str, Tensor]
Peer = Callable[[Any, Tensors, Tensor], Tensor]
SEEDS = st.integers(0, 2**32)


def functional(name: str) -> Callable[..., Tensor]:
    """A function of `torch.nn.functional`."""
    function: Callable[..., Tensor] = getattr(torch.nn.functional, name)
    return function


def padded(x: Tensor, pairs: tuple[tuple[int, int], ...], value: float = 0.0) -> Tensor:
    """The tensor with zeros around; PyTorch counts the axes from the last."""
    return functional("pad")(x, [side for pair in reversed(pairs) for side in pair], value=value)


def compare(case: Case, seed: int, peer: Peer) -> None:
    """PyTorch's function, channels first, gives what the reference does."""
    weights, inputs = random_weights(case, seed), random_inputs(case, seed)
    tensors = [torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1))) for x in inputs]
    theirs = peer(case.op, {name: torch.from_numpy(array) for name, array in weights.items()}, *tensors)
    ours = evaluate(case.op, weights, *inputs)
    np.testing.assert_allclose(ours, np.moveaxis(theirs.numpy(), 1, -1), rtol=1e-9, atol=1e-9)


def explicit(case: Case) -> Case:
    """The case with the pairs that its padding stands for; rejects `same`."""
    op: Any = case.op
    assume(op.padding != "same")
    return Case(replace(op, padding=((0, 0),) * len(op.kernel)), case.shapes) if op.padding == "valid" else case


def symmetric(case: Case) -> Case:
    """The case with each pair's larger side on both sides; the smaller for a transposed convolution, which cuts."""
    op: Any = case.op
    pick = min if isinstance(op, ops.ConvTranspose) else max
    return Case(replace(op, padding=tuple((pick(pair),) * 2 for pair in op.padding)), case.shapes)


def conv(op: Any, weights: Tensors, x: Tensor) -> Tensor:
    rank = len(op.kernel)
    kernel = weights["kernel"].permute(-1, -2, *range(rank))
    padding = [before for before, _ in op.padding]
    if any(before != after for before, after in op.padding):
        x, padding = padded(x, op.padding), [0] * rank
    return functional(f"conv{rank}d")(x, kernel, weights.get("bias"), op.stride, padding, op.dilation, op.groups)


def depthwise(op: Any, weights: Tensors, x: Tensor) -> Tensor:
    rank = len(op.kernel)
    kernel = weights["kernel"].permute(-2, -1, *range(rank))
    kernel = kernel.reshape(-1, 1, *kernel.shape[2:])
    x, channels = padded(x, op.padding), x.shape[1]
    return functional(f"conv{rank}d")(x, kernel, weights.get("bias"), op.stride, 0, op.dilation, channels)


def conv_transpose(op: Any, weights: Tensors, x: Tensor) -> Tensor:
    rank = len(op.kernel)
    kernel = weights["kernel"].permute(-1, -2, *range(rank))
    padding = [before for before, _ in op.padding]
    return functional(f"conv_transpose{rank}d")(x, kernel, weights.get("bias"), op.stride, padding, 0, 1, op.dilation)


def max_pool(op: Any, weights: Tensors, x: Tensor) -> Tensor:
    return functional(f"max_pool{len(op.kernel)}d")(padded(x, op.padding, -torch.inf), op.kernel, op.stride)


def avg_pool(op: Any, weights: Tensors, x: Tensor) -> Tensor:
    padding = [before for before, _ in op.padding]
    # PyTorch refuses more padding than half a kernel, and a kernel larger than the input.
    assume(all(p <= k // 2 and n >= k for p, k, n in zip(padding, op.kernel, x.shape[2:], strict=True)))
    pool = functional(f"avg_pool{len(op.kernel)}d")
    return pool(x, op.kernel, op.stride, padding, count_include_pad=op.count_padding)


@pytest.mark.parametrize(("cls", "peer"), [(ops.Conv, conv), (ops.Depthwise, depthwise), (ops.MaxPool, max_pool)])
def test_padding_of_any_two_sides(cls: type[Op], peer: Peer) -> None:
    @settings(max_examples=100)
    @given(case=cases(cls).map(explicit), seed=SEEDS)
    def check(case: Case, seed: int) -> None:
        compare(case, seed, peer)

    check()


@pytest.mark.fault("Q3")
@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("sizes", [(9,), (7, 6), (4, 5, 4)])
def test_a_convolution_of_as_many_groups_as_channels_is_depthwise(sizes: tuple[int, ...], multiplier: int) -> None:
    rng = np.random.default_rng(0)
    x, rank = rng.standard_normal((2, *sizes, 4)), len(sizes)
    kernel, bias = rng.standard_normal((4 * multiplier, 1, *[3] * rank)), rng.standard_normal(4 * multiplier)
    op = ops.Conv((3,), 4 * multiplier, (2,), ((1, 1),), groups=4, bias=True).resolve((*sizes, 4))
    assert isinstance(op, ops.Depthwise)
    channels_first = (torch.from_numpy(np.ascontiguousarray(array)) for array in (np.moveaxis(x, -1, 1), kernel, bias))
    theirs = functional(f"conv{rank}d")(*channels_first, stride=2, padding=1, groups=4)
    weights = {"kernel": np.moveaxis(kernel, (0, 1), (-1, -2)).reshape(*[3] * rank, 4, multiplier), "bias": bias}
    assert {name: array.shape for name, array in weights.items()} == {
        name: weight.shape for name, weight in op.weights((*sizes, 4)).items()
    }
    np.testing.assert_allclose(evaluate(op, weights, x), np.moveaxis(theirs.numpy(), 1, -1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("cls", "peer"), [(ops.Conv, conv), (ops.ConvTranspose, conv_transpose), (ops.AvgPool, avg_pool)]
)
def test_symmetric_padding(cls: type[Op], peer: Peer) -> None:
    @settings(max_examples=100)
    @given(case=cases(cls).map(explicit).map(symmetric), seed=SEEDS)
    def check(case: Case, seed: int) -> None:
        compare(case, seed, peer)

    check()


def dense(op: Any, weights: Tensors, x: Tensor) -> Tensor:
    y = functional("linear")(x.movedim(1, -1), weights["kernel"].T, weights.get("bias"))
    return y.movedim(-1, 1)


def batch_norm(op: Any, weights: Tensors, x: Tensor) -> Tensor:
    statistics = (weights["mean"], weights["variance"])
    return functional("batch_norm")(x, *statistics, weights.get("gamma"), weights.get("beta"), False, 0.0, op.epsilon)


def layer_norm(op: Any, weights: Tensors, x: Tensor) -> Tensor:
    x = x.movedim(1, -1)
    y = functional("layer_norm")(x, x.shape[-1:], weights.get("gamma"), weights.get("beta"), op.epsilon)
    return y.movedim(-1, 1)


def group_norm(op: Any, weights: Tensors, x: Tensor) -> Tensor:
    assume(x[0].numel() > op.groups)  # PyTorch refuses groups of a single value
    return functional("group_norm")(x, op.groups, weights.get("gamma"), weights.get("beta"), op.epsilon)


def local_response_norm(op: Any, weights: Tensors, x: Tensor) -> Tensor:
    assume(x.ndim > 2)
    size = 2 * op.radius + 1  # PyTorch divides alpha by it, the paper does not
    return functional("local_response_norm")(x, size, op.alpha * size, op.beta, op.bias)


def resize(op: Any, weights: Tensors, x: Tensor) -> Tensor:
    linear = {3: "linear", 4: "bilinear", 5: "trilinear"}[x.ndim]
    size = op.size if op.size is not None else [n * s for n, s in zip(x.shape[2:], op.scale, strict=True)]
    return functional("interpolate")(x, size, mode="nearest-exact" if op.method == "nearest" else linear)


def space_to_depth(op: Any, weights: Tensors, x: Tensor) -> Tensor:
    assume(x.ndim == 4)
    batch, channels, height, width = x.shape
    block = op.block
    y = functional("pixel_unshuffle")(x, block)  # channels first, then rows, then columns
    y = y.reshape(batch, channels, block, block, height // block, width // block)
    return y.permute(0, 2, 3, 1, 4, 5).reshape(batch, -1, height // block, width // block)


def pad(op: Any, weights: Tensors, x: Tensor) -> Tensor:
    return padded(x, op.amount, op.value)


def attention(op: Any, weights: Tensors, x: Tensor) -> Tensor:
    channels = x.shape[1]
    assume(op.heads * op.key_features == channels)
    tokens = x.flatten(2).permute(2, 0, 1)
    parts = ("query", "key", "value")
    projections = torch.cat([weights[f"{part}_kernel"].reshape(channels, channels).T for part in parts])
    biases = torch.cat([weights[f"{part}_bias"].flatten() for part in parts])
    output = weights["output_kernel"].reshape(channels, channels).T
    y, _ = functional("multi_head_attention_forward")(
        tokens, tokens, tokens, channels, op.heads, projections, biases, None, None, False, 0.0,
        output, weights["output_bias"], training=False,
    )  # fmt: skip
    return y.permute(1, 2, 0).reshape(x.shape)


PEERS: Mapping[type[Op], Peer] = {
    ops.Dense: dense,
    ops.BatchNorm: batch_norm,
    ops.LayerNorm: layer_norm,
    ops.GroupNorm: group_norm,
    ops.LocalResponseNorm: local_response_norm,
    ops.Resize: resize,
    ops.SpaceToDepth: space_to_depth,
    ops.Slice: lambda op, weights, x: x.narrow(1, op.start, op.stop - op.start),
    ops.ChannelShuffle: lambda op, weights, x: functional("channel_shuffle")(x[..., None], op.groups)[..., 0],
    ops.Pad: pad,
    ops.Attention: attention,
    ops.Relu: lambda op, weights, x: functional("relu")(x),
    ops.Relu6: lambda op, weights, x: functional("relu6")(x),
    ops.LeakyRelu: lambda op, weights, x: functional("leaky_relu")(x, op.slope),
    ops.Prelu: lambda op, weights, x: functional("prelu")(x, weights["alpha"]),
    ops.Elu: lambda op, weights, x: functional("elu")(x, op.alpha),
    ops.Swish: lambda op, weights, x: functional("silu")(x),
    ops.HardSwish: lambda op, weights, x: functional("hardswish")(x),
    ops.HardSigmoid: lambda op, weights, x: functional("hardsigmoid")(x),
    ops.Gelu: lambda op, weights, x: functional("gelu")(x, approximate="tanh" if op.approximate else "none"),
    ops.Mish: lambda op, weights, x: functional("mish")(x),
    ops.Sigmoid: lambda op, weights, x: torch.sigmoid(x),
    ops.Tanh: lambda op, weights, x: torch.tanh(x),
    ops.Softmax: lambda op, weights, x: functional("softmax")(x, dim=1),
}


@pytest.mark.parametrize("cls", PEERS)
def test_layers(cls: type[Op]) -> None:
    @settings(max_examples=60)
    @given(case=cases(cls), seed=SEEDS)
    def check(case: Case, seed: int) -> None:
        compare(case, seed, PEERS[cls])

    check()
