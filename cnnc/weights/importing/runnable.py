"""Files that can be run as they are: TFLite, Keras, TorchScript and what torch.export writes; from pictures to numbers.

What takes prepared values gets them from the network that is compared with it: its spec says how pixels are prepared.
"""

from __future__ import annotations

import os
import pickle
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cnnc import backends
from cnnc.diagnostics import CnnError, clause
from cnnc.documents import parse_json
from cnnc.tflite_file.metadata import read_description
from cnnc.tflite_file.read import read_bytes
from cnnc.weights.importing.layers.file_errors import BROKEN_ARCHIVE, fault, library_errors
from cnnc.weights.importing.readers.keras import read_keras
from cnnc.weights.importing.readers.keras_graph import is_network, layer_configs
from cnnc.weights.importing.readers.tflite import PREPARATION, read_tflite

Takes = Literal["pixels", "values"]
_PREPARING: Final = ("Rescaling", "Normalization")
_EXPORTED: Final = ("models/model.json", "serialized_exported_program.json")


@dataclass(frozen=True, eq=False)
class Program:
    """A file made ready to run.

    Attributes:
        name: what runs it.
        takes: pixels of 0 to 255, or the values that they are prepared to, `(batch, height, width, channels)`.
        quantized: whether it computes in 8 bits.
        run: from those to the first output in real numbers, `(batch, values)`.
    """

    name: str
    takes: Takes
    quantized: bool
    run: Callable[[NDArray[Any]], NDArray[np.float64]]


def open_program(path: Path) -> Program:
    """A file made ready to run.

    Raises:
        CnnError: the file holds weights alone, is damaged, or what runs it is not installed.
    """
    if not path.exists():
        raise CnnError.of("weights", f"there is no file `{path}`")
    head = b""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(8)
    if head[4:8] == b"TFL3":
        return _tflite(path)
    if path.is_file() and zipfile.is_zipfile(path):
        with library_errors(path, *BROKEN_ARCHIVE), zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if "config.json" in names:
            return _keras(path)
        if any(name.endswith(_EXPORTED) for name in names):
            return _torch(path, "torch.export")
        if any("/code/" in name for name in names):
            return _torch(path, "TorchScript")
    raise fault_of_weights(path)


def fault_of_weights(path: Path) -> CnnError:
    """The error that a file has nothing that could be run."""
    return CnnError.of(
        "weights",
        f"`{path}` holds weights and no network, so it cannot be run beside the imported one",
        help="name a program of the same network with `--verify-with FILE`: a `.tflite`, `.keras`, TorchScript, or what"
        " torch.export saves as `.pt2`",
    )


def _tflite(path: Path) -> Program:
    runner = backends.load("tflite", "litert.runner").open_model(path)
    if len(runner.inputs) != 1:
        raise fault(path, f"it has {len(runner.inputs)} inputs, and one of pictures is wanted")
    (port,) = runner.inputs
    kind = port.tensor.type
    file = runner.file
    description = read_description(file, read_bytes(path), str(path))
    prepares = PREPARATION in (read_tflite(path).ignored or {}).values()
    ours = description is not None and bool(description.spec_sha256)
    takes: Takes = "pixels" if kind in ("UINT8", "INT8") or prepares or ours else "values"

    def run(pictures: NDArray[Any]) -> NDArray[np.float64]:
        fed = pictures.astype(np.float32)
        if kind == "UINT8":
            fed = pictures.astype(np.uint8)
        elif kind == "INT8":
            fed = (pictures.astype(np.int16) - 128).astype(np.int8)
        return _flat(runner({port.name: fed})[runner.outputs[0].name])

    inside = [tensor.type for tensor in file.main.activations()]
    return Program("LiteRT", takes, sum(each in ("INT8", "UINT8") for each in inside) > len(inside) / 2, run)


def _keras(path: Path) -> Program:
    read_keras(path)  # refuses what leads to other files, or is larger than it seems
    with library_errors(path, *BROKEN_ARCHIVE, KeyError), zipfile.ZipFile(path) as archive:
        config = parse_json(archive.read("config.json"))
    classes = {each["class_name"] for each in layer_configs(config)} if is_network(config) else set()
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "jax")
    try:
        import keras
    except ModuleNotFoundError as error:
        raise _missing("running Keras models", error, "tensorflow") from error
    with _framework_errors(path):  # safe mode: no code of the file's is run, a Lambda's neither
        model = keras.models.load_model(path, compile=False, safe_mode=True)

    def run(pictures: NDArray[Any]) -> NDArray[np.float64]:
        fed = pictures.astype(np.float32)
        wanted = tuple(model.inputs[0].shape[1:])
        if wanted == (fed.shape[-1], *fed.shape[1:-1]) != fed.shape[1:]:
            fed = np.moveaxis(fed, -1, 1)
        with _framework_errors(path):
            return _flat(_first(model.predict(fed, verbose=0)))

    return Program(f"Keras on {keras.backend.backend()}", "pixels" if classes & {*_PREPARING} else "values", False, run)


def _torch(path: Path, kind: str) -> Program:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise _missing("running PyTorch's programs", error, "torch") from error
    with _framework_errors(path):
        if kind == "TorchScript":
            model = torch.jit.load(str(path), map_location="cpu").eval()
        else:
            model = torch.export.load(str(path)).module()

    def run(pictures: NDArray[Any]) -> NDArray[np.float64]:
        fed = np.ascontiguousarray(np.moveaxis(pictures.astype(np.float32), -1, 1))
        with _framework_errors(path), torch.no_grad():  # one by one: an exported program may have a fixed batch
            found = [_first(model(torch.from_numpy(each[None]))) for each in fed]
        return _flat(np.concatenate([np.asarray(each) for each in found]))

    return Program(kind, "values", False, run)


def _first(found: Any) -> Any:
    while isinstance(found, dict | list | tuple):
        found = next(iter(found.values() if isinstance(found, dict) else found))
    return found


def _flat(found: Any) -> NDArray[np.float64]:
    array = np.asarray(found, np.float64)
    return array.reshape(len(array), -1)


def _missing(purpose: str, error: ModuleNotFoundError, extra: str) -> CnnError:
    return CnnError.of(
        "install",
        f"{purpose} needs the package `{error.name}`, which is not installed",
        help=f'pip install "cnnc[{extra}]"',
    )


@contextmanager
def _framework_errors(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how frameworks change, which the user of a file cannot
            yield
    except (
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        ImportError,
        AssertionError,
        NotImplementedError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise CnnError.of("weights", f"`{path}` cannot be run: {clause(reason)}", notes=lines[1:6]) from error
