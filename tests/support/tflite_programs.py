"""Small TFLite programs for tests, and LiteRT to run any program: the second opinion on what operators compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.tflite_file.program import DTYPES, File, Operator, Program, Quantization, Tensor
from cnnc.tflite_file.write import write_file

Array = NDArray[Any]

NAMES: Mapping[Any, str] = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


def tensor(
    name: str, shape: Sequence[int], type: str = "FLOAT32", scale: float | None = None, zero_point: int = 0
) -> Tensor:
    """An activation; one with a `scale` is quantised."""
    found = None if scale is None else Quantization((float(np.float32(scale)),), (zero_point,))
    return Tensor(name, tuple(shape), type, found)


def constant(
    name: str, data: Array, scale: float | Iterable[float] | None = None, zero_point: int = 0, axis: int = 0
) -> Tensor:
    """A constant; many scales are per-channel ones along `axis`."""
    found = None
    if scale is not None:
        scales = tuple(float(np.float32(s)) for s in (scale if isinstance(scale, Iterable) else (scale,)))
        found = Quantization(scales, (zero_point,) * len(scales), axis)
    return Tensor(name, data.shape, NAMES[data.dtype], found, data)


def one_operator(
    kind: str, inputs: Sequence[Tensor | None], outputs: Tensor | Sequence[Tensor], **options: Any
) -> Program:
    """A program of one operator: its inputs that are no constants are the program's, None is an optional one."""
    results = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    tensors = {each.name: each for each in (*inputs, *results) if each is not None}
    names = tuple("" if each is None else each.name for each in inputs)
    given = tuple(dict.fromkeys(each.name for each in inputs if each is not None and each.data is None))
    operator = Operator(kind, names, tuple(each.name for each in results), options)
    return Program("main", tensors, (operator,), given, operator.outputs)


def run_litert(
    program: Program | bytes, inputs: Mapping[str, Array], *, xnnpack: bool = True, reference: bool = False
) -> dict[str, Array]:
    """What LiteRT says of a program, by the names of the outputs; without `xnnpack` its own kernels compute all.

    Those of `reference` are its plainest, which say what an operator means.

    Inputs of an interpreter are told by their names, so those of a program must differ.
    """
    interpreter = open_litert(program, xnnpack=xnnpack, reference=reference)
    details = {each["name"]: each for each in interpreter.get_input_details()}
    for name, value in inputs.items():
        interpreter.set_tensor(details[name]["index"], np.ascontiguousarray(value))
    interpreter.invoke()
    return {each["name"]: interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()}


def open_litert(program: Program | bytes, *, xnnpack: bool, reference: bool = False) -> Any:
    """An interpreter of LiteRT with its memory laid out, on one thread."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    data = program if isinstance(program, bytes) else write_file(File((program,)))
    kind = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    if reference:
        kind = OpResolverType.BUILTIN_REF
    interpreter = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    return interpreter
