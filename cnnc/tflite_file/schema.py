"""The tables of the TFLite format and of its metadata: every field in the order of its slot, and the enumerations.

A field reads `name:type`; an indented line goes on with the table above. `[T]` is a vector, a capital a table, `?` a
table whose type the field before it names by its place in a union, `_` a slot that is not read. What later versions add
behind a table's last field is not read either.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs, version 3; metadata_schema.fbs 1.4 of tflite-support.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Field(NamedTuple):
    """A field of a table: `kind` is a scalar's format, `string`, or a table's name."""

    name: str
    kind: str
    vector: bool = False
    union: bool = False


def _tables(text: str) -> dict[str, tuple[Field, ...]]:
    found = {}
    for line in text.strip().replace("\n ", " ").splitlines():
        name, *fields = line.split()
        found[name] = tuple(_field(field) for field in fields)
    return found


def _field(text: str) -> Field:
    name, _, kind = text.partition(":")
    return Field(name, kind.strip("[]?"), kind.startswith("["), kind.endswith("?"))


SCALARS: Final = {
    "bool": "?",
    "i8": "<i1",
    "u8": "<u1",
    "u16": "<u2",
    "i32": "<i4",
    "u32": "<u4",
    "i64": "<i8",
    "u64": "<u8",
    "f32": "<f4",
}
"""NumPy's names of the scalar types."""

TABLES: Final = _tables("""
Model version:u32 codes:[OperatorCode] subgraphs:[SubGraph] description:string buffers:[Buffer] _:[i32]
    metadata:[Metadata] signatures:[SignatureDef]
OperatorCode deprecated_code:i8 custom_code:string version:i32 code:i32
SubGraph tensors:[Tensor] inputs:[i32] outputs:[i32] operators:[Operator] name:string
Tensor shape:[i32] type:i8 buffer:u32 name:string quantization:Quantization is_variable:bool sparsity:Sparsity
    signature:[i32]
Quantization min:[f32] max:[f32] scale:[f32] zero_point:[i64] _:u8 _:i32 axis:i32
Sparsity traversal_order:[i32] block_map:[i32] dimensions:[Dimension]
Dimension format:i8 size:i32 segments_type:u8 segments:SparseIndices? indices_type:u8 indices:SparseIndices?
Int32Vector values:[i32]
Uint16Vector values:[u16]
Uint8Vector values:[u8]
Operator code_index:u32 inputs:[i32] outputs:[i32] options_type:u8 options:Options? custom_options:[u8]
Buffer data:[u8] offset:u64 size:u64
Metadata name:string buffer:u32
SignatureDef inputs:[TensorMap] outputs:[TensorMap] key:string _:string subgraph:u32
TensorMap name:string tensor:u32
Conv2DOptions padding:i8 stride_w:i32 stride_h:i32 activation:i8 dilation_w:i32 dilation_h:i32
DepthwiseConv2DOptions padding:i8 stride_w:i32 stride_h:i32 multiplier:i32 activation:i8 dilation_w:i32 dilation_h:i32
Pool2DOptions padding:i8 stride_w:i32 stride_h:i32 filter_w:i32 filter_h:i32 activation:i8
FullyConnectedOptions activation:i8 weights_format:i8 keep_num_dims:bool
SoftmaxOptions beta:f32
ConcatenationOptions axis:i32 activation:i8
AddOptions activation:i8
SubOptions activation:i8
MulOptions activation:i8
DivOptions activation:i8
LocalResponseNormalizationOptions radius:i32 bias:f32 alpha:f32 beta:f32
ResizeBilinearOptions _:i32 _:i32 align_corners:bool half_pixel_centers:bool
ResizeNearestNeighborOptions align_corners:bool half_pixel_centers:bool
ReshapeOptions new_shape:[i32]
SpaceToDepthOptions block:i32
PadOptions
PadV2Options
GatherOptions axis:i32
TransposeOptions
ReducerOptions keep_dims:bool
SqueezeOptions squeeze_dims:[i32]
StridedSliceOptions begin_mask:i32 end_mask:i32 ellipsis_mask:i32 new_axis_mask:i32 shrink_axis_mask:i32
ExpOptions
SplitOptions splits:i32
CastOptions
DequantizeOptions
MaximumMinimumOptions
NegOptions
SliceOptions
TransposeConvOptions padding:i8 stride_w:i32 stride_h:i32 activation:i8
ExpandDimsOptions
PackOptions values:i32 axis:i32
SquareOptions
LeakyReluOptions alpha:f32
SquaredDifferenceOptions
AbsOptions
QuantizeOptions
HardSwishOptions
BatchMatMulOptions adjoint_x:bool adjoint_y:bool
Conv3DOptions padding:i8 stride_d:i32 stride_w:i32 stride_h:i32 activation:i8 dilation_d:i32 dilation_w:i32
    dilation_h:i32
ModelMetadata name:string description:string version:string subgraphs:[SubGraphMetadata] author:string
    license:string files:[AssociatedFile] min_parser_version:string
SubGraphMetadata name:string description:string inputs:[TensorMetadata] outputs:[TensorMetadata]
    files:[AssociatedFile]
TensorMetadata name:string description:string _:[string] content:Content process_units:[ProcessUnit] stats:Stats
    files:[AssociatedFile]
AssociatedFile name:string description:string type:i8 locale:string
Content properties_type:u8 properties:ContentProperties?
FeatureProperties
ImageProperties color_space:i8
ProcessUnit options_type:u8 options:ProcessUnitOptions?
NormalizationOptions mean:[f32] std:[f32]
Stats max:[f32] min:[f32]
""")

UNIONS: Final = {
    "Options": {
        1: "Conv2DOptions",
        2: "DepthwiseConv2DOptions",
        5: "Pool2DOptions",
        8: "FullyConnectedOptions",
        9: "SoftmaxOptions",
        10: "ConcatenationOptions",
        11: "AddOptions",
        13: "LocalResponseNormalizationOptions",
        15: "ResizeBilinearOptions",
        17: "ReshapeOptions",
        19: "SpaceToDepthOptions",
        21: "MulOptions",
        22: "PadOptions",
        23: "GatherOptions",
        26: "TransposeOptions",
        27: "ReducerOptions",
        28: "SubOptions",
        29: "DivOptions",
        30: "SqueezeOptions",
        32: "StridedSliceOptions",
        33: "ExpOptions",
        35: "SplitOptions",
        37: "CastOptions",
        38: "DequantizeOptions",
        39: "MaximumMinimumOptions",
        42: "NegOptions",
        43: "PadV2Options",
        48: "SliceOptions",
        49: "TransposeConvOptions",
        52: "ExpandDimsOptions",
        59: "PackOptions",
        66: "SquareOptions",
        74: "ResizeNearestNeighborOptions",
        75: "LeakyReluOptions",
        76: "SquaredDifferenceOptions",
        78: "AbsOptions",
        89: "QuantizeOptions",
        91: "HardSwishOptions",
        101: "BatchMatMulOptions",
        106: "Conv3DOptions",
    },
    "SparseIndices": {1: "Int32Vector", 2: "Uint16Vector", 3: "Uint8Vector"},
    "ContentProperties": {1: "FeatureProperties", 2: "ImageProperties"},
    "ProcessUnitOptions": {1: "NormalizationOptions"},
}
"""The tables that a union's type numbers stand for; the options of other numbers are not read."""

DEFAULTS: Final = {
    ("Conv2DOptions", "dilation_w"): 1,
    ("Conv2DOptions", "dilation_h"): 1,
    ("DepthwiseConv2DOptions", "dilation_w"): 1,
    ("DepthwiseConv2DOptions", "dilation_h"): 1,
    ("Conv3DOptions", "dilation_d"): 1,
    ("Conv3DOptions", "dilation_w"): 1,
    ("Conv3DOptions", "dilation_h"): 1,
    ("OperatorCode", "version"): 1,
}
"""Scalars whose absence means something else than 0."""

TENSOR_TYPES: Final = """
FLOAT32 FLOAT16 INT32 UINT8 INT64 STRING BOOL INT16 COMPLEX64 INT8 FLOAT64 COMPLEX128 UINT64 RESOURCE VARIANT UINT32
UINT16 INT4 BFLOAT16 INT2 UINT4 FLOAT8_E4M3FN FLOAT8_E5M2
""".split()  # noqa: SIM905  # a list of so many names is a page long
PADDINGS: Final = ("SAME", "VALID")
ACTIVATIONS: Final = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")
ENUMS: Final = {"padding": PADDINGS, "activation": ACTIVATIONS}
"""Fields of operators' options that name one of a list."""

OPERATORS: Final = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM
MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS
SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND
SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN
EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2
GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG
SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT
UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU
SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE
MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5
SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO
RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE
RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX
UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD
STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE
STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS
STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE
STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH
STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE
STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE
STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE
STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
""".split()  # noqa: SIM905  # likewise
"""Builtin operators by their code."""

OPTIONS_OF: Final = {
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "CONV_3D": "Conv3DOptions",
    "CONV_3D_TRANSPOSE": "Conv3DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DIV": "DivOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GATHER": "GatherOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "LOCAL_RESPONSE_NORMALIZATION": "LocalResponseNormalizationOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MUL": "MulOptions",
    "RESHAPE": "ReshapeOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "SPLIT": "SplitOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "SUM": "ReducerOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
}
"""The table of options of each operator that we write and that has any."""
