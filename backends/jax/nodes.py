"""Evaluates nodes one after the other: the part of `apply` that is the same alone, in a loop and when recomputed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from zlib import crc32

import jax
import jax.numpy as jnp
from jax import Array

from cnnc.backends.jax.forms.choice import Table
from cnnc.backends.jax.forms.lower import batch_norm_tuned, lower_tuned
from cnnc.backends.jax.layers import Weights, randomness
from cnnc.backends.jax.layers.lower import FLOAT32, lower
from cnnc.backends.jax.layers.normalization import batch_norm_of_shards
from cnnc.diagnostics import CnnError
from cnnc.ir import Node
from cnnc.ops import BatchNorm, Dropout, DropPath, Op

Statistics = dict[str, dict[str, Array]]
"""Batch norm's running statistics after the batch, by node and short name."""


class Chance(NamedTuple):
    """A node's dropping: `salt` makes its key of the network's, `kept` is the probability that a value stays.

    Numbers, or in a loop over repeats scalars that differ from one to the next.
    """

    salt: int | Array
    kept: float | Array


class Mode(NamedTuple):
    """How every node is evaluated; `apply` says what the entries mean."""

    train: bool
    key: Array | None
    dtype: jnp.dtype
    frozen: frozenset[str]
    table: Table
    shards: int = 1


def evaluate(
    nodes: Iterable[Node],
    weights: Weights,
    values: Mapping[str, Array],
    statistics: Mapping[str, Mapping[str, Array]],
    mode: Mode,
    chances: Mapping[str, Chance] | None = None,
) -> tuple[dict[str, Array], Statistics]:
    """The values of nodes by their names, and the new statistics of batch norms among them.

    Args:
        nodes: in topological order, without inputs.
        weights: theirs at least, by owner.
        values: what they read of other nodes.
        statistics: what earlier uses of the same batch norms made of theirs.
        mode: how they are evaluated.
        chances: what drops by other chances than `chance` gives.
    """
    found: dict[str, Array] = {}
    changed: Statistics = {}
    for node in nodes:
        operands = [found[name] if name in found else values[name] for name in node.inputs]
        arrays = weights.get(node.owner, {})
        # The name shows in profiles and in jax's own error messages.
        with jax.named_scope(node.name):
            if not isinstance(node.op, FLOAT32):
                operands = [_cast(operand, mode.dtype) for operand in operands]
                arrays = {short: _cast(array, mode.dtype) for short, array in arrays.items()}
            if isinstance(node.op, BatchNorm) and mode.train and node.owner not in mode.frozen:
                # One that is used again goes on from what its last use made of the statistics.
                arrays = {**arrays, **statistics.get(node.owner, {}), **changed.get(node.owner, {})}
                found[node.name], changed[node.owner] = _batch_norm(node.op, mode, arrays, operands[0])
            elif mode.train and drops(node.op):
                found[node.name] = _dropped(node, (chances or {}).get(node.name, chance(node)), mode.key, operands[0])
            else:
                found[node.name] = _lowered(node, arrays, operands, mode)
    return found, changed


def drops(op: Op) -> bool:
    """Whether the operator drops anything in training."""
    return isinstance(op, Dropout | DropPath) and op.rate > 0


def chance(node: Node) -> Chance:
    """A key of the node's own: other layers come and go without changing what it drops."""
    assert isinstance(node.op, Dropout | DropPath), node
    return Chance(crc32(node.name.encode()), 1 - node.op.rate)


def _dropped(node: Node, by: Chance, key: Array | None, x: Array) -> Array:
    if key is None:
        raise ValueError(f"`{node.name}` drops at random when train=True: pass key=jax.random.key(seed)")
    keep = randomness.keep_paths if isinstance(node.op, DropPath) else randomness.keep
    return keep(by.kept, jax.random.fold_in(key, by.salt), x)


def _batch_norm(op: BatchNorm, mode: Mode, arrays: Mapping[str, Array], x: Array) -> tuple[Array, dict[str, Array]]:
    """Batch norm in training, with its new statistics."""
    if mode.shards == 1:
        return batch_norm_tuned(op, mode.table, arrays, x)
    return batch_norm_of_shards(op, arrays, x, mode.shards)


def _lowered(node: Node, arrays: Mapping[str, Array], operands: list[Array], mode: Mode) -> Array:
    if lower.dispatch(type(node.op)) is lower.dispatch(Op):
        raise CnnError.of(
            "backend",
            f"the backend `jax` has no operator `{node.op.name}`, which `{node.name}` needs",
            node.origin.span if node.origin else None,
            notes=node.origin.notes if node.origin else (),
        )
    return lower_tuned(node.op, mode.table, arrays, *operands)


def _cast(array: Array, dtype: jnp.dtype) -> Array:
    return array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array
