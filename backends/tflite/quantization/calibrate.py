"""The ranges of activations: the float program runs on LiteRT over real samples, and every tensor is measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from cnnc.backends.tflite.litert.execute import execute
from cnnc.backends.tflite.quantization.saturation import read_as
from cnnc.backends.tflite.quantization.scale_groups import MOVES
from cnnc.backends.tflite.quantization.statistics import Gatherer, Statistics
from cnnc.diagnostics import CnnError
from cnnc.tflite_file.program import ABSENT, Array, Program, Sample

_MEETS_WEIGHTS: Final = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True, eq=False)
class Calibration:
    """The result of calibration: statistics by tensor, and the values of the `watched` tensors for every sample."""

    statistics: Mapping[str, Statistics]
    watched: tuple[Mapping[str, Array], ...]

    def means(self) -> dict[str, Array]:
        """The mean of every channel of the tensors that weights meet."""
        return {name: tensor.mean for name, tensor in self.statistics.items() if len(tensor.mean)}

    def peaks(self) -> dict[str, Array]:
        """The largest size of a value in every channel of these."""
        return {name: tensor.peak for name, tensor in self.statistics.items() if len(tensor.peak)}


def calibrate(
    program: Program, samples: Sequence[Sample], watch: Sequence[str] = (), also: Collection[str] = ()
) -> Calibration:
    """Run a float program over samples.

    Args:
        program: the float program.
        samples: what to run it on.
        watch: tensors whose values are kept for every sample.
        also: tensors to measure although an operator only moves values into them, which have their source's range.

    Raises:
        CnnError: `calibration`, when there are no samples, or a weight is not finite, or a tensor on a sample.
    """
    if not samples:
        raise CnnError.of("calibration", "there is nothing to measure ranges on: 0 samples")
    _require_finite_weights(program)
    convolved = {op.inputs[0] for op in program if op.kind in _MEETS_WEIGHTS}
    names = _measured(program, {*convolved, *watch, *also})
    gatherers = {name: Gatherer() for name in (*names, *_float_inputs(program))}
    watched: list[dict[str, Array]] = []
    with execute(replace(program, outputs=names, output_names=names)) as run:
        for number, sample in enumerate(samples, start=1):
            values = {**{name: sample[name] for name in _float_inputs(program)}, **run(sample)}
            for name, gatherer in gatherers.items():
                gatherer.add(values[name], channels=name in convolved or name in sample)
                _require_finite(name, gatherer, number)
            watched.append({name: np.array(values[name]) for name in watch})
            del values
    statistics = {name: gatherer.statistics() for name, gatherer in gatherers.items()}
    return Calibration(
        {name: replace(tensor, read=read_as(program, name, tensor.centres)) for name, tensor in statistics.items()},
        tuple(watched),
    )


def _measured(program: Program, moved: Collection[str]) -> tuple[str, ...]:
    """The float activations but the inputs; of those that an operator only moves values into, the ones in `moved`."""
    targets = {name for op in program if op.kind in MOVES for name in op.outputs}
    return tuple(
        tensor.name
        for tensor in program.activations()
        if tensor.type == "FLOAT32"
        and tensor.name not in program.inputs
        and (tensor.name not in targets or tensor.name in moved)
    )


def _require_finite(name: str, gatherer: Gatherer, sample: int) -> None:
    if not (np.isfinite(gatherer.low) and np.isfinite(gatherer.high)):
        raise CnnError.of(
            "calibration",
            f"`{name}` is not finite on calibration sample {sample}",
            help="the weights are broken, or the sample is no number everywhere",
        )


def _require_finite_weights(program: Program) -> None:
    """Raises CnnError for an infinite weight or bias, which an activation may hide: relu makes minus infinity zero."""
    for op in program:
        for name in op.inputs:
            data = None if name == ABSENT else program[name].data
            if data is not None and not np.isfinite(data).all():
                raise CnnError.of(
                    "calibration", f"weights of `{op.origin}` are not finite: `{name}`", help="the weights are broken"
                )


def _float_inputs(program: Program) -> list[str]:
    return [name for name in program.inputs if program[name].type == "FLOAT32"]
