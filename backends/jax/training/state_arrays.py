"""A training's state as named arrays, for checkpoints, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import numpy as np

T = TypeVar("T")


def leaves_of(state: Any) -> dict[str, Any]:
    """Every array of a tree by its path, such as `trainable/conv/kernel`."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]}


def with_leaves(state: T, leaves: Mapping[str, Any]) -> T:
    """The tree with other arrays, by their paths. All of them must be there."""
    changed: T = jax.tree_util.tree_map_with_path(lambda path, _: leaves[_name(path)], state)
    return changed


def on_host(tree: T) -> T:
    """A copy of a tree's arrays in this process's memory."""
    copied: T = jax.tree.map(np.array, tree)
    return copied


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
