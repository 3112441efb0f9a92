"""All that a training step changes: weights, what the optimizer remembers, averages and counters, as one pytree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cnnc.backends import protocols
from cnnc.backends.jax.layers import Weights
from cnnc.backends.jax.training.optimizer import decay_mask, single_group, transformation
from cnnc.backends.protocols import Groups, ParameterGroup
from cnnc.ir import Graph
from cnnc.recipe import Recipe

Arrays = dict[str, dict[str, Array]]
"""By node and short name."""


class State(NamedTuple):
    """A `cnnc.backends.protocols.TrainingState`, every leaf an array, so that one that was written down can go on."""

    trainable: Arrays
    statistics: Arrays
    """Batch norm's, and all that is frozen."""
    optimizer: tuple[Any, ...]
    """The optimizer's memory of every group."""
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

    @property
    def weights(self) -> Arrays:
        """The weights that are trained, and those that are not, as `apply` takes them."""
        return merged(self.trainable, self.statistics)

    @property
    def evaluation_weights(self) -> Arrays:
        return self.average or self.weights

    def arrays(self) -> dict[str, Array]:
        return {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(self)[0]}

    def replace_arrays(self, arrays: Mapping[str, protocols.Array]) -> State:
        changed: State = jax.tree_util.tree_map_with_path(lambda path, _: arrays[_name(path)], self)
        return changed

    def unfreeze(self, graph: Graph, recipe: Recipe, group: ParameterGroup) -> State:
        """The state with a group more that learns. The optimizer starts on it anew, and keeps what it knows of others.

        So a group that joins late takes its first steps as at the start of a training: Adam's correction counts from
        there. The average goes on. Gradients that wait have none of the group's, so it should join right after an
        update.
        """
        mask = decay_mask(graph, group)
        moved = {node: {short: self.statistics[node][short] for short in shorts} for node, shorts in mask.items()}
        rest = {
            node: {short: array for short, array in arrays.items() if short not in mask.get(node, {})}
            for node, arrays in self.statistics.items()
        }
        return self._replace(
            trainable={node: moved.get(node, arrays) for node, arrays in self.trainable.items()},
            statistics={node: arrays for node, arrays in rest.items() if arrays},
            optimizer=(*self.optimizer, transformation(recipe.optimizer, 0.0, mask).init(moved)),
            gathered={
                node: jax.tree.map(jnp.zeros_like, moved[node]) if node in moved else arrays
                for node, arrays in self.gathered.items()
            },
        )

    def rewind(self, steps: int) -> State:
        return self._replace(step=jnp.asarray(steps, jnp.int32), halted=jnp.zeros((), bool))


def first_state(graph: Graph, recipe: Recipe, weights: Weights, groups: Groups = None) -> State:
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
    for group in single_group(graph) if groups is None else groups:
        state = state.unfreeze(graph, recipe, group)
    return state


def merged(trainable: Mapping[str, Mapping[str, Array]], statistics: Mapping[str, Mapping[str, Array]]) -> Arrays:
    """The weights of every node, from its trainable ones and the others."""
    return {node: {**arrays, **statistics.get(node, {})} for node, arrays in trainable.items()}


def _copied(weights: Weights) -> Arrays:
    copied: Arrays = jax.tree.map(jnp.array, {node: dict(arrays) for node, arrays in weights.items()})
    return copied


def _zero() -> Array:
    return jnp.zeros((), jnp.int32)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
