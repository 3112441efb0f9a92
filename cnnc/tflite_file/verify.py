"""Whether the graph in a TFLite file is one: what LiteRT's kernels take for granted of operators, tensors and numbers.

LiteRT checks much of it by itself, and follows the rest to wherever it leads. A file that passes may still be refused,
or crash it (`cnnc.backends.tflite.litert.process`); one that does not is no file that a converter writes.

Source: the `Prepare` of each kernel in tensorflow/lite/kernels, and schema.fbs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import numpy as np

from cnnc.tflite_file.program import ABSENT, DTYPES, Operator, Program, Tensor
from cnnc.tflite_file.schema import OPTIONS_OF, TABLES

_LARGEST: Final = 2**40
"""Bytes of all tensors together; with more it is damage, and arithmetic on it would mislead."""

_TYPES: Final = {
    "": (),
    "i": ("INT32",),
    "I": ("INT32", "INT64"),
    "b": ("BOOL",),
    "w": ("FLOAT32", "FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT16", "INT4", "INT2", "UINT4"),
}
"""The types that letters stand for; none for any type."""


@dataclass(frozen=True)
class _Operand:
    """An input or output: types and ranks that it may have, none for any; `many` is one or more of the kind."""

    name: str
    types: tuple[str, ...]
    rank: int | None
    optional: bool
    many: bool


@dataclass(frozen=True)
class _Signature:
    inputs: tuple[_Operand, ...]
    outputs: tuple[_Operand, ...]


_OPERAND: Final = re.compile(r"(?P<name>[a-z]+)(:(?P<type>[iIbw]?)(?P<rank>\d?))?(?P<count>[?+*]?)")


def _signatures(text: str) -> dict[str, _Signature]:
    found = {}
    for line in text.strip().replace("\n ", " ").splitlines():
        form, _, names = line.partition("|")
        left, _, right = form.partition("->")
        signature = _Signature(*(tuple(map(_operand, side.split())) for side in (left, right)))
        found.update(dict.fromkeys(names.split(), signature))
    return found


def _operand(text: str) -> _Operand:
    found = _OPERAND.fullmatch(text)
    assert found is not None, text
    rank = int(found["rank"]) if found["rank"] else None
    return _Operand(
        found["name"], _TYPES[found["type"] or ""], rank, found["count"] in ("?", "*"), found["count"] in ("+", "*")
    )


SIGNATURES: Final = _signatures("""
-> | CALL_ONCE
-> y | HASHTABLE VAR_HANDLE
x -> y | ABS BITCAST BUCKETIZE CAST CEIL COMPLEX_ABS COS DENSIFY DEQUANTIZE ELU EXP FAKE_QUANT FLOOR GELU HARD_SWISH
    HASHTABLE_SIZE IMAG L2_NORMALIZATION LEAKY_RELU LOG LOGICAL_NOT LOGISTIC LOG_SOFTMAX MATRIX_DIAG NEG QUANTIZE RANK
    READ_VARIABLE REAL RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 ROUND RSQRT SHAPE SIGN SIN SKIP_GRAM SOFTMAX SQRT SQUARE
    SQUEEZE TANH WHERE ZEROS_LIKE
x:4 -> y:4 | AVERAGE_POOL_2D DEPTH_TO_SPACE L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION MAX_POOL_2D SPACE_TO_DEPTH
x y -> z | ADD ATAN2 BATCH_MATMUL BITWISE_XOR BROADCAST_ARGS DIV EQUAL FLOOR_DIV FLOOR_MOD GREATER GREATER_EQUAL LESS
    LESS_EQUAL LOGICAL_AND LOGICAL_OR MATRIX_SET_DIAG MAXIMUM MINIMUM MUL NOT_EQUAL POW RIGHT_SHIFT SQUARED_DIFFERENCE
    SUB
x+ -> y | ADD_N CONCATENATION PACK
x -> y+ | UNPACK
x -> y indices | UNIQUE
x axis:I -> y | ARG_MAX ARG_MIN CUMSUM EXPAND_DIMS
x axes:i -> y | MEAN REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD SUM REVERSE_V2
x pads:I -> y | MIRROR_PAD PAD
x pads:I value -> y | PADV2
x shape:I -> y | BROADCAST_TO
x shape:I? -> y | RESHAPE
x size:i -> y:4 | RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
x permutation:i -> y | TRANSPOSE
x multiples:I -> y | TILE
x begin:I size:I -> y | SLICE
x begin:I end:I strides:I -> y | STRIDED_SLICE
x update start:I -> y | DYNAMIC_UPDATE_SLICE
x block:i edges:i -> y | BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND
x indices:I -> y | GATHER GATHER_ND
x lengths:I -> y | REVERSE_SEQUENCE
x length:i -> y | RFFT2D
x k -> y indices | TOPK_V2
axis:i x -> y+ | SPLIT
x sizes axis:i -> y+ | SPLIT_V
x:4 kernel:w4 bias? -> y:4 | CONV_2D DEPTHWISE_CONV_2D
shape:i kernel:w4 x:4 bias? -> y:4 | TRANSPOSE_CONV
x:5 kernel:w5 bias? -> y:5 | CONV_3D
shape:i kernel:w5 x:5 bias? -> y:5 | CONV_3D_TRANSPOSE
x kernel:w2 bias? -> y shuffled? | FULLY_CONNECTED
x slope -> y | PRELU
ids:i table -> y | EMBEDDING_LOOKUP
ids:i indices:i shape:i weights table -> y | EMBEDDING_LOOKUP_SPARSE
shape value -> y | FILL
shape:i -> y | RANDOM_STANDARD_NORMAL RANDOM_UNIFORM
x samples:i -> y | MULTINOMIAL
start limit delta -> y | RANGE
indices depth:i on off -> y | ONE_HOT
indices updates shape:I -> y | SCATTER_ND
x segments:i -> y | SEGMENT_SUM
x segments:I count:I -> y | UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM
condition:b x y -> z | SELECT SELECT_V2
indices shape value default -> y | SPARSE_TO_DENSE
boxes scores most:i overlap least -> indices count | NON_MAX_SUPPRESSION_V4
boxes scores most:i overlap least sigma -> indices scores count | NON_MAX_SUPPRESSION_V5
table keys values -> y hits | HASHTABLE_LOOKUP
table keys default -> y | HASHTABLE_FIND
table keys values -> | HASHTABLE_IMPORT
variable value -> | ASSIGN_VARIABLE
hash x weight? -> y | LSH_PROJECTION
condition x* -> y* | IF
x* -> y* | WHILE
x features time bias? state -> y | SVDF
x weights recurrent bias state -> y | RNN UNIDIRECTIONAL_SEQUENCE_RNN
x before weights bias cell more* -> y+ | LSTM
x i? f c o ri? rf rc ro pi? pf? po? bi? bf bc bo projection? pb? state cell ni? nf? nc? no? -> y |
    UNIDIRECTIONAL_SEQUENCE_LSTM
x weights recurrent more* -> y+ | BIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN
""")
"""Signatures of operators by name: `x:w4` is of the types that `w` stands for and has 4 axes, `?` may be
absent, `+` is one or more, `*` any number."""

_POSITIVE: Final = (
    "stride_d",
    "stride_h",
    "stride_w",
    "dilation_d",
    "dilation_h",
    "dilation_w",
    "filter_h",
    "filter_w",
    "block",
)
"""Options that kernels divide by, or step with."""


def faults(program: Program) -> Iterator[str]:
    """The faults of a graph, a clause each."""
    if sum(tensor.nbytes for tensor in program.tensors.values()) > _LARGEST:
        yield "its tensors take more than 1 TiB together"
    for tensor in program.tensors.values():
        yield from _quantization_faults(tensor)
    yield from _order_faults(program)
    for index, operator in enumerate(program):
        place = f"operator {index}, {operator.name},"
        signature = SIGNATURES.get(operator.kind)
        if signature is not None:
            for side, operands, names in (
                ("input", signature.inputs, operator.inputs),
                ("output", signature.outputs, operator.outputs),
            ):
                yield from (f"{place} {fault}" for fault in _operand_faults(program, side, operands, names))
        yield from (f"{place} {fault}" for fault in _option_faults(operator))


def _quantization_faults(tensor: Tensor) -> Iterator[str]:
    """A scale of 0 is none: some converters give it to layers whose value never changes."""
    found = tensor.quantization
    if found is None:
        return
    for scale in found.scale:
        if not isfinite(scale) or scale < 0:
            yield f"tensor `{tensor.name}` has a scale of {scale:g}"
            break
    if np.dtype(DTYPES.get(tensor.type, np.float32)).kind in "iu":
        limits = np.iinfo(DTYPES[tensor.type])
        for zero in found.zero_point:
            if not limits.min <= zero <= limits.max:
                yield f"tensor `{tensor.name}` of {tensor.type.lower()} has the zero point {zero}"
                break


def _order_faults(program: Program) -> Iterator[str]:
    """Every tensor is written once, and before it is read."""
    written = {name for name, each in program.tensors.items() if each.data is not None or each.is_variable}
    written |= {name for name, each in program.tensors.items() if each.shape_known and each.size == 0}
    written |= {ABSENT, *program.inputs}
    for i, operator in enumerate(program):
        for name in operator.inputs:
            if name not in written:
                when = "before it is computed" if name in program.producers else "which nothing computes"
                yield f"operator {i}, {operator.name}, reads `{name}`{' ' if when[0] == 'b' else ', '}{when}"
        for name in operator.outputs:
            if name in written and name != ABSENT and program[name].size and not program[name].is_variable:
                yield f"operator {i}, {operator.name}, writes `{name}`, which something else does too"
        written.update(operator.outputs)
    for name in program.outputs:
        if name not in written:
            yield f"nothing computes its output `{name}`"


def _operand_faults(program: Program, side: str, operands: Sequence[_Operand], names: Sequence[str]) -> Iterator[str]:
    most = None if any(each.many for each in operands) else len(operands)
    if most is not None and len(names) > most:
        yield f"has {len(names)} {side}s, {len(names) - most} too many"
    for i, operand in enumerate(operands):
        given = names[i:] if operand.many else names[i : i + 1]
        present = [name for name in given if name != ABSENT]
        if (not present or len(present) < len(given)) and not operand.optional:
            yield f"lacks its {side} {i}, `{operand.name}`"
        for name in present:
            yield from _tensor_faults(program[name], operand)


def _tensor_faults(tensor: Tensor, operand: _Operand) -> Iterator[str]:
    if operand.types and tensor.type not in operand.types:
        wanted = " or ".join(operand.types).lower() if len(operand.types) < 3 else "weights"
        yield f"has `{tensor.name}` of {tensor.type.lower()} for its `{operand.name}`, which takes {wanted}"
    if operand.rank is not None and tensor.shape_known and len(tensor.shape) != operand.rank:
        yield f"has `{tensor.name}` of {list(tensor.shape)} for its `{operand.name}`, which takes {operand.rank} axes"


def _option_faults(operator: Operator) -> Iterator[str]:
    options: Mapping[str, Any] = operator.options
    for field in TABLES[OPTIONS_OF[operator.kind]] if operator.kind in OPTIONS_OF else ():
        if field.name in _POSITIVE and options.get(field.name, 0) < 1:
            yield f"has a {field.name} of {options.get(field.name, 0)}"
    counts = {"SPLIT": ("splits", len(operator.outputs)), "PACK": ("values", len(operator.inputs))}
    key, count = counts.get(operator.kind, ("", 0))
    if key and options.get(key, count) != count:
        yield f"says that it has {options[key]} {key}, and has {count}"
