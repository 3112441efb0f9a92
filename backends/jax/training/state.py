"""All that a training step changes: weights, what the optimizer remembers, averages and counters, as one pytree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cnnc.backends.jax.layers import Weights
from cnnc.backends.jax.training.optimizer import Group, decay_mask, transformation, whole
from cnnc.ir import Graph
from cnnc.recipe import Recipe

Arrays = dict[str, dict[str, Array]]
"""By node and short name."""


class State(NamedTuple):
    """What a step takes and gives. Every leaf is an array, so that a state that was written down can go on."""

    trainable: Arrays
    statistics: Arrays
    """Batch norm's, and all that is frozen."""
    optimizer: tuple[Any, ...]
    """What the optimizer remembers of every group."""
    step: Array
    """Steps taken, int32: batches seen, whether they led to an update or not."""
    average: Arrays
    """The moving average of all weights, or nothing where the recipe has no `ema`."""
    updates: Array
    """Updates of the weights, int32."""
    gathered: Arrays
    """The sum of gradients that wait for the next update, or nothing where every step makes one."""
    waiting: Array
    """How many steps' gradients those are, int32."""
    halted: Array
    """Whether a step that was no good has ended the training: then no step changes anything any more."""


def first_state(graph: Graph, recipe: Recipe, weights: Weights, groups: Sequence[Group] | None = None) -> State:
    """The state before the first step. The weights are copied, as the first step gives the state's arrays away.

    Args:
        graph: the network.
        recipe: how it trains.
        weights: its first weights.
        groups: what learns, all if None; what is in none of them is frozen.
    """
    copied = _copied(weights)
    nothing: Arrays = {node: {} for node in copied}
    state = State(
        trainable=nothing,
        statistics=copied,
        optimizer=(),
        step=_zero(),
        average={} if recipe.ema is None else _copied(weights),
        updates=_zero(),
        gathered={} if recipe.accumulate == 1 else dict(nothing),
        waiting=_zero(),
        halted=jnp.zeros((), bool),
    )
    for group in whole(graph) if groups is None else groups:
        state = thawed(state, graph, recipe, group)
    return state


def thawed(state: State, graph: Graph, recipe: Recipe, group: Group) -> State:
    """The state with a group more that learns. The optimizer starts on it anew, and keeps what it knows of the others.

    So a group that joins late takes its first steps as at the start of a training: Adam's correction counts from there.
    The average goes on. Gradients that wait have none of the group's, so it should join right after an update.
    """
    mask = decay_mask(graph, group)
    moved = {node: {short: state.statistics[node][short] for short in shorts} for node, shorts in mask.items()}
    rest = {
        node: {short: array for short, array in arrays.items() if short not in mask.get(node, {})}
        for node, arrays in state.statistics.items()
    }
    return state._replace(
        trainable={node: moved.get(node, arrays) for node, arrays in state.trainable.items()},
        statistics={node: arrays for node, arrays in rest.items() if arrays},
        optimizer=(*state.optimizer, transformation(recipe.optimizer, 0.0, mask).init(moved)),
        gathered={
            node: jax.tree.map(jnp.zeros_like, moved[node]) if node in moved else arrays
            for node, arrays in state.gathered.items()
        },
    )


def weights_of(state: State) -> Arrays:
    """The weights that are trained, and those that are not, as `apply` takes them."""
    return merged(state.trainable, state.statistics)


def averaged_of(state: State) -> Arrays:
    """The weights to evaluate and to save: their moving average where there is one."""
    return state.average or weights_of(state)


def resumable(state: State, steps: int) -> State:
    """A state that a bad step halted, as it was after `steps` steps, free to go on."""
    return state._replace(step=jnp.asarray(steps, jnp.int32), halted=jnp.zeros((), bool))


def merged(trainable: Mapping[str, Mapping[str, Array]], statistics: Mapping[str, Mapping[str, Array]]) -> Arrays:
    """The weights of every node, from its trainable ones and the others."""
    return {node: {**arrays, **statistics.get(node, {})} for node, arrays in trainable.items()}


def _copied(weights: Weights) -> Arrays:
    copied: Arrays = jax.tree.map(jnp.array, {node: dict(arrays) for node, arrays in weights.items()})
    return copied


def _zero() -> Array:
    return jnp.zeros((), jnp.int32)
