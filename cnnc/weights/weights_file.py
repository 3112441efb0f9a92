"""Weights as safetensors: every array under `<node>.<weight>`, and facts about them as metadata.

The format holds arrays and strings and nothing that runs (https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cnnc.diagnostics import CnnError, clause
from cnnc.documents import parse_json
from cnnc.files import write_atomically
from cnnc.ir import Graph
from cnnc.ops import BatchNorm, Depthwise, Shape, format_shape
from cnnc.wording import quoted

KEY = "cnnc"
"""The one metadata entry, a JSON object: safetensors writes several in random order, and bytes must not differ."""
_DIGEST = "sha256"
"""The entry in it that tells whether the file is as it was written."""
_TIMES, _LEAST_BYTES = 8, 256 << 20
"""A file larger than so many bytes a parameter, and this, is not read to find that it is another network's."""
_SHOWN = 5
"""So many names of a kind are listed in an error."""


def save_weights(path: Path, weights: Mapping[str, Mapping[str, Any]], metadata: Mapping[str, str]) -> None:
    """Write weights, by node and short name, atomically."""
    flat = {
        f"{node}.{short}": np.ascontiguousarray(array, "<f4")
        for node, arrays in weights.items()
        for short, array in arrays.items()
    }
    facts = {**metadata, _DIGEST: _digest(flat, metadata)}
    write_atomically(path, save(flat, {KEY: json.dumps(facts, sort_keys=True)}))


def load_weights(path: Path, graph: Graph) -> tuple[dict[str, dict[str, NDArray[np.float32]]], dict[str, str]]:
    """The weights of a file by node and short name, and its metadata.

    Raises:
        CnnError: when the file cannot be read, does not hold exactly the graph's weights in their shapes, or an array
            of it cannot be that of its layer.
    """
    most = _TIMES * graph.parameter_count + _LEAST_BYTES
    if path.is_file() and (size := path.stat().st_size) > most:
        raise CnnError.of(
            "weights", f"`{path}` does not hold the weights of `{graph.name}`: it has {size:,} bytes, and these fewer"
        )
    arrays, metadata = read_arrays(path)
    arrays = as_depthwise(arrays, graph)
    declared = {f"{node.name}.{short}": (node.name, short) for node in graph for short in graph.weights(node)}
    faults = [
        *_listed("lacks", [name for name in declared if name not in arrays]),
        *_listed("has unexpected", [name for name in arrays if name not in declared]),
        *_listed("has in another shape", list(_misshapen(arrays, graph))),
    ]
    if faults:
        raise CnnError.of(
            "weights",
            f"`{path}` does not hold the weights of `{graph.name}`",
            notes=[f"the file {fault}" for fault in faults],
            help="weights go with the spec, the variant and the scaling that they were trained with",
        )
    weights: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, (node, short) in declared.items():
        weights.setdefault(node, {})[short] = arrays[name]
    require_sound(graph, weights, f"`{path}`")
    return weights, metadata


def require_sound(graph: Graph, weights: Mapping[str, Mapping[str, Any]], what: str) -> None:
    """Raises CnnError, naming layer and array, when one holds NaN or infinities, or a variance is negative.

    Every target would compute nonsense of them, and most without a word. `what` the weights are from.
    """
    for node in graph:
        for short, array in weights.get(node.name, {}).items():
            values = np.asarray(array)
            fault = _not_finite(values)
            if fault is None and isinstance(node.op, BatchNorm) and short == "variance" and (values < 0).any():
                fault = f"{_count(values < 0)} that are negative, as no variance is: the least is {values.min():.4g}"
            if fault is not None:
                origin = node.origin
                raise CnnError.of(
                    "weights",
                    f"`{node.name}.{short}` of {what} has {fault}",
                    origin.span if origin else None,
                    label=f"the layer `{node.name}`",
                    notes=origin.notes if origin else (),
                    help="such weights come of a training that diverged, or of a file that was read wrongly",
                )


def _not_finite(values: NDArray[Any]) -> str | None:
    if np.isfinite(values).all():
        return None
    nan = np.isnan(values)
    return f"{_count(nan)} that are NaN" if nan.any() else f"{_count(np.isinf(values))} that are infinite"


def _count(those: NDArray[np.bool_]) -> str:
    return f"{int(those.sum()):,} of {those.size:,} values"


def read_arrays(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """Every array of a file by its name, and its metadata.

    Raises:
        CnnError: when the file cannot be read, or was changed since it was written here.
    """
    if not path.is_file():
        raise CnnError.of("weights", f"there is no file `{path}`")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: np.asarray(file.get_tensor(name), np.float32) for name in file.keys()}  # noqa: SIM118  # no dict
            facts = parse_json((file.metadata() or {}).get(KEY, "{}"))
            words = {str(name): str(fact) for name, fact in dict(facts).items()}
            require_intact(path, arrays, words)
            return arrays, {name: word for name, word in words.items() if name != _DIGEST}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise CnnError.of(
            "weights",
            f"cannot read `{path}`: {clause(reason)}",
            help="the file is cut short or is no safetensors file; only safetensors are read",
        ) from error


def require_intact(path: Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> None:
    """Raises CnnError unless arrays and facts are those that were written; what others wrote has no digest to tell."""
    own = {name: fact for name, fact in facts.items() if name != _DIGEST}
    if _DIGEST in facts and facts[_DIGEST] != _digest(arrays, own):
        raise CnnError.of(
            "weights",
            f"`{path}` is damaged: its values are not those that were written",
            help="put back a copy, or make it again",
        )


def _digest(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> str:
    """SHA-256 of all that a file says: its facts, and names, shapes and bytes of its arrays."""
    found = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        found.update(json.dumps([name, list(array.shape)]).encode())
        found.update(np.ascontiguousarray(array, "<f4").tobytes())
    return found.hexdigest()


def as_depthwise(arrays: Mapping[str, NDArray[np.float32]], graph: Graph) -> dict[str, NDArray[np.float32]]:
    """The arrays of a file, kernels of grouped convolutions in the shapes of the depthwise ones that they are.

    Files from before a convolution of as many groups as channels counted as depthwise hold them so.
    """
    shapes = {
        f"{node.name}.kernel": graph.weights(node)["kernel"].shape
        for node in graph
        if isinstance(node.op, Depthwise) and not node.weights_of
    }
    return {
        name: array.reshape(shapes[name]) if name in shapes and array.shape == grouped_shape(shapes[name]) else array
        for name, array in arrays.items()
    }


def grouped_shape(shape: Shape) -> Shape:
    """The shape, as that of a grouped convolution, of a depthwise kernel `(*sizes, channels, multiplier)`.

    The values are the same in the same order: `(*sizes, 1, channels * multiplier)`.
    """
    return (*shape[:-2], 1, prod(shape[-2:]))


def _misshapen(arrays: Mapping[str, NDArray[np.float32]], graph: Graph) -> list[str]:
    wrong = []
    for node in graph:
        for short, weight in graph.weights(node).items():
            found = arrays.get(f"{node.name}.{short}")
            if found is not None and found.shape != weight.shape:
                wrong.append(f"{node.name}.{short} ({format_shape(found.shape)}, not {format_shape(weight.shape)})")
    return wrong


def _listed(verb: str, names: list[str]) -> list[str]:
    return [f"{verb} {quoted(names, _SHOWN)}"] if names else []
