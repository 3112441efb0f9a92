"""LiteRT runs TFLite files: inputs and outputs by name, in real numbers or as the file stores them.

The library is `ai-edge-litert`, or its older form `tflite-runtime`. An Edge TPU comes in through Google's libedgetpu,
and by Google's own pycoral where that is installed; the pycoral on PyPI is another project.

A file runs in a process of its own: LiteRT believes what it reads, and a graph that is damaged, or made to be, can end
the process that runs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.tflite.litert.interpreter import Delegate, Options, Refusal, Session, load, quiet
from cnnc.backends.tflite.litert.process import Crash, Remote, first_crash, open_session
from cnnc.diagnostics import CnnError
from cnnc.tflite_file.program import DTYPES, File, Program, Tensor
from cnnc.tflite_file.read import read_bytes, read_file

Arrays = Mapping[str, NDArray[Any]]

COMPILED: Final = "edgetpu-custom-op"
"""The operator that edgetpu_compiler puts in the place of those that it compiled."""


@dataclass(frozen=True, eq=False)
class Port:
    """An input or output: what the file's signature calls it (else its tensor), and the shape of one example."""

    name: str
    tensor: Tensor
    shape: tuple[int, ...]


class Runner:
    """A file made ready to run. Inputs are arrays `(batch, ...)` by name, of which it runs one example at a time."""

    def __init__(self, data: bytes, options: Options, file: File, session: Session | Remote) -> None:
        self.what = options.what
        self.file = file
        self.program = program = file.main
        self.inputs = _ports(program, program.inputs, program.input_names)
        self.outputs = _ports(program, program.outputs, program.output_names)
        self._data, self._options, self._session = data, options, session
        self._indices = {name: i for i, name in enumerate(program.tensors)}

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        """The outputs `(batch, ...)` by name in real numbers.

        Args:
            inputs: for every input `(batch, ...)` of its size: of its own type, as the file stores it, or real numbers
                in another type, which are quantised.
        """
        found = self.raw(inputs)
        return {port.name: dequantized(port.tensor, found[port.name]) for port in self.outputs}

    def raw(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """As a call, with outputs as the file stores them."""
        found = self.tensors(inputs, [port.tensor.name for port in self.outputs])
        return {port.name: found[port.tensor.name] for port in self.outputs}

    def tensors(self, inputs: Arrays, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The values `(batch, ...)` of tensors by name, as the file stores them.

        What is neither input nor output is there only in a runner that was opened with `all_tensors`.
        """
        stored = {port.name: self._stored(port, inputs[port.name]) for port in self.inputs}
        (count,) = {len(array) for array in stored.values()}
        values: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        for example in range(count):
            found = self._run({port.name: stored[port.name][example] for port in self.inputs}, names)
            for name, value in zip(names, found, strict=True):
                self._require_size(name, value, values[name])
                values[name].append(value[0] if value.shape[:1] == (1,) else value)
        return {name: np.stack(each) for name, each in values.items()}

    def fill(self, seed: int = 0) -> None:
        """Run random inputs, which stay there: of all that 8 bits hold, floats from 0 to 255, other integers 0."""
        generator = np.random.default_rng(seed)
        examples = {}
        for port in self.inputs:
            dtype = np.dtype(DTYPES[port.tensor.type])
            values = generator.integers(0, 256, port.tensor.shape)
            if dtype.kind != "f" and dtype.itemsize > 1:
                values = np.zeros_like(values)
            examples[port.name] = (values - 128 if dtype == np.int8 else values).astype(dtype)
        self._run(examples, ())

    def time(self) -> float:
        """Seconds that a run of the inputs that are there takes."""
        with _errors():
            return self._session.time()

    def _run(self, example: Arrays, names: Sequence[str]) -> list[NDArray[Any]]:
        given = {self._indices[port.tensor.name]: example[port.name].reshape(port.tensor.shape) for port in self.inputs}
        with _errors(), _placed(self._data, self._options, self.program, given):
            return self._session.run(given, [self._indices[name] for name in names])

    def _require_size(self, name: str, value: NDArray[Any], before: Sequence[NDArray[Any]]) -> None:
        """A value has the size that the file says, or where it says none, that of the examples before it."""
        tensor = self.program[name]
        wanted = tensor.signature or tensor.shape
        if wanted and (
            len(wanted) != value.ndim or any(a not in (-1, b) for a, b in zip(wanted, value.shape, strict=True))
        ):
            raise CnnError.of(
                "tflite",
                f"`{self.what}` says that `{name}` is {list(wanted)}, and LiteRT makes it {list(value.shape)}",
                help="the file is damaged, or was made for another version of LiteRT; make it again",
            )
        if before and value.size != before[0].size:
            raise CnnError.of("tflite", f"`{name}` of `{self.what}` has another size for every picture")

    def _stored(self, port: Port, array: NDArray[Any]) -> NDArray[Any]:
        if len(array) == 0 or prod(array.shape[1:]) != prod(port.shape):
            raise CnnError.of(
                "data",
                f"the input `{port.name}` of `{self.what}` takes examples of {list(port.shape)}, found"
                f" {list(array.shape[1:])}",
            )
        return array if array.dtype == DTYPES[port.tensor.type] else quantized(port.tensor, array)


def open_model(
    model: Path | bytes,
    *,
    threads: int | None = None,
    delegate: Delegate | None = None,
    all_tensors: bool = False,
) -> Runner:
    """A TFLite file made ready to run, in a process of its own.

    Args:
        model: the file; or the bytes of one that this program has made, which run within it.
        threads: of the CPU; without it LiteRT chooses, which is one.
        delegate: what runs the operators that were compiled for it; the CPU runs the rest.
        all_tensors: whether every tensor can be read after a run, and not outputs alone. That takes memory, and plain
            kernels.

    Raises:
        CnnError: `tflite` for a file that is damaged or that LiteRT cannot run, `install` when there is no LiteRT,
            `device` when the delegate's library or device is not there, or the file wants one and none is asked for.
    """
    what, data = ("<bytes>", model) if isinstance(model, bytes) else (str(model), read_bytes(model))
    file = read_file(data, what)
    _require_runnable(file.main, what)
    if delegate is None and is_compiled(file.main):
        raise CnnError.of(
            "device",
            f"`{what}` is compiled for the Edge TPU, and the CPU cannot run it",
            help="pass `--delegate edgetpu` where there is one, or give the int8 file that it was compiled from",
        )
    options = Options(what, threads, delegate, all_tensors)
    with _errors(file.main), _placed(data, options, file.main, None):
        if isinstance(model, bytes):
            with quiet():
                return Runner(data, options, file, Session(data, options))
        return Runner(data, options, file, open_session(data, options))


def load_interpreter(data: bytes, what: str, *, threads: int | None = None) -> Any:
    """LiteRT's interpreter of bytes that this program has made, within it. Raises CnnError as `open_model` does."""
    with _errors(), quiet():
        return load(data, Options(what, threads))


@contextmanager
def _errors(program: Program | None = None) -> Iterator[None]:
    """Refusals as the errors that they are, with the names of a program's tensors."""
    try:
        yield
    except Refusal as error:
        message = error.message
        found = _TENSOR.search(message)
        if program is not None and found is not None and int(found[1]) < len(program.tensors):
            message = f"{message[: found.start()]}{_place(program, int(found[1]))}{message[found.end() :]}"
        raise CnnError.of(error.code, message, notes=error.notes, help=error.help) from error


@contextmanager
def _placed(
    data: bytes, options: Options, program: Program, inputs: Mapping[int, NDArray[Any]] | None
) -> Iterator[None]:
    """Crashes with the operator that they come of; `inputs` are those of a run, None while a file is loaded."""
    try:
        yield
    except Crash as crash:
        place = first_crash(data, options, len(program.operators), inputs)
        if place is None:
            raise
        message = f"{crash.message} at operator {place}, {program.operators[place].name}"
        raise Refusal(crash.code, message, crash.notes, crash.help) from crash


_TENSOR: Final = re.compile(r"(?<=: )tensor (\d+)(?= )")


def _place(program: Program, index: int) -> str:
    """A tensor by name, and what reads it."""
    name = [*program.tensors][index]
    readers = [f"operator {i}, {program.operators[i].name}" for i in program.consumers[name]]
    return f"tensor `{name}`" + (f", an input of {readers[0]}," if readers else "")


def is_compiled(program: Program) -> bool:
    """Whether edgetpu_compiler has compiled a part of it."""
    return any(operator.custom == COMPILED for operator in program)


def quantized(tensor: Tensor, values: NDArray[Any]) -> NDArray[Any]:
    """Real numbers as a tensor stores them: rounded to nearest, halves away from zero, and held to its range."""
    dtype = np.dtype(DTYPES[tensor.type])
    if tensor.quantization is None or dtype.kind == "f":
        return values.astype(dtype)
    with np.errstate(over="ignore"):  # the scale may be of any size
        steps = np.asarray(values, np.float64) / tensor.quantization.scale[0]
    nearest = np.copysign(np.floor(np.abs(steps) + 0.5), steps) + tensor.quantization.zero_point[0]
    limits = np.iinfo(dtype)
    held: NDArray[Any] = np.clip(nearest, limits.min, limits.max).astype(dtype)
    return held


def dequantized(tensor: Tensor, values: NDArray[Any]) -> NDArray[np.float32]:
    """The real numbers that a tensor's stored values stand for.

    Raises:
        CnnError: they are complex.
    """
    if values.dtype.kind == "c":
        raise CnnError.of("tflite", f"`{tensor.name}` holds complex numbers, and real ones are wanted")
    if tensor.quantization is None or values.dtype.kind == "f":
        return values.astype(np.float32)
    scale, zero = tensor.quantization.scale[0], tensor.quantization.zero_point[0]
    with np.errstate(over="ignore"):
        return ((values.astype(np.int64) - zero) * np.float32(scale)).astype(np.float32)


def _ports(program: Program, tensors: Sequence[str], names: Sequence[str]) -> tuple[Port, ...]:
    found = []
    for tensor, name in zip(tensors, names or tensors, strict=True):
        shape = program[tensor].shape
        found.append(Port(name or tensor, program[tensor], shape[1:] if shape[:1] == (1,) else shape))
    return tuple(found)


def _require_runnable(program: Program, what: str) -> None:
    """There is an output, inputs are numbers of a size, and no scale is 0, by which real numbers would be divided."""
    if not program.outputs:
        raise CnnError.of("tflite", f"`{what}` has no output: there is nothing to run it for")
    for tensor in program.activations():
        if tensor.quantization is not None and 0 in tensor.quantization.scale:
            raise CnnError.of(
                "tflite",
                f"the tensor `{tensor.name}` of `{what}` has a scale of 0, by which it holds nothing",
                help="convert the model again, and give layers whose value never changes a scale above 0",
            )
    for name in program.inputs:
        tensor = program[name]
        if tensor.type not in DTYPES:
            raise CnnError.of("tflite", f"the input `{name}` of `{what}` is of {tensor.type.lower()}, which is not fed")
        sizes = tensor.signature or tensor.shape
        if -1 in sizes[1:] or 0 in tensor.shape:
            raise CnnError.of(
                "tflite",
                f"the input `{name}` of `{what}` has no fixed size: {list(sizes)}",
                help="convert the model for one size of picture",
            )
