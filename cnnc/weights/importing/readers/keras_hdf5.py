"""Weights in Keras's HDF5 files without a graph: version 3's by class and number, version 2's by name.

Version 3 numbers layers within their class in the order in which the network runs them, `layers/conv2d_3/vars/0`;
version 2 lists them in that order.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.weights.importing.layers.file_errors import CUT_SHORT, fault
from cnnc.weights.importing.layers.file_layers import SourceLayer
from cnnc.weights.importing.readers.keras_layers import IGNORED, attention, class_of, make_layers
from cnnc.weights.importing.readers.state_dict import natural, split

Arrays = list[NDArray[np.float32]]
Group = Any
"""An h5py.Group; the package ships no types."""
_VARIABLES = "vars"
_MOST_NAMES = 1_000_000
"""No network has so many layers or arrays."""
_PARTS = {"query_dense": "query", "key_dense": "key", "value_dense": "value", "output_dense": "output"}


def variables(group: Group) -> Arrays:
    """A layer's own arrays in the order in which it has them."""
    inner = group.get(_VARIABLES)
    if inner is None:
        return []
    return [np.asarray(inner[name], np.float32) for name in sorted(inner, key=natural)]


def multi_head(name: str, group: Group) -> SourceLayer | None:
    """The self-attention that a group holds, or None."""
    if not all(part in group for part in _PARTS):
        return None
    return attention(name, {role: variables(group[part]) for part, role in _PARTS.items()})


def layers_within(
    group: Group, name: str, ignored: dict[str, str], kind: str = "", config: Mapping[str, Any] | None = None
) -> list[SourceLayer]:
    """All layers in a group of version 3, in the natural order of their paths.

    Args:
        group: of a network or of one layer.
        name: what the layers are called after.
        ignored: gets what is no weight, and why.
        kind: the class that the group is of, where that is known.
        config: what it was made with.
    """
    found: list[SourceLayer] = []
    own = variables(group)
    if kind in IGNORED or (own and _is_state(group)):
        if own:
            ignored[name] = IGNORED.get(kind, "integers, and no weights")
        return found
    if own:
        found += make_layers(kind, name, own, config)
    whole = multi_head(name, group)
    if whole is not None:
        return [*found, whole]
    for part in sorted(group, key=natural):
        inner = group[part]
        if part != _VARIABLES and hasattr(inner, "keys"):
            # Of what `layers` and other containers hold, the name that its author gave it is kept beside the variables.
            given = _given_name(inner) or part
            plain = name if part in ("layers", "_layers", "_functional") else f"{name}/{given}" if name else given
            found += layers_within(inner, plain, ignored, class_of(part))
    return found


def legacy_arrays(path: Path, file: Group) -> dict[str, NDArray[Any]]:
    """Arrays by name out of a file of version 2, layers in the order of the network.

    Raises:
        CnnError: the file names arrays that it does not hold.
    """
    found: dict[str, NDArray[Any]] = {}
    for layer in _texts(path, file, "layer_names"):
        group = file.get(layer)
        for name in _texts(path, group, "weight_names") if group is not None else ():
            if name not in group:
                raise fault(path, f"it names the tensor `{name}` of layer `{layer}`, and lacks it", help=CUT_SHORT)
            # What nested networks hold is called after itself alone.
            inner, _ = split(name, "/")
            full = name if inner.split("/")[0] == layer or not inner else f"{layer}/{name}"
            found[full] = np.asarray(group[name])
    return found


def _given_name(group: Group) -> str:
    inner = group.get(_VARIABLES)
    if inner is None or "name" not in inner.attrs or inner.attrs.get_id("name").shape != ():
        return ""
    return str(inner.attrs["name"])


def _is_state(group: Group) -> bool:
    return all(np.dtype(each.dtype).kind in "iu" for each in group[_VARIABLES].values())


def _texts(path: Path, group: Group, attribute: str) -> list[str]:
    if attribute not in group.attrs:
        return []
    count = group.attrs.get_id(attribute).shape
    if count is None or prod(count) > _MOST_NAMES:  # HDF5 would take them all for what they are said to be
        raise fault(path, f"it says that `{group.name}` has names in the shape {count}", help=CUT_SHORT)
    names = group.attrs[attribute]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
