"""Facts on edgetpu_compiler 16.0.384591198: the operators and versions that it knows, and its words.

The compiler is not open. Versions are those of the TFLite it was built with (mid-2021, TensorFlow 2.5 or 2.6): what it
refused was always newer (CONV_2D 6, QUANTIZE 3, TRANSPOSE_CONV 4, EXP 2). Names of operators are Coral's table.

Sources: tensorflow/lite/tools/versioning/runtime_version.cc; coral.ai/docs/edgetpu/models-intro; google-coral/edgetpu
issues 631, 845, 879 and libedgetpu 71.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

COMPILER: Final = "edgetpu_compiler 16.0"
BUILTIN_CODES: Final = 147
"""Builtins have codes below this one in TensorFlow 2.6; of 150 (GELU) the compiler says that it is out of range."""
TENSOR_TYPES: Final = 16
"""Types of tensors likewise: up to UINT32."""

MAPPED: Final = frozenset(
    """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION LOGISTIC
UNIDIRECTIONAL_SEQUENCE_LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU
RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE
STRIDED_SLICE SUB SUM SQUARED_DIFFERENCE TANH TILE TRANSPOSE TRANSPOSE_CONV
""".split()  # noqa: SIM905  # a list of that many names is a page long
)
"""Operators that can be mapped. TILE is not in Coral's table, yet a model of theirs that has one is mapped whole."""

LEFT_ON_CPU: Final = (
    "ARG_MAX",
    "CAST",
    "DIV",
    "FLOOR_DIV",
    "FLOOR_MOD",
    "GATHER",
    "GATHER_ND",
    "SIN",
    "SQRT",
    "UNPACK",
)
"""Operators that decoded models and logs of version 16 have on the CPU; of others that Coral's table lacks it is not
shown, only likely."""

CUSTOM: Final = frozenset({"TFLite_Detection_PostProcess", "PosenetDecoderOp"})
"""Custom operators that the compiler has a CPU's kernel of; any other is unresolved."""
COMPILED: Final = "edgetpu-custom-op"
"""The operator that a compiled model has in the place of those that were mapped."""


def _registered(text: str) -> Mapping[str, tuple[int, int]]:
    """Of `NAME:sure/probable`, the highest versions; a single number is both."""
    found = {}
    for entry in text.split():
        name, _, versions = entry.partition(":")
        sure, _, probable = versions.partition("/")
        found[name] = (int(sure), int(probable or sure))
    return found


REGISTERED: Final = _registered("""
ABS:3/4 ADD:3/4 ADD_N:1 ARG_MAX:2 ARG_MIN:2 ASSIGN_VARIABLE:0/1 AVERAGE_POOL_2D:3 BATCH_MATMUL:4 BATCH_TO_SPACE_ND:3
BIDIRECTIONAL_SEQUENCE_LSTM:3 BIDIRECTIONAL_SEQUENCE_RNN:3 BROADCAST_ARGS:0/1 BROADCAST_TO:3 CALL_ONCE:1 CAST:1 CEIL:1
COMPLEX_ABS:1 CONCATENATION:3 CONV_2D:5 CONV_3D:1 CONV_3D_TRANSPOSE:0/1 COS:1 CUMSUM:1 DENSIFY:1 DEPTHWISE_CONV_2D:6
DEPTH_TO_SPACE:2 DEQUANTIZE:4 DIV:2 ELU:1 EMBEDDING_LOOKUP:3 EMBEDDING_LOOKUP_SPARSE:1 EQUAL:3 EXP:1 EXPAND_DIMS:1
FAKE_QUANT:2 FILL:3 FLOOR:1 FLOOR_DIV:2 FLOOR_MOD:1 FULLY_CONNECTED:9 GATHER:5 GATHER_ND:3 GREATER:2 GREATER_EQUAL:2
HARD_SWISH:1 HASHTABLE:1 HASHTABLE_FIND:1 HASHTABLE_IMPORT:1 HASHTABLE_LOOKUP:1 HASHTABLE_SIZE:1 IF:1 IMAG:1
L2_NORMALIZATION:2 L2_POOL_2D:1 LEAKY_RELU:2 LESS:2 LESS_EQUAL:2 LOCAL_RESPONSE_NORMALIZATION:1 LOG:1 LOGICAL_AND:1
LOGICAL_NOT:1 LOGICAL_OR:1 LOGISTIC:3 LOG_SOFTMAX:2 LSH_PROJECTION:1 LSTM:4 MATRIX_DIAG:1 MATRIX_SET_DIAG:1 MAXIMUM:4
MAX_POOL_2D:3 MEAN:3 MINIMUM:4 MIRROR_PAD:2 MUL:4/5 NEG:1 NON_MAX_SUPPRESSION_V4:1 NON_MAX_SUPPRESSION_V5:1 NOT_EQUAL:3
ONE_HOT:1 PACK:3 PAD:3/4 PADV2:3/4 POW:1 PRELU:1 QUANTIZE:2 RANGE:1 RANK:1 READ_VARIABLE:0/1 REAL:1 REDUCE_ALL:0/1
REDUCE_ANY:1 REDUCE_MAX:3 REDUCE_MIN:3 REDUCE_PROD:1/2 RELU:3 RELU6:3 RELU_N1_TO_1:1 RESHAPE:1 RESIZE_BILINEAR:4
RESIZE_NEAREST_NEIGHBOR:4 REVERSE_SEQUENCE:1 REVERSE_V2:3 RFFT2D:1 RNN:3 ROUND:1 RSQRT:2 SCATTER_ND:1 SEGMENT_SUM:1
SELECT:2 SELECT_V2:1 SHAPE:1 SIN:1 SKIP_GRAM:1 SLICE:5 SOFTMAX:3 SPACE_TO_BATCH_ND:3 SPACE_TO_DEPTH:2 SPARSE_TO_DENSE:3
SPLIT:4 SPLIT_V:2 SQRT:1 SQUARE:1 SQUARED_DIFFERENCE:2 SQUEEZE:2 STRIDED_SLICE:5/6 SUB:5 SUM:2 SVDF:4 TANH:3 TILE:2
TOPK_V2:2 TRANSPOSE:5 TRANSPOSE_CONV:3 UNIDIRECTIONAL_SEQUENCE_LSTM:3 UNIDIRECTIONAL_SEQUENCE_RNN:3 UNIQUE:1 UNPACK:4
VAR_HANDLE:0/1 WHERE:1 WHILE:1 ZEROS_LIKE:1
""")
"""The highest version of each builtin in TensorFlow 2.5, and in 2.6, which the compiler may have."""

STATUS_MAPPED: Final = "Mapped to Edge TPU"
STATUS_UNKNOWN: Final = "Not known to be mapped"
"""Ours: the compiler knows."""
NOT_SUPPORTED: Final = "Operation not supported"
VERSION: Final = "Operation version not supported"
DATA_TYPE: Final = "Operation is working on an unsupported data type"
RANK: Final = "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
NOT_CONSTANT: Final = "Filter, bias, or other param is not constant at compile-time"
TWO_D: Final = "For example, a fully-connected or softmax layer with 2D output"
LIMITATION: Final = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
SUBGRAPH: Final = "More than one subgraph is not supported"
