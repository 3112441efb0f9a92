"""The first TensorFlow Lite that runs each version of an operator, which a file says of itself as a whole.

Source: tensorflow/lite/tools/versioning/runtime_version.cc, by which TensorFlow's converter writes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cnnc.tflite_file.program import Operator

_OLDEST: Final = "1.5.0"

_FIRST: Final = {
    name: versions.split()
    for name, versions in (
        line.split(maxsplit=1)
        for line in """
ABS 1.13.0 2.4.0 2.5.0 2.6.0
ADD 1.5.0 1.14.0 2.4.0 2.6.0
AVERAGE_POOL_2D 1.5.0 1.14.0 2.3.0
BATCH_MATMUL 2.3.0 2.3.0 2.4.0 2.5.0
CONCATENATION 1.5.0 1.14.0 2.3.0
CONV_2D 1.5.0 1.14.0 1.14.0 2.3.0 2.4.0 2.9.0
CONV_3D 2.5.0
CONV_3D_TRANSPOSE 2.6.0
DEPTHWISE_CONV_2D 1.5.0 1.12.0 1.14.0 2.2.0 2.3.0 2.3.0
DEQUANTIZE 1.13.1 1.14.0 1.15.0 2.2.0 2.7.0
DIV 1.6.0 2.3.0
ELU 1.14.0
EXP 1.7.0
EXPAND_DIMS 1.10.0
FULLY_CONNECTED 1.5.0 1.10.0 1.14.0 1.14.0 2.0.0 2.1.0 2.3.0 2.3.0 2.3.0
GATHER 1.6.0 1.14.0 1.15.0 2.4.0 2.5.0
GELU 2.9.0 2.9.0
HARD_SWISH 1.15.0
L2_NORMALIZATION 1.5.0 1.14.0
LEAKY_RELU 1.13.1 2.3.0
LOCAL_RESPONSE_NORMALIZATION 1.5.0
LOGISTIC 1.14.0 1.14.0 2.3.0
MAXIMUM 1.14.0 1.14.0 2.3.0 2.3.0
MAX_POOL_2D 1.5.0 1.14.0 2.3.0
MEAN 1.6.0 1.14.0 2.4.0
MINIMUM 1.14.0 1.14.0 2.3.0 2.3.0
MUL 1.5.0 1.14.0 1.15.0 2.3.0 2.6.0
NEG 1.9.0
PACK 1.11.0 1.14.0 2.3.0
PAD 1.5.0 1.14.0 2.4.0 2.6.0
PADV2 1.9.0 1.14.0 2.4.0 2.6.0
PRELU 1.8.0
QUANTIZE 1.14.0 1.15.0 2.7.0
REDUCE_MAX 1.11.0 1.14.0 2.5.0
RELU 1.5.0 2.1.0 2.5.0
RELU6 1.5.0 1.14.0 2.5.0
RELU_N1_TO_1 1.5.0
RESHAPE 1.5.0
RESIZE_BILINEAR 1.7.0 1.14.0 2.2.0 2.5.0
RESIZE_NEAREST_NEIGHBOR 1.13.1 1.14.0 2.3.0 2.4.0
RSQRT 1.10.0 2.5.0
SLICE 1.14.0 1.14.0 1.14.0 2.4.0 2.5.0
SOFTMAX 1.5.0 1.14.0 2.3.0
SPACE_TO_DEPTH 1.5.0 1.14.0
SPLIT 1.5.0 1.14.0 1.14.0 2.3.0
SQRT 1.10.0
SQUARE 1.12.0
SQUARED_DIFFERENCE 1.13.1 2.5.0
SQUEEZE 1.6.0 2.5.0
STRIDED_SLICE 1.6.0 1.14.0 2.1.0 2.2.0 2.5.0 2.6.0
SUB 1.6.0 1.14.0 2.3.0 2.4.0 2.4.0
SUM 1.10.0 1.15.0
TANH 1.14.0 1.14.0 2.3.0
TILE 1.10.1 2.2.0
TRANSPOSE 1.6.0 1.14.0 1.15.0 2.3.0 2.4.0
TRANSPOSE_CONV 1.9.0 2.2.0 2.3.0
UNIDIRECTIONAL_SEQUENCE_LSTM 1.13.1 1.14.0 2.3.0
""".strip().splitlines()
    )
}
"""By operator the release that version 1 came with, version 2, and so on."""


def oldest_runtime(operators: Iterable[Operator]) -> str:
    """The release, `1.14.0` say, that has every operator in its version, as far as the table knows them."""
    wanted = [_OLDEST]
    for operator in operators:
        known = _FIRST.get(operator.kind, [])
        if operator.version <= len(known):
            wanted.append(known[operator.version - 1])
    return max(wanted, key=lambda release: tuple(map(int, release.split("."))))
