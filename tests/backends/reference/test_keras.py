"""Keras's opinion of the reference: its SAME padding, its batch norm, its layouts of weights. In float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnc import ops
from cnnc.backends.reference import batch_statistics, evaluate, updated_statistics
from cnnc.ops import Op
from tests.support.strategies import Case, cases, random_inputs, random_weights

keras: Any = pytest.importorskip("keras", reason="Keras is not installed")

Layer = Callable[..., Any]
SEEDS = st.integers(0, 2**32)
UNSET = {"kernel_initializer": "zeros"}  # else drawing weights, to be replaced, compiles for every shape


def layer(name: str, *arguments: Any, **named: Any) -> Any:
    """A layer of Keras."""
    return getattr(keras.layers, name)(*arguments, **named)


def padding_word(op: Any) -> str:
    """`same` or `valid`; explicit padding is PyTorch's matter."""
    assume(isinstance(op.padding, str))
    word: str = op.padding
    return word


def is_dilated_and_strided(op: Any) -> bool:
    """Keras refuses both at once."""
    return bool(max(op.stride) > 1 and max(op.dilation) > 1)


def conv(op: Any, rank: int) -> Any:
    assume(not is_dilated_and_strided(op))
    return layer(
        f"Conv{rank}D",
        op.filters,
        op.kernel,
        op.stride,
        padding_word(op),
        dilation_rate=op.dilation,
        groups=op.groups,
        use_bias=op.bias,
        **UNSET,
    )


def depthwise(op: Any, rank: int) -> Any:
    assume(rank < 3 and not is_dilated_and_strided(op))  # Keras has it in 1-D and 2-D
    kernel, stride, dilation = (value if rank == 2 else value[0] for value in (op.kernel, op.stride, op.dilation))
    return layer(
        f"DepthwiseConv{rank}D",
        kernel,
        stride,
        padding_word(op),
        op.multiplier,
        dilation_rate=dilation,
        use_bias=op.bias,
        depthwise_initializer="zeros",
    )


def conv_transpose(op: Any, rank: int) -> Any:
    assume(not is_dilated_and_strided(op))
    return layer(
        f"Conv{rank}DTranspose",
        op.filters,
        op.kernel,
        op.stride,
        padding_word(op),
        dilation_rate=op.dilation,
        use_bias=op.bias,
        **UNSET,
    )


def max_pool(op: Any, rank: int) -> Any:
    return layer(f"MaxPooling{rank}D", op.kernel, op.stride, padding_word(op))


def avg_pool(op: Any, rank: int) -> Any:
    assume(not op.count_padding)
    return layer(f"AveragePooling{rank}D", op.kernel, op.stride, padding_word(op))


def global_pool(op: Any, rank: int) -> Any:
    mode = {"average": "Average", "max": "Max"}[op.mode]
    return layer(f"Global{mode}Pooling{rank}D", keepdims=op.keepdims)


def upsampling(op: Any, rank: int) -> Any:
    assume(op.scale is not None and (op.method == "nearest" or rank == 2))
    if rank == 2:
        return layer("UpSampling2D", op.scale, interpolation=op.method)
    return layer(f"UpSampling{rank}D", op.scale[0] if rank == 1 else op.scale)


def attention(op: Any, rank: int) -> Any:
    axes = tuple(range(1, rank + 1))
    return layer("MultiHeadAttention", op.heads, op.key_features, attention_axes=axes, **UNSET)


def softmax(op: Any, rank: int) -> Any:
    return lambda x: layer("Softmax")(x) if x.shape[-1] > 1 else np.ones_like(x)  # of one channel Keras warns


PEERS: Mapping[type[Op], Callable[[Any, int], Any]] = {
    ops.Conv: conv,
    ops.Depthwise: depthwise,
    ops.ConvTranspose: conv_transpose,
    ops.MaxPool: max_pool,
    ops.AvgPool: avg_pool,
    ops.GlobalPool: global_pool,
    ops.Resize: upsampling,
    ops.Attention: attention,
    ops.Dense: lambda op, rank: layer("Dense", op.units, use_bias=op.bias, **UNSET),
    ops.BatchNorm: lambda op, rank: layer(
        "BatchNormalization", momentum=op.momentum, epsilon=op.epsilon, center=op.center, scale=op.scale
    ),
    ops.LayerNorm: lambda op, rank: layer("LayerNormalization", epsilon=op.epsilon, center=op.center, scale=op.scale),
    ops.GroupNorm: lambda op, rank: layer(
        "GroupNormalization", op.groups, epsilon=op.epsilon, center=op.center, scale=op.scale
    ),
    ops.Prelu: lambda op, rank: layer("PReLU", shared_axes=list(range(1, rank + 1)) or None),
    ops.LeakyRelu: lambda op, rank: layer("LeakyReLU", op.slope),
    ops.Elu: lambda op, rank: layer("ELU", op.alpha),
    ops.Softmax: softmax,
    ops.Relu: lambda op, rank: layer("Activation", "relu"),
    ops.Relu6: lambda op, rank: layer("Activation", "relu6"),
    ops.Swish: lambda op, rank: layer("Activation", "silu"),
    ops.HardSwish: lambda op, rank: layer("Activation", "hard_silu"),
    ops.HardSigmoid: lambda op, rank: layer("Activation", "hard_sigmoid"),
    ops.Gelu: lambda op, rank: lambda x: keras.activations.gelu(x, approximate=op.approximate),
    ops.Mish: lambda op, rank: layer("Activation", "mish"),
    ops.Sigmoid: lambda op, rank: layer("Activation", "sigmoid"),
    ops.Tanh: lambda op, rank: layer("Activation", "tanh"),
    ops.Flatten: lambda op, rank: layer("Flatten"),
    ops.Reshape: lambda op, rank: layer("Reshape", op.shape),
    ops.Crop: lambda op, rank: layer(f"Cropping{rank}D", op.amount if rank > 1 else op.amount[0]),
    ops.Embedding: lambda op, rank: layer("Embedding", op.vocabulary, op.features),
    ops.Normalize: lambda op, rank: layer("Rescaling", 1 / np.array(op.std), -np.array(op.mean) / np.array(op.std)),
    ops.Add: lambda op, rank: layer("Add"),
    ops.Mul: lambda op, rank: layer("Multiply"),
    ops.Concat: lambda op, rank: layer("Concatenate"),
    ops.Dropout: lambda op, rank: layer("Dropout", op.rate),
}


MERGES = (ops.Add, ops.Mul, ops.Concat)
WINDOWS = (ops.Conv, ops.Depthwise, ops.ConvTranspose, ops.MaxPool, ops.AvgPool)


def hand_over(weights: Mapping[str, Any], peer: Any) -> None:
    """Set a built layer's weights to ours: the same order and layout, but for a PReLU's axes of one."""
    for array, theirs in zip(weights.values(), peer.weights, strict=True):
        assert theirs.shape == (1,) * (len(theirs.shape) - array.ndim) + array.shape
    peer.set_weights(
        [array.reshape(theirs.shape) for array, theirs in zip(weights.values(), peer.weights, strict=True)]
    )


def compare(case: Case, seed: int) -> None:
    """Keras's layer gives what the reference does."""
    peer = PEERS[type(case.op)](case.op, len(case.shapes[0]) - 1)
    weights: dict[str, Any] = {n: array.astype(np.float32) for n, array in random_weights(case, seed).items()}
    dtype = np.int32 if isinstance(case.op, ops.Embedding) else np.float32
    inputs: list[Any] = [x.astype(dtype) for x in random_inputs(case, seed)]
    if isinstance(case.op, ops.Attention):
        arguments = inputs * 2
    else:
        arguments = [inputs] if isinstance(case.op, MERGES) else inputs
    if weights:
        peer.build(*[argument.shape for argument in arguments])
        hand_over(weights, peer)
    theirs = np.asarray(peer(*arguments))
    np.testing.assert_allclose(evaluate(case.op, weights, *inputs), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cls", PEERS)
def test_layers(cls: type[Op]) -> None:
    # Keras compiles every shape anew, which is all that this costs.
    @settings(max_examples=4 if cls in WINDOWS else 2)
    @given(case=cases(cls), seed=SEEDS)
    def check(case: Case, seed: int) -> None:
        compare(case, seed)

    check()


@pytest.mark.slow
@pytest.mark.parametrize("cls", PEERS)
def test_layers_at_length(cls: type[Op]) -> None:
    @settings(max_examples=30)
    @given(case=cases(cls), seed=SEEDS)
    def check(case: Case, seed: int) -> None:
        compare(case, seed)

    check()


@settings(max_examples=4)
@given(case=cases(ops.BatchNorm), seed=SEEDS)
def test_batch_norm_in_training(case: Case, seed: int) -> None:
    op: Any = case.op
    weights, (x,) = random_weights(case, seed), random_inputs(case, seed, batch=3)
    peer = PEERS[ops.BatchNorm](op, len(case.shapes[0]) - 1)
    peer.build(x.shape)
    hand_over(weights, peer)
    theirs = peer(x.astype(np.float32), training=True)
    ours = evaluate(op, {**weights, **batch_statistics(x)}, x)
    np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-3, atol=1e-3)
    for name, array in updated_statistics(op, weights, x).items():
        theirs = peer.moving_mean if name == "mean" else peer.moving_variance
        np.testing.assert_allclose(array, np.asarray(theirs), rtol=1e-4, atol=1e-4)


def test_bilinear_resizing_to_any_size() -> None:
    x = np.random.default_rng(0).standard_normal((2, 7, 5, 3)).astype(np.float32)
    for size in [(14, 10), (3, 2), (10, 4), (1, 1), (7, 5), (6, 13)]:
        theirs = keras.ops.image.resize(x, size, interpolation="bilinear", antialias=False)
        ours = evaluate(ops.Resize(size=size, method="bilinear"), {}, x.astype(np.float64))
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-4, atol=1e-5)
