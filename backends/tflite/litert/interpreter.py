"""LiteRT's interpreter of one file, in this process or served by another, so that what crashes LiteRT ends only that.

Run as a program, `python interpreter.py SOCKET`, it forks a process for every file that it is asked to serve. It
imports nothing of the project, so that it starts in a tenth of a second, and what goes to and fro is numbers and JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import signal
import socket
import struct
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from math import prod
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Delegate = Literal["edgetpu"]

LIBRARIES: Final = {"Linux": "libedgetpu.so.1", "Darwin": "libedgetpu.1.dylib", "Windows": "edgetpu.dll"}
"""File names of the Edge TPU's library by system."""
_INTERPRETERS: Final = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")

_NODE: Final = re.compile(r"(?P<said>.*?)Node number (?P<number>\d+) \((?P<kind>.*?)\) (?P<rest>failed to \w+)\.?")
_TENSOR: Final = re.compile(r"(.*?)Tensor (\d+) has invalid quantization parameters\.")
"""How LiteRT ends what it says of operators and tensors; lines follow each other without a space."""

SENT: Final = frozenset("f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1 c8 c16".split())  # noqa: SIM905  # a list would be a page
"""NumPy's types of what is sent."""
_LARGEST_HEADER: Final = 1 << 20
_LARGEST_ARRAY: Final = 1 << 32
"""Bytes of an array that is received."""
_LARGEST_LOG: Final = 1 << 20
_LEAST_MEMORY: Final = 4 << 30
"""Bytes that a process may map at least: libraries and stacks that it never touches take some."""


class Refusal(Exception):
    """Why a file is not run: the fields of the project's own error, which is not imported here."""

    def __init__(self, code: str, message: str, notes: Sequence[str] = (), help: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.notes, self.help = code, message, tuple(notes), help


@dataclass(frozen=True)
class Options:
    """Options for running a file.

    Attributes:
        what: the file, for messages.
        threads: of the CPU; without it LiteRT chooses, which is one.
        delegate: what runs the operators that were compiled for it; the CPU runs the rest.
        all_tensors: whether every tensor can be read after a run, and not outputs alone. That takes memory, and plain
            kernels.
    """

    what: str
    threads: int | None = None
    delegate: Delegate | None = None
    all_tensors: bool = False


class Session:
    """A file that is loaded, its memory laid out. Tensors are named by their indices.

    Raises:
        Refusal: LiteRT cannot run the file, or it, the delegate's library or the device is not there.
    """

    def __init__(self, data: bytes, options: Options) -> None:
        self.what = options.what
        self.interpreter = load(data, options)

    def run(self, inputs: Mapping[int, Array], outputs: Sequence[int]) -> list[Array]:
        """The outputs of a run, each as large as it then is."""
        with _refusals(self.what, "cannot be run"):
            for index, value in inputs.items():
                self.interpreter.set_tensor(index, value)
            self.interpreter.invoke()
            found = [np.asarray(self.interpreter.get_tensor(index)) for index in outputs]
        for array in found:
            if array.dtype.str[1:] not in SENT:
                raise Refusal("tflite", f"`{self.what}` gives {array.dtype}, which is no number")
        return found

    def time(self) -> float:
        """Seconds that a run takes, of the inputs that are there."""
        with _refusals(self.what, "cannot be run"):
            start = perf_counter()
            self.interpreter.invoke()
            return perf_counter() - start


def load(data: bytes, options: Options) -> Any:
    """LiteRT's interpreter of a file's bytes, with its memory laid out. Raises Refusal as `Session` does."""
    with _refusals(options.what, "is refused by LiteRT"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of all_tensors it says that it takes memory
        interpreter = _interpreter(data, options)
        interpreter.allocate_tensors()
    return interpreter


def _refusal(what: str, happened: str, error: Exception) -> Refusal:
    """LiteRT's message, the operator or tensor first."""
    said = " ".join(re.sub(r"See instructions: \S+", " ", str(error)).split()) or type(error).__name__
    reason, notes = f"{said[:1].lower()}{said[1:]}", []
    if node := _NODE.fullmatch(said):
        reason = f"operator {node['number']}, {node['kind']}, {node['rest']}: {node['said'].strip(' .') or 'no reason'}"
    elif tensors := _TENSOR.findall(said):
        (why, number), *others = tensors
        reason = f"tensor {number} has invalid quantization parameters: {why.strip(' .')}"
        notes = [f"so have {len(others)} more tensors"] if others else []
    help = None
    if "unresolved custom op" in said:
        help = (
            "the operator is its maker's own, and LiteRT does not have it: run the file in the program that brings it"
        )
    return Refusal("tflite", f"`{what}` {happened}: {reason}", notes, help)


@contextmanager
def quiet() -> Iterator[None]:
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


def _interpreter(data: bytes, options: Options) -> Any:
    coral = _google_pycoral() if options.delegate == "edgetpu" else None
    if coral is not None:
        if not coral.list_edge_tpus():
            raise _no_device(())
        return coral.make_interpreter(data)
    litert = _litert()
    delegates = [_edge_tpu(litert)] if options.delegate == "edgetpu" else None
    return litert.Interpreter(
        model_content=data,
        num_threads=options.threads,
        experimental_delegates=delegates,
        experimental_preserve_all_tensors=options.all_tensors,
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
    raise Refusal(
        "install",
        "running TFLite files needs the package `ai-edge-litert`, which is not installed"
        + (" as it should be" if broken else ""),
        [" ".join(line.split()) for line in broken],
        'pip install "cnnc[tflite]"',
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
        raise Refusal("device", f"Google has no Edge TPU library for {platform.system()}")
    try:
        ctypes.CDLL(library)  # LiteRT itself leaves an exception behind when it is missing
    except OSError as error:
        raise Refusal(
            "device",
            f"the Edge TPU's library `{library}` cannot be loaded",
            [" ".join(str(error).split())],
            "install Google's Edge TPU runtime (the package libedgetpu1-std), or leave `--delegate` out: the CPU"
            " runs the int8 file, too",
        ) from error
    try:
        return litert.load_delegate(library)
    except ValueError as error:
        raise _no_device((" ".join(str(error).split()),)) from error


def _no_device(reasons: tuple[str, ...]) -> Refusal:
    return Refusal(
        "device",
        "no Edge TPU is found",
        [reason for reason in reasons if reason],
        "plug it in again, and see that no other program has it and that you may use it (on Linux: the group plugdev)",
    )


@contextmanager
def _refusals(what: str, happened: str) -> Iterator[None]:
    """LiteRT's own errors as refusals."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise _refusal(what, happened, error) from error
    except MemoryError as error:
        raise Refusal("tflite", f"`{what}` {happened}: it needs more memory than there is") from error


# Messages: the length of a header, the header as JSON, and the bytes of the arrays that it lists


def send(connection: socket.socket, header: Mapping[str, Any], arrays: Sequence[Array] = ()) -> None:
    """Send a header and arrays of types that are `SENT`."""
    listed = [[array.dtype.str[1:], list(array.shape)] for array in arrays]
    text = json.dumps({**header, "arrays": listed}).encode()
    connection.sendall(struct.pack("<I", len(text)) + text)
    for array in arrays:
        connection.sendall(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[Array]]:
    """A header and arrays.

    Raises:
        EOFError: the other side is gone.
        ValueError: it does not keep to the form.
    """
    (size,) = struct.unpack("<I", _received(connection, 4))
    if size > _LARGEST_HEADER:
        raise ValueError(f"a header of {size} bytes")
    header = json.loads(_received(connection, size))
    if not isinstance(header, dict):
        raise ValueError("a header without fields")
    arrays = []
    for kind, shape in header.pop("arrays", ()):
        if kind not in SENT or min(shape, default=0) < 0 or prod(shape) * np.dtype(kind).itemsize > _LARGEST_ARRAY:
            raise ValueError(f"an array of {kind} {shape}")
        raw = _received(connection, prod(shape) * np.dtype(kind).itemsize)
        arrays.append(np.frombuffer(raw, kind).reshape(shape))
    return header, arrays


def _received(connection: socket.socket, size: int) -> bytearray:
    found = bytearray(size)
    rest = memoryview(found)
    while rest:
        count = connection.recv_into(rest)
        if not count:
            raise EOFError
        rest = rest[count:]
    return found


# Processes


def main(control: socket.socket) -> None:
    """Fork a process for each socket that comes in with a file to log to, and say how it ended when asked.

    A request with two descriptors is answered by the process's number, one of a number by its status.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: it ends what runs, and not this
    with suppress(Refusal):
        _litert()  # so that each process finds it there
    ended: dict[int, int] = {}
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 4, 2)
        if len(message) < 4:
            return
        (number,) = struct.unpack("<i", message)
        if descriptors:
            number = os.fork()
            if number == 0:
                control.close()
                _serve_and_exit(*descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
        else:
            number = ended.pop(number) if number in ended else os.waitpid(number, 0)[1]
        control.sendall(struct.pack("<i", number))
        _reap(ended)


def _reap(ended: dict[int, int]) -> None:
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = found[1]


def _serve_and_exit(descriptor: int, log: int) -> None:
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.dup2(log, 2)
        serve(socket.socket(fileno=descriptor))
        status = 0
    except (EOFError, ConnectionError):
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())  # to the log, which the caller reads
    finally:
        os._exit(status)


def serve(connection: socket.socket) -> None:
    """Load the file that the first message holds, and run it as often as is asked. Raises EOFError in the end."""
    request, arrays = receive(connection)
    sys.path[:] = request["path"]
    limit(request["memory"])
    seconds = request["seconds"]
    session: Session | None = None
    reply: tuple[dict[str, Any], list[Array]]
    while True:
        signal.alarm(seconds)  # whose default ends a process wherever it is
        try:
            if session is None:
                session, reply = Session(arrays[0].tobytes(), Options(**request["options"])), ({}, [])
            else:
                reply = _answer(session, request, arrays)
        except Refusal as error:
            fault = {"code": error.code, "message": error.message, "notes": error.notes, "help": error.help}
            reply = {"refusal": fault}, []
        signal.alarm(0)
        send(connection, *reply)
        request, arrays = receive(connection)


def _answer(session: Session, request: Mapping[str, Any], arrays: list[Array]) -> tuple[dict[str, Any], list[Array]]:
    if request["do"] == "time":
        return {"seconds": session.time()}, []
    return {}, session.run(dict(zip(request["inputs"], arrays, strict=True)), request["outputs"])


def limit(memory: int) -> None:
    """Hold this process to bytes of memory, no core files and a short log; where memory ends, it is the one to go."""
    import resource

    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _LARGEST_LOG),
        (resource.RLIMIT_AS, max(memory, _LEAST_MEMORY)),
    ):
        _, hard = resource.getrlimit(kind)
        with suppress(ValueError, OSError):  # macOS has mapped more than that already
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
