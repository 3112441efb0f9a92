"""Every operator, declared once: attributes, shape rule, weights, initialisers, multiply-accumulates."""

from collections.abc import Mapping
from typing import Final

from cnnc.ops.activation import (
    Elu,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Mish,
    Prelu,
    Relu,
    Relu6,
    Sigmoid,
    Softmax,
    Swish,
    Tanh,
)
from cnnc.ops.attention import Attention, Embedding, Positions
from cnnc.ops.base import Initializer, Op, OpError, Shape, Weight, format_shape
from cnnc.ops.convolution import Conv, ConvTranspose, Depthwise
from cnnc.ops.dense import Dense
from cnnc.ops.input import Input
from cnnc.ops.merge import Add, Concat, Matmul, Mul, Sub
from cnnc.ops.normalization import BatchNorm, GroupNorm, LayerNorm, LayerScale, LocalResponseNorm
from cnnc.ops.pooling import AvgPool, GlobalPool, MaxPool
from cnnc.ops.preprocessing import Bgr, Normalize
from cnnc.ops.regularization import Dropout, DropPath
from cnnc.ops.shape import (
    ChannelShuffle,
    Crop,
    Flatten,
    Pad,
    Reshape,
    Resize,
    Slice,
    SpaceToDepth,
    Squeeze,
    Transpose,
)

OPS: Final[Mapping[str, type[Op]]] = {name: op for op in Op.__subclasses__() for name in op.names}
"""The operators by every name that a spec may write for them."""

__all__ = [
    "OPS",
    "Add",
    "Attention",
    "AvgPool",
    "BatchNorm",
    "Bgr",
    "ChannelShuffle",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Crop",
    "Dense",
    "Depthwise",
    "DropPath",
    "Dropout",
    "Elu",
    "Embedding",
    "Flatten",
    "Gelu",
    "GlobalPool",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "Initializer",
    "Input",
    "LayerNorm",
    "LayerScale",
    "LeakyRelu",
    "LocalResponseNorm",
    "Matmul",
    "MaxPool",
    "Mish",
    "Mul",
    "Normalize",
    "Op",
    "OpError",
    "Pad",
    "Positions",
    "Prelu",
    "Relu",
    "Relu6",
    "Reshape",
    "Resize",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "SpaceToDepth",
    "Squeeze",
    "Sub",
    "Swish",
    "Tanh",
    "Transpose",
    "Weight",
    "format_shape",
]
