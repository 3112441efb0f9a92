"""State dicts that PyTorch saved: tensors and plain values alone are unpickled, and never code that a file brings."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import CnnError
from cnnc.weights.importing.layers.copies import ambiguous_copies
from cnnc.weights.importing.layers.file_errors import (
    BROKEN_ARCHIVE,
    CUT_SHORT,
    fault,
    library_errors,
    library_fault,
    name_list,
)
from cnnc.weights.importing.layers.file_layers import Source
from cnnc.weights.importing.readers.sizes import MOST_BYTES, require_size
from cnnc.weights.importing.readers.state_dict import name_layers
from cnnc.weights.importing.readers.state_dict_prefixes import without_prefixes

_StateDict = Mapping[Any, Any]
_INSIDE: Final = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "model_ema",
    "state_dict_ema",
    "ema_state_dict",
    "ema",
    "params",
    "params_ema",
    "weights",
)
"""Under which key checkpoints of trainers have their weights, the likeliest first."""
_BROKEN: Final = (
    *BROKEN_ARCHIVE,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    AssertionError,
    struct.error,
    pickle.UnpicklingError,
    MemoryError,
    OverflowError,
)
"""Exceptions that PyTorch's unpickler raises for damaged pickles."""


def read_pytorch(path: Path, most: int = MOST_BYTES, copy: str | None = None) -> Source:
    """The layers of a state dict in the order in which the network's code made them.

    Args:
        path: the file.
        most: so many bytes its tensors may have together.
        copy: which copy of the weights to take where there are several.

    Raises:
        CnnError: the file is damaged, holds more, code (a pickled model, or worse) or no state dict, is TorchScript or
            an exported program; `install` without PyTorch.
    """
    require_size(path, path.stat().st_size, most)
    _refuse_programs(path, most)
    state, ignored, copy = _find_state_dict(path, _load(path), copy)
    tensors = [value for value in state.values() if _is_tensor(value)]
    require_size(path, sum(4 * value.numel() for value in tensors), most)  # a view is as large as it seems
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in state.items():
        if _is_tensor(value):
            arrays[str(name)] = _array(path, str(name), value)
        else:
            ignored[str(name)] = f"{type(value).__name__}, and no tensor"
    named = name_layers(without_prefixes(path, arrays, copy), sort=False)
    return Source(
        path, "PyTorch state dict", named.layers, "written", channels_first=True, ignored={**ignored, **named.ignored}
    )


def _find_state_dict(path: Path, content: Any, copy: str | None) -> tuple[_StateDict, dict[str, str], str | None]:
    """The state dict in a checkpoint, why what lies beside it is ignored, and `copy` unless a key was it."""
    ignored: dict[str, str] = {}
    above: list[Any] = []
    while isinstance(content, Mapping) and not _is_state_dict(content):
        if any(content is each for each in above):
            raise fault(path, "what it holds lies within itself", help=CUT_SHORT)
        above.append(content)
        inside = [key for key in _INSIDE if isinstance(content.get(key), Mapping)]
        if not inside:
            break
        if copy in inside:
            key, copy = copy, None
        else:
            key = inside[0]
            shapes = _shapes(content[key])
            copied = [each for each in inside if shapes and _shapes(content[each]) == shapes]
            if len(copied) > 1:
                raise ambiguous_copies(path, copied)
        ignored |= {each: f"beside `{key}`, which is read" for each in inside if each != key}
        content = content[key]
    if not isinstance(content, Mapping) or not _is_state_dict(content):
        raise _no_state_dict(path, content)
    return content, ignored, copy


def _refuse_programs(path: Path, most: int) -> None:
    if not zipfile.is_zipfile(path):
        return
    with library_errors(path, *BROKEN_ARCHIVE), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        require_size(path, sum(entry.file_size for entry in archive.infolist()), most)
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        raise fault(
            path,
            "it is a TorchScript program, which holds code; it was not run",
            help="save its weights alone: `torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt')`",
        )
    if any(name.endswith(("models/model.json", "serialized_exported_program.json")) for name in names):
        raise fault(
            path,
            "it is a program that torch.export wrote; it was not run",
            help="save its weights alone: `torch.save(torch.export.load(FILE).state_dict, 'weights.pt')`",
        )


def _load(path: Path) -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise CnnError.of(
            "install",
            "reading PyTorch's files needs the package `torch`, which is not installed",
            help='pip install "cnnc[torch]", or save the weights as safetensors',
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old files bring warnings of how PyTorch stores tensors
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except _BROKEN as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code is None and "weights_only" in str(error) and "Unsupported" not in str(error):
            # What PyTorch advises then is to run the code.
            raise fault(path, "it is a pickle that PyTorch does not read", help=CUT_SHORT) from error
        if code is None and "Unsupported" not in str(error):
            raise library_fault(path, error) from error
        if code is not None and code.group(1).endswith("."):  # a name that the file's end cuts off
            raise fault(path, "it ends within a name", help=CUT_SHORT) from error
        what = f"`{code.group(1)}`" if code is not None else "something that is no tensor"
        raise fault(
            path,
            f"it is a pickle with code inside, {what}, which was not run",
            help="where its code is at hand and trusted, save the weights alone:"
            " `torch.save(model.state_dict(), FILE)`",
        ) from error


def _is_state_dict(found: Mapping[Any, Any]) -> bool:
    """Whether a mapping has tensors under dotted names, or tensors mostly."""
    tensors = [key for key, value in found.items() if _is_tensor(value)]
    return any("." in str(key) for key in tensors) or 2 * len(tensors) > len(found)


def _shapes(found: Mapping[Any, Any]) -> dict[str, tuple[int, ...]]:
    return {str(name): tuple(value.shape) for name, value in found.items() if _is_tensor(value)}


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "numpy")


def _array(path: Path, name: str, tensor: Any) -> NDArray[Any]:
    if tensor.device.type != "cpu":
        raise fault(path, f"the tensor `{name}` has no values: it is on the device `{tensor.device.type}`")
    if tensor.layout.__repr__() != "torch.strided" or tensor.is_quantized or tensor.is_complex() or tensor.is_nested:
        raise fault(path, f"the tensor `{name}` is {tensor.dtype}, {tensor.layout}, which is not read")
    plain = tensor.detach()
    return np.asarray((plain.float() if plain.is_floating_point() else plain).numpy())


def _no_state_dict(path: Path, found: Any) -> CnnError:
    if isinstance(found, Mapping):
        reason = f"it holds no state dict, but {name_list(map(str, found))}" if found else "its state dict is empty"
    else:
        reason = f"it holds a {type(found).__name__}, and no state dict"
    return fault(path, reason, help="save the weights alone: `torch.save(model.state_dict(), FILE)`")
