"""Weights out of Keras's files, read as the archives of numbers and JSON that they are: Keras is not imported.

`.keras` brings the graph; `.weights.h5` of version 3 has layers by class and number, that of version 2 by name.
Where a file does not say that maps have channels first they have them last, as is Keras's default.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cnnc.diagnostics import CnnError
from cnnc.weights.importing.faults import BROKEN_ARCHIVE, fault, told
from cnnc.weights.importing.keras_graph import is_network, layer_configs, walk
from cnnc.weights.importing.keras_hdf5 import layers_within, legacy_arrays
from cnnc.weights.importing.keras_layers import IGNORED, with_epsilon
from cnnc.weights.importing.source import Source
from cnnc.weights.importing.state_dict import name_layers, split

_WEIGHTS: Final = "model.weights.h5"
_BROKEN: Final = (*BROKEN_ARCHIVE, KeyError, IndexError, TypeError, AttributeError)
"""What h5py and zipfile raise for damaged files, and we for configurations that lack what they should have."""


def read_keras(path: Path) -> Source:
    """The layers of a `.keras`, `.weights.h5` or `.h5` file.

    Raises:
        CnnError: the file is damaged or holds no network; `install` without h5py.
    """
    if zipfile.is_zipfile(path):
        return _archive(path)
    with told(path, *_BROKEN), _hdf5(path) as file:
        names = file.get("model_weights", file)
        if "layer_names" in names.attrs:
            return _legacy(path, names, file.attrs.get("model_config"))
        ignored: dict[str, str] = {}
        layers = layers_within(file, "", ignored)
        return Source(path, "Keras weights", tuple(layers), "names", channels_first=False, ignored=ignored)


def _archive(path: Path) -> Source:
    with told(path, *_BROKEN), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if _WEIGHTS not in names:
            raise fault(path, f"it is a Keras model without `{_WEIGHTS}`", help="save it again with `model.save(FILE)`")
        config = json.loads(archive.read("config.json"))
        with _hdf5(io.BytesIO(archive.read(_WEIGHTS))) as file:
            if not is_network(config):
                ignored: dict[str, str] = {}
                layers = layers_within(file, "", ignored)
                return Source(path, "Keras model", tuple(layers), "names", channels_first=False, ignored=ignored)
            found = walk(config, file.get("layers"))
    return Source(
        path,
        "Keras model",
        tuple(found.layers),
        "running",
        channels_first=found.channels_first,
        ignored=found.ignored,
    )


def _legacy(path: Path, file: Any, config: Any) -> Source:
    arrays = legacy_arrays(path, file)
    # Normalization counts what it has seen; no other layer does.
    seen = tuple(
        name.removesuffix("count:0").removesuffix("count") for name in arrays if split(name, "/")[1] == "count"
    )
    ignored = {name: IGNORED["Normalization"] for name in arrays if name.startswith(seen)}
    named = name_layers({name: array for name, array in arrays.items() if name not in ignored}, sort=False)
    layers = named.layers
    if config is not None:
        model = json.loads(config)
        configs = (
            {each["config"].get("name"): each["config"] for each in layer_configs(model)} if is_network(model) else {}
        )
        layers = tuple(with_epsilon(layer, configs.get(layer.name.split("/")[-1], {})) for layer in layers)
    return Source(path, "Keras weights", layers, "running", channels_first=False, ignored=ignored | dict(named.ignored))


@contextmanager
def _hdf5(file: Any) -> Iterator[Any]:
    try:
        import h5py  # type: ignore[import-untyped]  # ships no types
    except ModuleNotFoundError as error:
        raise CnnError.of(
            "install",
            "reading Keras's files needs the package `h5py`, which is not installed",
            help='pip install "cnnc[weights]"',
        ) from error
    with h5py.File(file, "r") as opened:
        yield opened
