"""The gradients of a network's losses, and what is measured on the way to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jax import Array

from cnnc.backends.jax import loops
from cnnc.backends.jax.apply import apply
from cnnc.backends.jax.forms.choice import PLAIN, Table
from cnnc.backends.jax.training.loss import losses, ranks
from cnnc.backends.jax.training.state import Arrays, State, merged
from cnnc.backends.protocols import Criteria, Measurement, ParameterGroup
from cnnc.ir import Graph
from cnnc.recipe import Recipe

Inputs = Mapping[str, Array]
Targets = tuple[Array, ...]


@dataclass(frozen=True)
class Objective:
    """The weighted losses of a network's outputs as a function of the weights of its groups.

    `table` says in which forms the layers are computed, and `shards` how many parts of a batch have a batch norm of
    their own.
    """

    graph: Graph
    recipe: Recipe
    criteria: Criteria
    groups: tuple[ParameterGroup, ...]
    table: Table = PLAIN
    shards: int = 1

    @property
    def frozen(self) -> frozenset[str]:
        """The nodes with weights that are in no group."""
        return frozenset(node.name for node in self.graph if self.graph.weights(node)).difference(*self.groups)


def step_key(recipe: Recipe, step: Array) -> Array:
    """The randomness of a step: of the recipe's seed and of how many steps were taken before it."""
    return jax.random.fold_in(jax.random.key(recipe.seed), step)


def differentiate(
    objective: Objective, state: State, inputs: Inputs, targets: Targets, key: Array
) -> tuple[Arrays, Arrays, Measurement[Array]]:
    """The gradients of what is trainable, batch norm's new statistics, and what was measured."""

    def loss(trainable: Arrays) -> tuple[Array, tuple[Arrays, Array, Array]]:
        outputs, statistics = apply(
            objective.graph,
            merged(trainable, state.statistics),
            inputs,
            train=True,
            key=key,
            precision=objective.recipe.precision,
            logits=True,
            frozen=objective.frozen,
            table=objective.table,
            scan=loops.chosen(),
            remat=objective.recipe.remat,
            shards=objective.shards,
        )
        means, hits, total = _measure(objective, outputs, targets)
        return total, (statistics, means, hits)

    (total, (statistics, means, hits)), gradients = jax.value_and_grad(loss, has_aux=True)(state.trainable)
    norm = optax.tree.norm(gradients)
    numbers = [total, norm, *(array.sum() for array in jax.tree.leaves(statistics))]
    good = jnp.isfinite(jnp.stack(numbers)).all()
    return gradients, statistics, Measurement(means, hits, total, norm, good)


def _measure(objective: Objective, outputs: Mapping[str, Array], targets: Targets) -> tuple[Array, Array, Array]:
    """The outputs' mean losses, their fractions of right answers, and the sum of the losses by their weights."""
    graph = objective.graph
    means, hits, total = [], [], jnp.zeros(())
    for (label, name), (loss, has_classes), target in zip(graph.outputs, objective.criteria, targets, strict=True):
        logits = outputs[label]
        mean = losses(loss, logits, target, graph[name].op).mean()
        total += loss.weight * mean
        means.append(mean)
        hits.append((ranks(loss, logits, target) == 0).mean() if has_classes else jnp.zeros(()))
    return jnp.stack(means), jnp.stack(hits), total
