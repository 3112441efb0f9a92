"""Weights out of Orbax checkpoints, as Flax's networks save them: a tree of parameters and one of statistics.

`params/Conv_0/kernel` and `batch_stats/BatchNorm_0/mean`: the first word is the collection, and a layer's arrays come
together under what follows it. The tree is that of the file; nobody has to know it beforehand.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import CnnError
from cnnc.weights.importing.layers.file_errors import fault, library_errors, name_list
from cnnc.weights.importing.layers.file_layers import Source
from cnnc.weights.importing.readers.sizes import MOST_BYTES, require_size
from cnnc.weights.importing.readers.state_dict import name_layers
from cnnc.weights.quiet_orbax import quiet_orbax

_MARKS: Final = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt")
_TREE: Final = "_METADATA"
_COLLECTIONS: Final = ("params", "batch_stats", "model", "state", "value")
"""Words in a path that name what is stored, and no layer."""
_BROKEN: Final = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, NotImplementedError)


def is_orbax(path: Path) -> bool:
    """Whether a folder is a checkpoint of Orbax, or the folder of a step."""
    return any((path / mark).exists() for mark in _MARKS) or bool(_steps(path))


def read_orbax(path: Path, most: int = MOST_BYTES) -> Source:
    """The layers of a checkpoint in the natural order of their names.

    Args:
        path: the folder.
        most: so many bytes its arrays may have together.

    Raises:
        CnnError: it is incomplete or damaged, holds more, several trees, or none; `install` without Orbax.
    """
    found: dict[str, NDArray[Any]] = {}
    ignored: dict[str, str] = {}
    tree = _load(path, _folder_of_tree(path), most)
    for keys, value in _leaves(tree, ()):
        name = "/".join(keys)
        if keys[0] in ("opt_state", "optimizer", "opt", "ema_params", "rng", "rngs"):
            ignored[name] = f"of `{keys[0]}`"
        elif not isinstance(value, np.ndarray):
            ignored[name] = f"{type(value).__name__}, and no array"
        else:
            short = "/".join(key for key in keys if key not in _COLLECTIONS)
            if short in found:
                raise fault(path, f"the tensor `{short}` is there several times, one of them as `{name}`")
            found[short] = value
    named = name_layers(found, sort=True)
    return Source(
        path,
        "Orbax checkpoint",
        named.layers,
        "names",
        channels_first=False,
        ignored={**ignored, **named.ignored},
    )


def _folder_of_tree(path: Path) -> Path:
    """Where the tree lies: managers of checkpoints put it into a folder of its own within the step's."""
    if (path / _TREE).exists():
        return path
    inside = sorted(each.name for each in path.iterdir() if (each / _TREE).exists())
    if len(inside) == 1:
        return path / inside[0]
    steps = _steps(path)
    if steps:
        raise fault(
            path,
            f"it holds the checkpoints of steps, {name_list(steps)}",
            help=f"give one of them: `{path / steps[-1]}`",
        )
    if inside:
        raise fault(
            path, f"it holds several trees, {name_list(inside)}", help=f"give one of them: `{path / inside[0]}`"
        )
    raise fault(path, f"it lacks `{_TREE}`, in which Orbax says what a checkpoint holds", help="copy the whole folder")


def _steps(path: Path) -> list[str]:
    """Folders with a number for a name that are checkpoints."""
    found = [each.name for each in path.iterdir() if each.name.isdigit() and (each / "_CHECKPOINT_METADATA").exists()]
    return sorted(found, key=int)


def _load(path: Path, folder: Path, most: int) -> Any:
    try:
        import jax
        import orbax.checkpoint as orbax  # type: ignore[import-untyped]  # ships no types
    except ModuleNotFoundError as error:
        raise CnnError.of(
            "install",
            f"reading Orbax's checkpoints needs the package `{error.name}`, which is not installed",
            help='pip install "cnnc[weights]"',
        ) from error
    _require_arrays(path, folder)
    with library_errors(path, *_BROKEN), _quiet():
        checkpointer = orbax.PyTreeCheckpointer()
        metadata = checkpointer.metadata(folder.resolve())
        tree = getattr(getattr(metadata, "item_metadata", metadata), "tree", None)
        if tree is None:
            raise fault(path, "it does not say what it holds", help="copy the whole folder")
        shapes = (getattr(leaf, "shape", None) or () for leaf in jax.tree.leaves(tree))
        require_size(path, sum(4 * prod(shape) for shape in shapes), most)
        # As NumPy arrays: the devices that wrote them are not those here.
        arguments = jax.tree.map(lambda _: orbax.RestoreArgs(restore_type=np.ndarray), tree)
        return checkpointer.restore(folder.resolve(), restore_args=arguments)


def _require_arrays(path: Path, folder: Path) -> None:
    """Look for the arrays' own files: what Orbax says of one that lacks them is long, and partly not to be caught."""
    if any(folder.glob("*/.zarray")):  # a folder for each array, as older versions wrote
        return
    lacking = [name for name in ("manifest.ocdbt", "d") if not (folder / name).exists()]
    if lacking:
        raise fault(path, f"it lacks {name_list(lacking)}, where its arrays are", help="copy the whole folder")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Orbax's remarks and warnings on how it was saved."""
    with quiet_orbax(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _leaves(tree: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, Mapping):
        for key, inner in tree.items():
            yield from _leaves(inner, (*keys, str(key)))
    elif isinstance(tree, Sequence) and not isinstance(tree, str | bytes):
        for place, inner in enumerate(tree):
            yield from _leaves(inner, (*keys, str(place)))
    elif keys and tree is not None:
        value = np.asarray(tree) if hasattr(tree, "shape") else tree
        yield keys, value.astype(np.float32) if str(getattr(value, "dtype", "")) == "bfloat16" else value
