"""A run of alike segments as one loop, `lax.scan` over their stacked weights: compiled once, however many they are.

The values are those of the segments one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import jax
import jax.numpy as jnp
from jax import Array, lax

from cnnc.backends.jax.layers import Weights
from cnnc.backends.jax.nodes import Chance, Mode, Statistics, chance, drops, evaluate
from cnnc.backends.jax.segments import Run, Segment
from cnnc.ir import Node
from cnnc.ops import DropPath

NEVER: Final = 0
"""In place of the least number of repeats to loop over: none are."""

_LEAST = 4
"""On accelerators: two or three blocks compile in little more time than one, and a loop costs copies of the weights."""


def chosen() -> int:
    """The least number of alike segments in a row that the default device loops over, or `NEVER`.

    Never on a CPU, where a step of ten residual blocks was measured to take nine times as long in a loop.
    """
    return NEVER if jax.default_backend() == "cpu" else _LEAST


def loop(run: Run, weights: Weights, entry: Array, mode: Mode, *, remat: bool = False) -> tuple[Array, Statistics]:
    """The output of the last segment of a run, and the new statistics of every batch norm in it.

    Args:
        run: segments that are alike.
        weights: theirs at least, by owner.
        entry: the value that the first segment reads.
        mode: how nodes are evaluated. What drops does so by its own name, as without a loop.
        remat: whether the gradient keeps the values between segments only.
    """
    if not run:
        return entry, {}
    body = _body(run)

    def step(value: Array, of_repeat: _Scanned) -> tuple[Array, Statistics]:
        arrays, chances = of_repeat
        found, changed = evaluate(body.nodes, arrays, {str(body.entry): value}, {}, mode, chances)
        return found[body.exit], changed

    scanned = (_stacked(run, weights), _chances(run, mode))
    one, _ = jax.eval_shape(step, entry, jax.tree.map(lambda stack: stack[0], scanned))
    if one.dtype != entry.dtype:  # pixels come in float32, and leave the first segment in bfloat16
        found, first = evaluate(run[0].nodes, weights, {str(run[0].entry): entry}, {}, mode)
        value, others = loop(run[1:], weights, found[run[0].exit], mode, remat=remat)
        return value, first | others
    # In a loop the forward and the backward pass are apart already: nothing could be merged.
    repeated = jax.checkpoint(step, prevent_cse=False) if remat else step
    value, changed = lax.scan(repeated, entry, scanned)
    return value, _by_name(run, changed)


_Scanned = tuple[Mapping[str, Mapping[str, Array]], Mapping[str, Chance]]
"""Weights by owner and chances by node, under the names of the first repeat."""


def _body(run: Run) -> Segment:
    """The first segment, where stochastic depth drops if it does in any."""
    nodes = []
    for position, node in enumerate(run[0].nodes):
        paths = [each.op for each in _place(run, position) if isinstance(each.op, DropPath)]
        nodes.append(replace(node, op=max(paths, key=lambda op: op.rate)) if paths else node)
    return run[0]._replace(nodes=tuple(nodes))


def _stacked(run: Run, weights: Weights) -> dict[str, dict[str, Array]]:
    stacked = {}
    for position, node in enumerate(run[0].nodes):
        if node.owner in weights and node.owner == node.name:
            repeats = [weights[each.name] for each in _place(run, position)]
            stacked[node.name] = {
                short: jnp.stack([arrays[short] for arrays in repeats]) for short in weights[node.name]
            }
    return stacked


def _chances(run: Run, mode: Mode) -> dict[str, Chance]:
    chances = {}
    for position, node in enumerate(run[0].nodes):
        repeats = _place(run, position)
        if mode.train and any(drops(each.op) for each in repeats):
            salts, shares = zip(*map(chance, repeats), strict=True)
            chances[node.name] = Chance(jnp.asarray(salts, jnp.uint32), jnp.asarray(shares))
    return chances


def _by_name(run: Run, changed: Statistics) -> Statistics:
    """The statistics of every repeat, from those of all stacked under the names of the first."""
    found: Statistics = {}
    for position, node in enumerate(run[0].nodes):
        if node.name in changed:
            for index, each in enumerate(_place(run, position)):
                found[each.name] = {short: array[index] for short, array in changed[node.name].items()}
    return found


def _place(run: Run, position: int) -> list[Node]:
    """The nodes at one position of every repeat."""
    return [segment.nodes[position] for segment in run]
