"""Weights out of Keras's files, read as the archives of numbers and JSON that they are: Keras is not imported.

`.keras` brings the graph; `.weights.h5` of version 3 has layers by class and number, that of version 2 by name.
Where a file does not say that maps have channels first they have them last, as is Keras's default.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cnnc.documents import parse_json
from cnnc.weights.importing.layers.file_errors import BROKEN_ARCHIVE, CUT_SHORT, fault, library_errors
from cnnc.weights.importing.layers.file_layers import Source
from cnnc.weights.importing.readers.hdf5 import open_hdf5
from cnnc.weights.importing.readers.keras_graph import is_network, layer_configs, walk
from cnnc.weights.importing.readers.keras_hdf5 import layers_within, legacy_arrays
from cnnc.weights.importing.readers.keras_layers import IGNORED, with_epsilon
from cnnc.weights.importing.readers.sizes import MOST_BYTES, require_size
from cnnc.weights.importing.readers.state_dict import name_layers, split

_WEIGHTS: Final = "model.weights.h5"
_MOST_CONFIG: Final = 64 << 20
_BROKEN: Final = (*BROKEN_ARCHIVE, KeyError, IndexError, TypeError, AttributeError)
"""Exceptions that h5py and zipfile raise for damaged files, and we for configurations that lack entries."""


def read_keras(path: Path, most: int = MOST_BYTES) -> Source:
    """The layers of a `.keras`, `.weights.h5` or `.h5` file, of `most` bytes at most.

    Raises:
        CnnError: the file is damaged, holds no network or more than that, or refers to others; `install` without h5py.
    """
    if zipfile.is_zipfile(path):
        return _archive(path, most)
    with library_errors(path, *_BROKEN), open_hdf5(path, path, most) as file:
        names = file.get("model_weights", file)
        if "layer_names" in names.attrs:
            return _legacy(path, names, _config_text(path, file))
        ignored: dict[str, str] = {}
        layers = layers_within(file, "", ignored)
        return Source(path, "Keras weights", tuple(layers), "names", channels_first=False, ignored=ignored)


def _archive(path: Path, most: int) -> Source:
    with library_errors(path, *_BROKEN), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if _WEIGHTS not in names:
            raise fault(path, f"it is a Keras model without `{_WEIGHTS}`", help="save it again with `model.save(FILE)`")
        require_size(path, archive.getinfo("config.json").file_size, _MOST_CONFIG)
        require_size(path, archive.getinfo(_WEIGHTS).file_size, most)
        config = parse_json(archive.read("config.json"))
        if not isinstance(config, Mapping):
            raise fault(path, "its `config.json` is no description of a model")
        with open_hdf5(path, io.BytesIO(archive.read(_WEIGHTS)), most) as file:
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
        model = parse_json(config)
        configs = (
            {each["config"].get("name"): each["config"] for each in layer_configs(model)} if is_network(model) else {}
        )
        layers = tuple(with_epsilon(layer, configs.get(layer.name.split("/")[-1], {})) for layer in layers)
    return Source(path, "Keras weights", layers, "running", channels_first=False, ignored=ignored | dict(named.ignored))


def _config_text(path: Path, file: Any) -> Any:
    """The configuration of a network, one text; None where there is none."""
    if "model_config" not in file.attrs:
        return None
    if file.attrs.get_id("model_config").shape != ():
        raise fault(path, "its `model_config` is no text", help=CUT_SHORT)
    return file.attrs["model_config"]
