"""Why the compiler leaves an operator on the CPU, one rule after the other: the first that holds says why.

A rule's predicate is true where the operator is NOT mapped; `reason` is in the words of the compiler's log. Limits that
Google does not publish are set between the largest thing that is known to map and the smallest that is known not to.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Final

from cnnc.backends.edgetpu import conditions, facts
from cnnc.backends.edgetpu.certainty import Certainty
from cnnc.backends.edgetpu.operator_view import Site
from cnnc.frozen import dataclass

CORAL: Final = "coral.ai/docs/edgetpu/models-intro, supported operations"


FIXED_SIZES: Final = "convert the model for a batch of 1 and inputs of a fixed size, so that shapes are constants"


@dataclass(frozen=True)
class Rule:
    """`kinds` are the operators that it concerns, all where there are none.

    It is `known` where the source says so of version 16 or of all, `likely` where it lies between what is known to map
    and what is known not to, or is of an earlier version.
    """

    kinds: tuple[str, ...]
    holds: Callable[[Site], bool]
    reason: str
    remedy: str
    source: str
    certainty: Certainty = "known"


def first_broken(site: Site) -> Rule | None:
    """The first rule that keeps an operator off the Edge TPU, None where none does."""
    for rule in RULES:
        if (not rule.kinds or site.kind in rule.kinds) and rule.holds(site):
            return rule
    return None


_CONVOLUTIONS: Final = ("CONV_2D", "DEPTHWISE_CONV_2D")
_WEIGHTED: Final = (*_CONVOLUTIONS, "FULLY_CONNECTED", "TRANSPOSE_CONV", "PRELU")
_POOLS: Final = ("AVERAGE_POOL_2D", "MAX_POOL_2D")
_RESIZES: Final = ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
_REDUCERS: Final = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")


RULES: Final = (
    Rule(
        ("CUSTOM",),
        lambda site: site.operator.custom != facts.COMPILED,
        facts.DATA_TYPE,
        "custom operators run on the CPU: keep them at the end of the graph",
        "pairs posenet_*; google-coral/edgetpu 322",
    ),
    Rule(
        ("DEQUANTIZE",),
        lambda site: True,
        facts.DATA_TYPE,
        "end the graph in int8 or uint8 and turn the few numbers that come out into floats yourself",
        "google-coral/edgetpu 322, 490",
    ),
    Rule(
        ("HARD_SWISH",),
        lambda site: True,
        facts.NOT_SUPPORTED,
        "compute it as x * relu6(x + 3) / 6 from ADD, RELU6 and MUL, or use relu6",
        "google-coral/edgetpu 272, 353",
        "likely",
    ),
    Rule(
        ("LEAKY_RELU", "ELU", "GELU"),
        lambda site: True,
        facts.NOT_SUPPORTED,
        "use relu or relu6, or for leaky_relu a PRELU with one slope a channel",
        "google-coral/edgetpu 272, 508, 597",
    ),
    Rule((), conditions.computes_sizes, facts.DATA_TYPE, FIXED_SIZES, "google-coral/edgetpu 829, tensorflow 51467"),
    Rule(
        facts.LEFT_ON_CPU,
        lambda site: True,
        facts.NOT_SUPPORTED,
        "build the layer from operators of Coral's table, or keep it at the end of the graph",
        "pairs deeplabv3_* and movenet; google-coral/edgetpu 659; logs of YOLOv9",
    ),
    Rule(
        (),
        lambda site: site.kind not in facts.MAPPED and site.operator.custom != facts.COMPILED,
        facts.NOT_SUPPORTED,
        "build the layer from operators of Coral's table, or keep it at the end of the graph",
        CORAL,
        "likely",
    ),
    Rule(
        tuple(facts.MAPPED),
        conditions.is_unregistered,
        facts.VERSION,
        "write the operator in a version that TensorFlow 2.5 has",
        "google-coral/edgetpu 631, 845, 879",
    ),
    Rule(
        ("QUANTIZE",),
        conditions.is_float_in_or_out,
        facts.LIMITATION,
        "give the model int8 or uint8 inputs (`--io uint8`), so that no float has to be quantised",
        "google-coral/edgetpu 13, 47, 84",
    ),
    Rule(
        tuple(facts.MAPPED),
        conditions.is_island,
        facts.DATA_TYPE,
        "TFLite has no int8 form of the layer: put another in its place, or let the CPU run it",
        CORAL,
    ),
    Rule(
        tuple(facts.MAPPED),
        conditions.has_other_types,
        facts.DATA_TYPE,
        "quantise the whole model to 8 bits: inputs, outputs and everything between",
        CORAL,
    ),
    Rule(
        tuple(facts.MAPPED - {"QUANTIZE"}),
        conditions.mixes_types,
        facts.DATA_TYPE,
        "use one type, int8 or uint8, for all activations, with QUANTIZE where it changes",
        CORAL,
    ),
    Rule(
        tuple(facts.MAPPED),
        conditions.has_high_rank,
        facts.RANK,
        "use a batch of 1 and no more than three sizes above 1",
        "google-coral/edgetpu 30, 75",
    ),
    Rule(
        _WEIGHTED,
        conditions.has_computed_weights,
        facts.NOT_CONSTANT,
        "store weights and bias in the file; a product of two activations has to run on the CPU",
        "google-coral/edgetpu 25",
    ),
    Rule(
        ("FULLY_CONNECTED", "SOFTMAX"),
        conditions.has_rows,
        facts.TWO_D,
        "give the layer one row, or write a dense layer over positions as a 1x1 convolution",
        "google-coral/edgetpu 27",
    ),
    Rule(
        ("FULLY_CONNECTED",),
        conditions.has_format,
        facts.LIMITATION,
        "store the weights in the default format",
        CORAL,
    ),
    Rule(
        (*_POOLS, "CONCATENATION"),
        conditions.fuses,
        facts.LIMITATION,
        "write the activation as an operator of its own",
        CORAL,
    ),
    Rule(
        ("CONCATENATION",),
        conditions.concatenates_constants,
        facts.LIMITATION,
        "concatenate a constant only as zeros, and with one other input",
        CORAL,
    ),
    Rule(
        ("CONCATENATION", "PACK"),
        conditions.is_along_batch,
        facts.LIMITATION,
        "join along rows, columns or channels, not along the batch",
        CORAL,
    ),
    Rule(("SPLIT",), conditions.splits_batch, facts.LIMITATION, "split along another axis than the batch", CORAL),
    Rule(
        _CONVOLUTIONS,
        conditions.has_unequal_dilation,
        facts.LIMITATION,
        "use the same dilation in both directions",
        CORAL,
    ),
    Rule(
        _CONVOLUTIONS,
        conditions.has_huge_kernel,
        facts.LIMITATION,
        "use a smaller kernel, or several convolutions; 16x16 is known to compile, 64x64 to fail",
        "LibrEdgeTPU, hardware analysis",
    ),
    Rule(
        _REDUCERS, conditions.reduces_batch, facts.LIMITATION, "reduce along constant axes other than the batch", CORAL
    ),
    Rule(
        _REDUCERS,
        conditions.reduces_odd_channels,
        facts.LIMITATION,
        "reduce along channels only where they are a multiple of 4",
        CORAL,
        "likely",
    ),
    Rule(
        _REDUCERS,
        conditions.reduces_much,
        facts.LIMITATION,
        "reduce in two steps, or pool first: 64x128 values are known to map, 256x128 not to",
        "google-coral/edgetpu 183, 461",
        "likely",
    ),
    Rule(("PAD",), conditions.pads_batch, facts.LIMITATION, "pad by constant amounts, and not along the batch", CORAL),
    Rule(
        ("PRELU",),
        conditions.has_tall_alpha,
        facts.LIMITATION,
        "give PRELU one slope a channel (in Keras shared_axes=[1, 2])",
        "google-coral/edgetpu 597, 601",
    ),
    Rule(
        _RESIZES,
        conditions.resizes_far,
        facts.LIMITATION,
        "enlarge in steps of 2; copy a 1x1 picture by TILE, as cnnc does",
        "pairs deeplabv3_*: 1x1 to 33x33 stays on the CPU; 2x maps",
        "likely",
    ),
    Rule(
        _RESIZES,
        conditions.resizes_to_much,
        facts.LIMITATION,
        "resize to 128 pixels at most and the rest of the way on the CPU, or use a smaller input",
        "google-coral/edgetpu 31, 187: 128x128 maps, 256x256 and 512x512 do not",
        "likely",
    ),
    Rule(
        ("SOFTMAX",),
        lambda site: prod(site.result) > 16_384,
        facts.LIMITATION,
        "end the graph before the softmax: it does not change which class is the largest",
        f"{CORAL}: 16,000 elements; pair bright_128x128: 16,384 map",
        "likely",
    ),
    Rule(
        ("STRIDED_SLICE",),
        conditions.steps,
        facts.LIMITATION,
        "slice with steps of 1 and constant bounds; where it halves a picture, pool or use a stride",
        CORAL,
    ),
    Rule(
        ("TRANSPOSE",),
        conditions.moves_batch,
        facts.LIMITATION,
        "keep the batch in its place",
        "google-coral/edgetpu 433",
        "likely",
    ),
    Rule(
        ("TRANSPOSE_CONV",),
        conditions.overflows,
        facts.LIMITATION,
        "use a smaller picture or fewer channels, or resize and convolve",
        "google-coral/edgetpu 684, 686: 32x32x1024 to 64x64x512 does not map",
        "likely",
    ),
)
