"""What may go otherwise than predicted: sizes beyond all that is known to map, memory, and what a CPU does faster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Final

from cnnc.backends.edgetpu import facts
from cnnc.backends.edgetpu.estimate import STREAMED_PER_MS, Latency
from cnnc.backends.edgetpu.memory import ACTIVATION_CAPACITY, CACHE_CAPACITY, Parameters, layer_bytes
from cnnc.backends.edgetpu.site import Site
from cnnc.record import dataclass
from cnnc.tflite.program import Program

LARGEST: Final = {
    "ADD": 1_198_152,
    "AVERAGE_POOL_2D": 1_395_200,
    "CONCATENATION": 557_568,
    "CONV_2D": 16_660_872,
    "DEPTHWISE_CONV_2D": 13_896_096,
    "FULLY_CONNECTED": 16_385,
    "LOGISTIC": 78_336,
    "MUL": 221_184,
    "PAD": 5_547_615,
    "QUANTIZE": 5_541_606,
    "RESHAPE": 32_768,
    "RESIZE_BILINEAR": 69_120,
    "SOFTMAX": 32_768,
    "SUB": 221_184,
}
"""Bytes in and out of the largest operator of each kind that a decoded model has on the Edge TPU."""
_BEYOND: Final = 4
"""A warning comes at as many times the largest: decoded models are few."""


@dataclass(frozen=True)
class Caution:
    """Something that may go wrong. `index` is the operator's, -1 where it is none's."""

    message: str
    remedy: str = ""
    index: int = -1


def cautions(
    program: Program, mapped: Sequence[int], held: Parameters, activations: int, latency: Latency
) -> tuple[Caution, ...]:
    """The warnings of a model, those of the whole first."""
    return (*_whole(program, held, activations, latency), *(each for i in mapped for each in _one(program, i)))


def _whole(program: Program, held: Parameters, activations: int, latency: Latency) -> Iterator[Caution]:
    if held.streamed:
        yield Caution(
            f"{held.streamed / 1e6:.1f} MB of parameters do not fit on the chip and are sent with every inference, "
            f"about {held.streamed / 0.508e6:.0f} ms",
            f"keep parameters under {CACHE_CAPACITY / 2**20:g} MiB: fewer channels, no large dense layers",
        )
    if activations > ACTIVATION_CAPACITY:
        yield Caution(
            f"activations take {activations / 2**20:.1f} MiB at once, and the chip has "
            f"{ACTIVATION_CAPACITY / 2**20:g}: the compiler divides them, or fails with `large activation tensors`",
            "if it fails, use a smaller input",
        )
    if latency.is_cpu_faster:
        yield Caution(
            f"a CPU would likely be faster: about {latency.cpu_ms:.2g} ms on one core of a desktop, "
            f"{latency.ms:.2g} ms here",
            "sending those parameters costs more than this network's work"
            if held.streamed / STREAMED_PER_MS > latency.ms / 2
            else "the way to the Edge TPU and back costs more than this network's work",
        )
    for tensor in program.activations():
        if tensor.signature is not None and -1 in tensor.signature[:1]:
            yield Caution(
                f"`{tensor.name}` has an open batch; the compiler takes it as {tensor.shape[0] if tensor.shape else 1}",
                "convert the model for a batch of 1",
            )
            return


def _one(program: Program, index: int) -> Iterator[Caution]:
    operator = program.operators[index]
    site = Site(program, operator)
    sure, probable = facts.REGISTERED.get(operator.kind, (0, 0))
    if sure < operator.version <= probable:
        yield Caution(
            f"{operator.kind} version {operator.version} is of TensorFlow 2.6, which the compiler may not know",
            f"write version {sure} at most",
            index,
        )
    size = sum(tensor.nbytes for tensor in site.activations)
    known = LARGEST.get(operator.kind)
    if known is not None and size > _BEYOND * known:
        yield Caution(
            f"{operator.kind} works on {size / 1e6:.1f} MB, and the largest known to be mapped on {known / 1e6:.2g} MB",
            "if it is not mapped, use a smaller input",
            index,
        )
    if operator.kind == "MEAN" and prod(site.first[1:3]) > 64 * 128:
        yield Caution("a MEAN over as many values is not known to be mapped", "use AVERAGE_POOL_2D", index)
    weights = site.input(1)
    if operator.kind == "CONV_2D" and weights is not None and max(weights.shape[1:3], default=0) > 16:
        yield Caution("a kernel above 16x16 is not known to be mapped", "use a smaller one", index)
    if operator.kind in ("ADD", "MUL", "SUB") and _broadcasts(site):
        shapes = " and ".join(str(list(each.shape)) for each in site.inputs)
        yield Caution(
            f"{operator.kind} of {shapes}, as in squeeze-and-excite, is not known to be mapped",
            "leave squeeze-and-excite out",
            index,
        )
    if layer_bytes(program, operator)[0] > CACHE_CAPACITY:
        yield Caution(f"{operator.kind} alone is larger than the parameter cache", "make it smaller", index)


def _broadcasts(site: Site) -> bool:
    """Whether two computed inputs have unlike shapes; constants that are broadcast are known to map."""
    return len(site.inputs) == 2 and site.inputs[0].shape != site.inputs[1].shape
