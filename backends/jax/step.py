"""A training step and an evaluation step, compiled once each.

The step owns its state: the old one is donated, so training holds one copy of the weights. Nothing in it waits for the
host; the losses that it returns may be read whenever they are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from cnnc.backends.jax.apply import Weights, apply
from cnnc.backends.jax.choice import Table, chosen
from cnnc.backends.jax.compile import jit
from cnnc.backends.jax.loss import classes, losses, predictions, ranks
from cnnc.backends.jax.memory import keep_freed_memory
from cnnc.backends.jax.optimizer import Group, decay_mask, scaled, transformation, whole
from cnnc.ir import Graph
from cnnc.recipe import Loss, Recipe


class Aim(NamedTuple):
    """What an output is held to, and whether right and wrong answers can be told."""

    loss: Loss
    classified: bool


class State(NamedTuple):
    """All that a step changes. `statistics` holds what is frozen too, `optimizer` what it remembers of every group."""

    trainable: dict[str, dict[str, Array]]
    statistics: dict[str, dict[str, Array]]
    optimizer: tuple[Any, ...]
    step: Array


class Measured(NamedTuple):
    """What a training step measures on its batch before it changes the weights, for every output in order."""

    loss: Array
    """Mean losses, `(outputs,)`."""
    top1: Array
    """Fractions of right answers, `(outputs,)`; 0 where there is no right and wrong."""
    total: Array
    """The weighted sum of the losses."""


class Scored(NamedTuple):
    """What evaluation says of every example of a batch for one output; without classes only the loss is there."""

    loss: Array
    rank: Array | None
    truth: Array | None
    predicted: Array | None


Step = Callable[[State, Mapping[str, Any], tuple[Any, ...], float], tuple[State, Measured]]
Evaluate = Callable[[Weights, Mapping[str, Any], tuple[Any, ...]], tuple[Scored, ...]]


def first_state(graph: Graph, recipe: Recipe, weights: Weights, groups: Sequence[Group] | None = None) -> State:
    """The state before the first step. The weights are copied, as the first step gives the state's arrays away.

    Args:
        graph: the network.
        recipe: how it trains.
        weights: its first weights.
        groups: what learns, all if None; what is in none of them is frozen.
    """
    copied = jax.tree.map(jnp.array, {node: dict(arrays) for node, arrays in weights.items()})
    state = State({node: {} for node in copied}, copied, (), jnp.zeros((), jnp.int32))
    for group in whole(graph) if groups is None else groups:
        state = thawed(state, graph, recipe, group)
    return state


def thawed(state: State, graph: Graph, recipe: Recipe, group: Group) -> State:
    """The state with a group more that learns. The optimizer starts on it anew, and keeps what it knows of the others.

    So a group that joins late takes its first steps as at the start of a training: Adam's correction counts from there.
    """
    mask = decay_mask(graph, group)
    moved = {node: {short: state.statistics[node][short] for short in shorts} for node, shorts in mask.items()}
    trainable = {node: moved.get(node, arrays) for node, arrays in state.trainable.items()}
    rest = {
        node: {short: array for short, array in arrays.items() if short not in mask.get(node, {})}
        for node, arrays in state.statistics.items()
    }
    statistics = {node: arrays for node, arrays in rest.items() if arrays}
    optimizer = transformation(recipe.optimizer, 0.0, mask).init(moved)
    return State(trainable, statistics, (*state.optimizer, optimizer), state.step)


def weights_of(state: State) -> dict[str, dict[str, Array]]:
    """The weights, trainable and not, as `apply` takes them."""
    return _merged(state.trainable, state.statistics)


def training_step(
    graph: Graph,
    recipe: Recipe,
    aims: tuple[Aim, ...],
    groups: Sequence[Group] | None = None,
    table: Table | None = None,
) -> Step:
    """A compiled step `(state, inputs, targets, rate) -> (state, measured)`; the state is donated.

    `groups` are those of the state. What is in none of them is not differentiated and stays as it is. `table` says in
    which forms the layers are computed: this machine's, unless one is given.
    """
    keep_freed_memory()
    forms = chosen() if table is None else table
    learning = whole(graph) if groups is None else tuple(groups)
    masks = [decay_mask(graph, group) for group in learning]
    frozen = frozenset(node.name for node in graph if graph.weights(node)).difference(*learning)
    seed = recipe.seed

    def step(
        state: State, inputs: Mapping[str, Array], targets: tuple[Array, ...], rate: Array
    ) -> tuple[State, Measured]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def objective(trainable: Any) -> tuple[Array, tuple[Any, Measured]]:
            outputs, statistics = apply(
                graph,
                _merged(trainable, state.statistics),
                inputs,
                train=True,
                key=key,
                precision=recipe.precision,
                logits=True,
                frozen=frozen,
                table=forms,
            )
            measured = _measure(graph, aims, outputs, targets)
            return measured.total, (statistics, measured)

        gradients, (statistics, measured) = jax.grad(objective, has_aux=True)(state.trainable)
        trainable, remembered = dict(state.trainable), []
        for group, mask, known in zip(learning, masks, state.optimizer, strict=True):
            own = {node: state.trainable[node] for node in mask}
            slopes = {node: gradients[node] for node in mask}
            updates, optimizer = transformation(recipe.optimizer, rate, mask).update(slopes, known, own)
            trainable.update(optax.apply_updates(own, scaled(updates, group)))
            remembered.append(optimizer)
        changed = State(trainable, {**state.statistics, **statistics}, tuple(remembered), state.step + 1)
        return changed, measured

    compiled: Step = jit(step, donate_argnums=(0,))
    return compiled


def evaluation_step(graph: Graph, recipe: Recipe, aims: tuple[Aim, ...]) -> Evaluate:
    """A compiled `(weights, inputs, targets) -> scored`, an entry for every output in order."""

    def evaluate(weights: Weights, inputs: Mapping[str, Array], targets: tuple[Array, ...]) -> tuple[Scored, ...]:
        outputs, _ = apply(graph, weights, inputs, precision=recipe.precision, logits=True)
        return tuple(
            _score(graph, name, aim, outputs[label], target)
            for (label, name), aim, target in zip(graph.outputs, aims, targets, strict=True)
        )

    compiled: Evaluate = jit(evaluate)
    return compiled


def _measure(graph: Graph, aims: tuple[Aim, ...], outputs: Mapping[str, Array], targets: tuple[Array, ...]) -> Measured:
    means, hits, total = [], [], jnp.zeros(())
    for (label, name), (loss, classified), target in zip(graph.outputs, aims, targets, strict=True):
        logits = outputs[label]
        mean = losses(loss, logits, target, graph[name].op).mean()
        total += loss.weight * mean
        means.append(mean)
        hits.append((ranks(loss, logits, target) == 0).mean() if classified else jnp.zeros(()))
    return Measured(jnp.stack(means), jnp.stack(hits), total)


def _score(graph: Graph, name: str, aim: Aim, logits: Array, target: Array) -> Scored:
    each = losses(aim.loss, logits, target, graph[name].op)
    if not aim.classified:
        return Scored(each, None, None, None)
    return Scored(each, ranks(aim.loss, logits, target), classes(target, logits), predictions(aim.loss, logits))


def _merged(
    trainable: Mapping[str, Mapping[str, Array]], statistics: Mapping[str, Mapping[str, Array]]
) -> dict[str, dict[str, Array]]:
    return {node: {**arrays, **statistics.get(node, {})} for node, arrays in trainable.items()}
