"""Programs run on LiteRT as they are, for calibration and comparison: arrays in the tensors' own types in and out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from cnnc.backends.tflite.litert.runner import load_interpreter
from cnnc.tflite_file.program import Array, File, Program
from cnnc.tflite_file.write import write_file

Run = Callable[[Mapping[str, Array]], dict[str, Array]]


@contextmanager
def execute(program: Program, threads: int | None = None) -> Iterator[Run]:
    """A function from the values of a program's inputs to those of its outputs, by tensor.

    The arrays that it gives share the interpreter's memory and are overwritten by the next call.
    """
    interpreter = load_interpreter(write_file(File((program,))), program.name, threads=threads or os.cpu_count())
    inputs = {
        name: detail["index"] for name, detail in zip(program.inputs, interpreter.get_input_details(), strict=True)
    }
    outputs = {
        name: detail["index"] for name, detail in zip(program.outputs, interpreter.get_output_details(), strict=True)
    }

    def run(values: Mapping[str, Array]) -> dict[str, Array]:
        for name, index in inputs.items():
            interpreter.set_tensor(index, np.ascontiguousarray(values[name]))
        interpreter.invoke()
        return {name: interpreter.tensor(index)() for name, index in outputs.items()}

    yield run
