"""LiteRT runs TFLite files: inputs and outputs by name, in real numbers or as the file stores them.

The library is `ai-edge-litert`, or its older form `tflite-runtime`. An Edge TPU comes in through Google's libedgetpu,
and by Google's own pycoral where that is installed; the pycoral on PyPI is another project.
"""

from __future__ import annotations

import ctypes
import os
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import CnnError
from cnnc.tflite.program import DTYPES, Program, Tensor
from cnnc.tflite.read import open_file, read_file

Delegate = Literal["edgetpu"]
Arrays = Mapping[str, NDArray[Any]]

LIBRARIES: Final = {"Linux": "libedgetpu.so.1", "Darwin": "libedgetpu.1.dylib", "Windows": "edgetpu.dll"}
"""What the Edge TPU's library is called by system."""
COMPILED: Final = "edgetpu-custom-op"
"""The operator that edgetpu_compiler puts in the place of those that it compiled."""
_INTERPRETERS: Final = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


@dataclass(frozen=True, eq=False)
class Port:
    """An input or output: what the file's signature calls it (else its tensor), and the shape of one example."""

    name: str
    tensor: Tensor
    shape: tuple[int, ...]


class Runner:
    """A file made ready to run. Inputs are arrays `(batch, ...)` by name, of which it runs one example at a time."""

    def __init__(self, interpreter: Any, program: Program, what: str) -> None:
        self.what = what
        self.program = program
        self.inputs = _ports(program, program.inputs, program.input_names)
        self.outputs = _ports(program, program.outputs, program.output_names)
        self._interpreter = interpreter
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
            for port in self.inputs:
                self._set(port, stored[port.name][example])
            self.invoke()
            for name in names:
                value = np.asarray(self._interpreter.get_tensor(self._indices[name]))
                values[name].append(value[0] if value.shape[:1] == (1,) else value)
        return {name: np.stack(each) for name, each in values.items()}

    def invoke(self) -> None:
        """Run the example that the inputs hold."""
        with _told(self.what, "cannot be run"):
            self._interpreter.invoke()

    def fill(self, seed: int = 0) -> None:
        """Put random values into the inputs: of all that 8 bits hold, floats from 0 to 255, other integers 0."""
        generator = np.random.default_rng(seed)
        for port in self.inputs:
            dtype = np.dtype(DTYPES[port.tensor.type])
            values = generator.integers(0, 256, port.tensor.shape)
            if dtype.kind != "f" and dtype.itemsize > 1:
                values = np.zeros_like(values)
            self._set(port, (values - 128 if dtype == np.int8 else values).astype(dtype))

    def _stored(self, port: Port, array: NDArray[Any]) -> NDArray[Any]:
        if len(array) == 0 or prod(array.shape[1:]) != prod(port.shape):
            raise CnnError.of(
                "data",
                f"the input `{port.name}` of `{self.what}` takes examples of {list(port.shape)}, found"
                f" {list(array.shape[1:])}",
            )
        return array if array.dtype == DTYPES[port.tensor.type] else quantized(port.tensor, array)

    def _set(self, port: Port, example: NDArray[Any]) -> None:
        self._interpreter.set_tensor(self._indices[port.tensor.name], example.reshape(port.tensor.shape))


def open_model(
    model: Path | bytes,
    *,
    threads: int | None = None,
    delegate: Delegate | None = None,
    all_tensors: bool = False,
) -> Runner:
    """A TFLite file, or the bytes of one, made ready to run.

    Args:
        model: the file.
        threads: of the CPU; without it LiteRT chooses, which is one.
        delegate: what runs the operators that were compiled for it; the CPU runs the rest.
        all_tensors: whether every tensor can be read after a run, and not outputs alone. That takes memory, and plain
            kernels.

    Raises:
        CnnError: `tflite` for a file that is damaged or that LiteRT cannot run, `install` when there is no LiteRT,
            `device` when the delegate's library or device is not there, or the file wants one and none is asked for.
    """
    what = str(model) if isinstance(model, Path) else "<bytes>"
    program = (open_file(model) if isinstance(model, Path) else read_file(model)).main
    data = model.read_bytes() if isinstance(model, Path) else model
    _require_fixed(program, what)
    if delegate is None and is_compiled(program):
        raise CnnError.of(
            "device",
            f"`{what}` is compiled for the Edge TPU, and the CPU cannot run it",
            help="pass `--delegate edgetpu` where there is one, or give the int8 file that it was compiled from",
        )
    interpreter = load_interpreter(data, what, threads=threads, delegate=delegate, all_tensors=all_tensors)
    return Runner(interpreter, program, what)


def load_interpreter(
    data: bytes,
    what: str,
    *,
    threads: int | None = None,
    delegate: Delegate | None = None,
    all_tensors: bool = False,
) -> Any:
    """LiteRT's interpreter of a file's bytes, with its memory laid out. Arguments and errors as in `open_model`."""
    with _told(what, "is refused by LiteRT"), _quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of all_tensors it says that it takes memory
        interpreter = _interpreter(data, threads, delegate, all_tensors)
        interpreter.allocate_tensors()
    return interpreter


def is_compiled(program: Program) -> bool:
    """Whether edgetpu_compiler has compiled a part of it."""
    return any(operator.custom == COMPILED for operator in program)


def quantized(tensor: Tensor, values: NDArray[Any]) -> NDArray[Any]:
    """Real numbers as a tensor stores them: rounded to nearest, halves away from zero, and held to its range."""
    dtype = np.dtype(DTYPES[tensor.type])
    if tensor.quantization is None or dtype.kind == "f":
        return values.astype(dtype)
    steps = np.asarray(values, np.float64) / tensor.quantization.scale[0]
    nearest = np.copysign(np.floor(np.abs(steps) + 0.5), steps) + tensor.quantization.zero_point[0]
    limits = np.iinfo(dtype)
    held: NDArray[Any] = np.clip(nearest, limits.min, limits.max).astype(dtype)
    return held


def dequantized(tensor: Tensor, values: NDArray[Any]) -> NDArray[np.float32]:
    """The real numbers that a tensor's stored values stand for."""
    if tensor.quantization is None or values.dtype.kind == "f":
        return values.astype(np.float32)
    scale, zero = tensor.quantization.scale[0], tensor.quantization.zero_point[0]
    return ((values.astype(np.int32) - zero) * np.float32(scale)).astype(np.float32)


def _ports(program: Program, tensors: Sequence[str], names: Sequence[str]) -> tuple[Port, ...]:
    found = []
    for tensor, name in zip(tensors, names or tensors, strict=True):
        shape = program[tensor].shape
        found.append(Port(name or tensor, program[tensor], shape[1:] if shape[:1] == (1,) else shape))
    return tuple(found)


def _require_fixed(program: Program, what: str) -> None:
    for name in program.inputs:
        tensor = program[name]
        if tensor.type not in DTYPES:
            raise CnnError.of("tflite", f"the input `{name}` of `{what}` is of {tensor.type.lower()}, which is not fed")
        if tensor.signature is not None and -1 in tensor.signature[1:]:
            raise CnnError.of(
                "tflite",
                f"the input `{name}` of `{what}` has no fixed size: {list(tensor.signature)}",
                help="convert the model for one size of picture",
            )


def _interpreter(data: bytes, threads: int | None, delegate: Delegate | None, all_tensors: bool) -> Any:
    coral = _google_pycoral() if delegate == "edgetpu" else None
    if coral is not None:
        if not coral.list_edge_tpus():
            raise _no_device(())
        return coral.make_interpreter(data)
    litert = _litert()
    delegates = [_edge_tpu(litert)] if delegate == "edgetpu" else None
    return litert.Interpreter(
        model_content=data,
        num_threads=threads,
        experimental_delegates=delegates,
        experimental_preserve_all_tensors=all_tensors,
    )


def _litert() -> ModuleType:
    broken = []
    for name in _INTERPRETERS:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name.partition(".")[0]:
                broken.append(f"{name}: {error}")
        except ImportError as error:  # built for another NumPy or Python
            broken.append(f"{name}: {error}")
    raise CnnError.of(
        "install",
        "running TFLite files needs the package `ai-edge-litert`, which is not installed"
        + (" as it should be" if broken else ""),
        notes=[" ".join(line.split()) for line in broken],
        help='pip install "cnnc[tflite]"',
    )


def _google_pycoral() -> Any:
    """Google's module for Edge TPUs, or None. PyPI has another project of that name, which is not imported."""
    found = find_spec("pycoral")
    places = [] if found is None else list(found.submodule_search_locations or ())
    if not any(Path(place, "utils", "edgetpu.py").is_file() for place in places):
        return None
    return import_module("pycoral.utils.edgetpu")


def _edge_tpu(litert: ModuleType) -> Any:
    library = LIBRARIES.get(platform.system())
    if library is None:
        raise CnnError.of("device", f"Google has no Edge TPU library for {platform.system()}")
    try:
        ctypes.CDLL(library)  # LiteRT itself leaves an exception behind when it is missing
    except OSError as error:
        raise CnnError.of(
            "device",
            f"the Edge TPU's library `{library}` cannot be loaded",
            notes=[" ".join(str(error).split())],
            help="install Google's Edge TPU runtime (the package libedgetpu1-std), or leave `--delegate` out: the CPU"
            " runs the int8 file, too",
        ) from error
    try:
        return litert.load_delegate(library)
    except ValueError as error:
        raise _no_device((" ".join(str(error).split()),)) from error


def _no_device(reasons: tuple[str, ...]) -> CnnError:
    return CnnError.of(
        "device",
        "no Edge TPU is found",
        notes=[reason for reason in reasons if reason],
        help="plug it in again, and see that no other program has it and that you may use it (on Linux: the group"
        " plugdev)",
    )


@contextmanager
def _told(what: str, happened: str) -> Iterator[None]:
    """LiteRT's own errors as ours."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).partition("See instructions")[0].split()) or type(error).__name__
        raise CnnError.of("tflite", f"`{what}` {happened}: {reason[:1].lower()}{reason[1:]}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what LiteRT's C++ writes to standard error: lines of INFO, and errors that it raises as well."""
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nothing)
        os.close(kept)
