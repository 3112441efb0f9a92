"""Warnings on the mapped part of a model: too little memory, and operators at which a CPU is faster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cnnc.backends.edgetpu.latency import STREAMED_PER_MS, Latency, show_ms
from cnnc.backends.edgetpu.memory import ACTIVATION_CAPACITY, CACHE_CAPACITY, Parameters, layer_bytes
from cnnc.frozen import dataclass
from cnnc.tflite_file.program import Program


@dataclass(frozen=True)
class Caution:
    """Something that may go wrong. `index` is the operator's, -1 where it is none's."""

    message: str
    remedy: str = ""
    index: int = -1


def cautions(
    program: Program, mapped: Sequence[int], parameters: Parameters, activations: int, latency: Latency
) -> tuple[Caution, ...]:
    """The warnings of a model, those of the whole first."""
    return (
        *_of_program(program, parameters, activations, latency),
        *(each for i in mapped for each in _of_operator(program, i)),
    )


def _of_program(program: Program, parameters: Parameters, activations: int, latency: Latency) -> Iterator[Caution]:
    if parameters.streamed:
        yield Caution(
            f"{parameters.streamed / 1e6:.1f} MB of parameters do not fit on the chip and are sent with every "
            f"inference, about {show_ms(parameters.streamed / STREAMED_PER_MS)} ms",
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
            f"a CPU would likely be faster: about {show_ms(latency.cpu_ms)} ms on one core of a desktop of today",
            "sending those parameters costs more than this network's work"
            if parameters.streamed / STREAMED_PER_MS > latency.with_edge_tpu_ms / 2
            else "the way to the Edge TPU and back costs more than this network's work",
        )
    for tensor in program.activations():
        if tensor.signature is not None and -1 in tensor.signature[:1]:
            yield Caution(
                f"`{tensor.name}` has an open batch; the compiler takes it as {tensor.shape[0] if tensor.shape else 1}",
                "convert the model for a batch of 1",
            )
            return


def _of_operator(program: Program, index: int) -> Iterator[Caution]:
    operator = program.operators[index]
    size = layer_bytes(program, operator)[0]
    if size > CACHE_CAPACITY:
        yield Caution(
            f"{operator.kind} `{operator.outputs[0]}` alone has {size / 2**20:.1f} MiB of weights, more than the chip "
            "holds",
            "make it smaller",
            index,
        )
