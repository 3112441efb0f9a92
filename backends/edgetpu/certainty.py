"""How sure it is that the compiler maps an operator that no rule keeps on the CPU.

`known`: a compiled model that was decoded, or a log of the compiler's, has one like it on the Edge TPU, as large or
larger. `likely`: Coral's table lists it, and nobody has shown one like it. `unknown`: nobody has shown one, and there
is a reason to doubt it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Final, Literal

from cnnc.backends.edgetpu import facts
from cnnc.backends.edgetpu.memory import ACTIVATION_CAPACITY
from cnnc.backends.edgetpu.operator_view import Site
from cnnc.frozen import dataclass

Certainty = Literal["known", "likely", "unknown"]
GRADES: Final[tuple[Certainty, ...]] = ("known", "likely", "unknown")
"""From the surest."""

LARGEST: Final = {
    "ADD": 1_198_152,
    "AVERAGE_POOL_2D": 1_395_200,
    "CONCATENATION": 557_568,
    "CONV_2D": 16_660_872,
    "DEPTHWISE_CONV_2D": 13_896_096,
    "FULLY_CONNECTED": 16_385,
    "LOGISTIC": 802_816,
    "MEAN": 7_168,
    "MUL": 1_204_224,
    "PAD": 5_547_615,
    "QUANTIZE": 5_541_606,
    "RESHAPE": 32_768,
    "RESIZE_BILINEAR": 69_120,
    "SOFTMAX": 32_768,
    "SUB": 221_184,
    "TILE": 139_520,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 1_384,
}
"""Bytes in and out of the largest operator of each kind that a decoded model has on the Edge TPU. LOGISTIC and MUL are
those of the first swish of YOLOv5s at 224 pixels, 112x112x32, which a log of version 16 has as mapped whole."""
LOGGED: Final = ("MAXIMUM", "MAX_POOL_2D", "MINIMUM", "PRELU", "RESIZE_NEAREST_NEIGHBOR", "SPLIT", "STRIDED_SLICE")
"""Operators that logs of version 16 have as mapped without saying how large: YOLO, EfficientDet-Lite, and
google-coral/edgetpu 597 and 601. They count as known as far as their values fit into the chip's memory at once."""
_BEYOND: Final = 4
"""From so many times the largest on, nothing is said for an operator: decoded models are few."""


@dataclass(frozen=True)
class Doubt:
    """Why it is not known that an operator is mapped. `remedy` says what is sure to be."""

    certainty: Certainty
    reason: str
    remedy: str = ""


def doubt(site: Site) -> Doubt | None:
    """The gravest doubt whether an operator that no rule keeps off is mapped; None where it is known to be."""
    return max(_doubts(site), key=lambda each: GRADES.index(each.certainty), default=None)


def _doubts(site: Site) -> Iterator[Doubt]:
    kind, version = site.kind, site.operator.version
    if site.operator.custom == facts.COMPILED:
        return
    sure, probable = facts.REGISTERED.get(kind, (0, 0))
    if sure < version <= probable:
        reason = f"{kind} version {version} is of TensorFlow 2.6, which the compiler may not know"
        yield Doubt("likely", reason, f"write version {sure} at most")
    yield from _size_doubts(site)
    if kind == "MEAN" and prod(site.first[1:3]) > 64 * 128:
        yield Doubt("unknown", "no MEAN over as many values has been shown to be mapped", "use AVERAGE_POOL_2D")
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        yield from _convolution_doubts(site)
    if kind in ("ADD", "MUL", "SUB", "FULLY_CONNECTED") and site.option("activation", "NONE") != "NONE":
        yield Doubt("likely", f"no {kind} with a fused activation has been shown to be mapped")
    if kind in ("ADD", "MUL", "SUB") and _broadcasts(site):
        shapes = " and ".join(str(list(each.shape)) for each in site.inputs)
        reason = f"no {kind} of {shapes}, as in squeeze-and-excite, has been shown to be mapped"
        yield Doubt("unknown", reason, "leave squeeze-and-excite out")


def _size_doubts(site: Site) -> Iterator[Doubt]:
    kind, size = site.kind, sum(tensor.nbytes for tensor in site.activations)
    if kind not in LARGEST and kind not in LOGGED:
        yield Doubt("likely", f"{kind} is in Coral's table, and none has been shown to be mapped")
        return
    largest = LARGEST.get(kind, ACTIVATION_CAPACITY)
    if size > largest:
        grade: Certainty = "unknown" if size > _BEYOND * largest else "likely"
        reason = f"the largest {kind} that is known to be mapped has {_amount(largest)} in and out, this one "
        yield Doubt(grade, f"{reason}{_amount(size)}", "if it is not mapped, use a smaller input")


def _convolution_doubts(site: Site) -> Iterator[Doubt]:
    kind, weights = site.kind, site.input(1)
    if weights is not None and max(weights.shape[1:3], default=0) > 16:
        yield Doubt("unknown", f"no {kind} of a kernel above 16x16 has been shown to be mapped", "use a smaller one")
    if site.input(2) is None:
        yield Doubt("likely", f"no {kind} without a bias has been shown to be mapped", "give it one of zeros")
    dilation = max(site.option("dilation_h", 1), site.option("dilation_w", 1))
    if dilation > (1 if kind == "CONV_2D" else 2):
        yield Doubt("likely", f"no {kind} with a dilation of {dilation} has been shown to be mapped")


def _broadcasts(site: Site) -> bool:
    """Whether two computed inputs have unlike shapes; constants that are broadcast are known to map."""
    return len(site.inputs) == 2 and site.inputs[0].shape != site.inputs[1].shape


def _amount(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
