"""Arrays as what a network takes: by the names of its inputs and outputs, out of memory or of files."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import CnnError
from cnnc.ir import Graph, Node
from cnnc.ops import Input, format_shape
from cnnc.wording import extent, number_of, quoted

if TYPE_CHECKING:
    from cnnc.data.sources.array_files import StoredArray
    from cnnc.data.sources.data_set import Examples

_LARGEST: Final = 1 << 28
"""Bytes of a picture that is brought to the network's size."""


def inputs_in(graph: Graph, path: Path) -> dict[str, StoredArray]:
    """The arrays of a file for a network's inputs; a single one serves a single input, whatever its name.

    Raises:
        CnnError: of code `data`: the file cannot be read, or an input has no array.
    """
    from cnnc.data.sources.array_files import stored_arrays

    found = stored_arrays(path)
    names = [node.name for node in graph.inputs]
    if len(names) == len(found) == 1:
        return {names[0]: next(iter(found.values()))}
    for name in names:
        if name not in found:
            others = f"the arrays {quoted(found)}" if all(found) else "one array"
            raise CnnError.of(
                "data",
                f"`{path}` holds {others}, and none for the input `{name}` of `{graph.name}`",
                help=f"save an array for each: np.savez(path, {', '.join(f'{name}=...' for name in names)})",
            )
    return {name: found[name] for name in names}


def labels_in(graph: Graph, path: Path) -> StoredArray:
    """The array of a file for a network's only output, by its name, or the only one that is for no input.

    Raises:
        CnnError: of code `labels`, where there is none.
    """
    from cnnc.data.sources.array_files import stored_arrays

    found = stored_arrays(path)
    ((label, _),) = graph.outputs
    rest = [name for name in found if name not in {node.name for node in graph.inputs}]
    if label not in found and len(rest) != 1:
        raise CnnError.of(
            "labels",
            f"`{path}` holds the arrays {quoted(found)}, and none of the classes of `{label}`",
            help=f"np.savez(path, ..., {label}=classes), a whole number an example",
        )
    return found[label if label in found else rest[0]]


def require_fitting(graph: Graph, arrays: Mapping[str, Any]) -> int:
    """How many examples arrays by the names of the inputs hold.

    Raises:
        CnnError: of code `data`: an array is of another size or type than its input, or they hold unequal numbers.
    """
    from cnnc.data.sources.array_files import kind_of

    for node in graph.inputs:
        array = arrays[node.name]
        found, kind = array.shape[1:], array.dtype.kind
        if kind not in "biuf":
            raise CnnError.of("data", f"{_called(array, node)} holds {kind_of(array.dtype)}, and numbers are wanted")
        if not _fits(graph, node, found, array.dtype):
            raise CnnError.of(
                "data",
                f"{_called(array, node)} holds examples of {format_shape(found)} in {array.dtype}, and the input"
                f" `{node.name}` of `{graph.name}` takes {format_shape(node.shape)}",
            )
        if is_index(node) and kind == "f":
            raise CnnError.of(
                "data",
                f"{_called(array, node)} holds {array.dtype}, and the input `{node.name}` takes whole numbers",
            )
    counts = {node.name: arrays[node.name].shape[0] for node in graph.inputs}
    if len(set(counts.values())) != 1 or not min(counts.values()):
        found = ", ".join(f"{number_of(count, 'example')} for `{name}`" for name, count in counts.items())
        raise CnnError.of("data", f"the arrays hold {found}, and as many examples are wanted for each input")
    return int(next(iter(counts.values())))


def rows_of(graph: Graph, arrays: Mapping[str, Any], rows: NDArray[np.integer]) -> Examples:
    """Some examples as a network takes them: bytes are pixels, all else is numbers as they are.

    Raises:
        CnnError: of code `data` where a file is damaged, or values are no finite numbers.
    """
    from cnnc.data.sources.array_files import StoredArray, read_rows
    from cnnc.data.sources.data_set import Examples

    inputs = []
    for node in graph.inputs:
        source = arrays[node.name]
        array = read_rows(source, rows) if isinstance(source, StoredArray) else np.asarray(source[rows])
        if is_index(node):
            array = array.astype(np.int32)
        elif array.dtype != np.uint8:
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise CnnError.of("data", f"{_called(source, node)} holds values that are not finite numbers")
        inputs.append(array)
    return Examples(tuple(inputs), (np.zeros(len(rows), np.int32),))


def labelled_examples(graph: Graph, path: Path, count: int) -> Examples:
    """All examples of an `.npz` with their classes, 0 to `count - 1`.

    Raises:
        CnnError: of code `data` or `labels`: an array is missing, does not fit, or the classes are none.
    """
    from cnnc.data.sources.array_files import read_rows
    from cnnc.data.sources.data_set import Examples

    inputs, labels = inputs_in(graph, path), labels_in(graph, path)
    total = require_fitting(graph, inputs)
    if labels.dtype.kind not in "bui" or labels.shape not in ((total,), (total, 1)):
        raise CnnError.of(
            "labels",
            f"{labels} is {labels.dtype} of {format_shape(labels.shape)}, and a whole number is wanted for each of"
            f" {number_of(total, 'example')}",
        )
    rows = np.arange(total)
    classes = read_rows(labels, rows).reshape(-1).astype(np.int64)
    if classes.min() < 0 or classes.max() >= count:
        raise CnnError.of(
            "labels",
            f"{labels} {extent(classes.min(), classes.max())}, and the outputs of `{graph.name}` stand for 0 to"
            f" {count - 1}",
        )
    return Examples(rows_of(graph, inputs, rows).inputs, (classes.astype(np.int32),))


def is_index(node: Node) -> bool:
    """Whether an input takes whole numbers that stand for something."""
    return isinstance(node.op, Input) and node.op.dtype == "int"


def _fits(graph: Graph, node: Node, found: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    from cnnc.data.feeding.checks import fits

    # Pictures of bytes are brought to the network's size.
    is_picture = len(graph.inputs) == 1 and dtype == np.uint8 and len(found) == len(node.shape) == 3
    return fits(found, node.shape) or (is_picture and prod(found) <= _LARGEST)


def _called(array: Any, node: Node) -> str:
    from cnnc.data.sources.array_files import StoredArray

    return str(array) if isinstance(array, StoredArray) else f"the array for `{node.name}`"
