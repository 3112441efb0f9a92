"""A training step and an evaluation step, compiled once each.

The step owns its state: the old one is donated, so training holds one copy of the weights. Nothing in it waits for the
host; what it measures may be read whenever it is wanted. So the step itself must keep the state from a batch that makes
numbers overflow: it leaves everything as it was then, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array

from cnnc.backends.jax import loops
from cnnc.backends.jax.apply import apply
from cnnc.backends.jax.distributed.devices import ONE_DEVICE, Devices
from cnnc.backends.jax.forms.choice import PLAIN, Table, chosen
from cnnc.backends.jax.layers import Weights
from cnnc.backends.jax.training.loss import classes, losses, predictions, ranks
from cnnc.backends.jax.training.optimizer import Group, decay_mask, scaled, transformation, whole
from cnnc.backends.jax.training.state import Arrays, State, merged
from cnnc.backends.jax.training.state import averaged_of as averaged_of
from cnnc.backends.jax.training.state import first_state as first_state
from cnnc.backends.jax.training.state import thawed as thawed
from cnnc.backends.jax.training.state import weights_of as weights_of
from cnnc.backends.jax.xla.allocator import keep_freed_memory
from cnnc.backends.jax.xla.compile import jit
from cnnc.ir import Graph
from cnnc.recipe import Loss, Recipe

Inputs = Mapping[str, Array]
Targets = tuple[Array, ...]
Tree = TypeVar("Tree")


class Aim(NamedTuple):
    """What an output is held to, and whether right and wrong answers can be told."""

    loss: Loss
    classified: bool


class Measured(NamedTuple):
    """What a training step measures on its batch before it changes the weights."""

    loss: Array
    """Mean losses, `(outputs,)`, for every output in order."""
    top1: Array
    """Fractions of right answers, `(outputs,)`; 0 where there is no right and wrong."""
    total: Array
    """The weighted sum of the losses."""
    norm: Array
    """The norm of all gradients of this batch together, before they are clipped."""
    good: Array
    """Whether the loss, the norm and batch norm's new statistics are finite numbers; else the step changed nothing."""


class Scored(NamedTuple):
    """What evaluation says of every example of a batch for one output; without classes only the loss is there."""

    loss: Array
    rank: Array | None
    truth: Array | None
    predicted: Array | None


class Step(Protocol):
    """A compiled training step. The state is donated.

    With `accumulate` above 1, `update=False` only gathers the batch's gradients for an update that a later step makes.
    """

    def __call__(
        self, state: State, inputs: Mapping[str, Any], targets: tuple[Any, ...], rate: float, update: bool = True
    ) -> tuple[State, Measured]: ...


class Evaluate(Protocol):
    """A compiled evaluation of a batch: an entry for every output in order."""

    def __call__(self, weights: Weights, inputs: Mapping[str, Any], targets: tuple[Any, ...]) -> tuple[Scored, ...]: ...


def training_step(
    graph: Graph,
    recipe: Recipe,
    aims: tuple[Aim, ...],
    groups: Sequence[Group] | None = None,
    table: Table | None = None,
    devices: Devices = ONE_DEVICE,
) -> Step:
    """A compiled step `(state, inputs, targets, rate, update=True) -> (state, measured)`; the state is donated.

    `groups` are those of the state. What is in none of them is not differentiated and stays as it is. `table` says in
    which forms the layers are computed: this machine's, unless one is given. On several devices they are plain ones,
    as XLA cannot take the others apart; state and batches are placed by `devices` then.
    """
    keep_freed_memory()
    forms = PLAIN if devices.mesh else chosen() if table is None else table
    shards = devices.layout.data if recipe.batch_norm == "local" else 1
    learning = whole(graph) if groups is None else tuple(groups)

    def step(
        state: State, inputs: Inputs, targets: Targets, rate: Array, update: bool = True
    ) -> tuple[State, Measured]:
        assert update or recipe.accumulate > 1, "every step makes an update"
        key = step_key(recipe, state.step)
        gradients, statistics, measured = differentiated(
            graph, recipe, aims, learning, forms, state, inputs, targets, key, shards
        )
        changed = state._replace(statistics={**state.statistics, **statistics})
        if update:
            changed = _updated(changed, graph, recipe, learning, gradients, rate)
        else:
            gathered = jax.tree.map(jnp.add, state.gathered, gradients)
            changed = changed._replace(gathered=gathered, waiting=state.waiting + 1)
        kept = _chosen(measured.good & ~state.halted, changed, state)
        halted = state.halted | ~measured.good if recipe.on_nan == "stop" else state.halted
        kept = kept._replace(step=state.step + ~state.halted, halted=halted)
        result: tuple[State, Measured] = devices.constrain(graph, (kept, measured))
        return result

    compiled: Step = jit(step, static_argnames=("update",), donate_argnums=(0,))
    return compiled


def step_key(recipe: Recipe, step: Array) -> Array:
    """The randomness of a step: of the recipe's seed and of how many steps were taken before it."""
    return jax.random.fold_in(jax.random.key(recipe.seed), step)


def frozen_nodes(graph: Graph, groups: Sequence[Group]) -> frozenset[str]:
    """Those with weights that are in no group."""
    return frozenset(node.name for node in graph if graph.weights(node)).difference(*groups)


def differentiated(
    graph: Graph,
    recipe: Recipe,
    aims: tuple[Aim, ...],
    groups: Sequence[Group],
    table: Table,
    state: State,
    inputs: Inputs,
    targets: Targets,
    key: Array,
    shards: int = 1,
) -> tuple[Arrays, Arrays, Measured]:
    """The gradients of what is trainable, batch norm's new statistics, and what was measured."""
    frozen = frozen_nodes(graph, groups)

    def objective(trainable: Arrays) -> tuple[Array, tuple[Arrays, Array, Array]]:
        outputs, statistics = apply(
            graph,
            merged(trainable, state.statistics),
            inputs,
            train=True,
            key=key,
            precision=recipe.precision,
            logits=True,
            frozen=frozen,
            table=table,
            scan=loops.chosen(),
            remat=recipe.remat,
            shards=shards,
        )
        means, hits, total = _measure(graph, aims, outputs, targets)
        return total, (statistics, means, hits)

    (total, (statistics, means, hits)), gradients = jax.value_and_grad(objective, has_aux=True)(state.trainable)
    norm = optax.tree.norm(gradients)
    numbers = [total, norm, *(array.sum() for array in jax.tree.leaves(statistics))]
    good = jnp.isfinite(jnp.stack(numbers)).all()
    return gradients, statistics, Measured(means, hits, total, norm, good)


def evaluation_step(
    graph: Graph,
    recipe: Recipe,
    aims: tuple[Aim, ...],
    devices: Devices = ONE_DEVICE,
) -> Evaluate:
    """A compiled `(weights, inputs, targets) -> scored`, an entry for every output in order."""

    def evaluate(weights: Weights, inputs: Mapping[str, Array], targets: tuple[Array, ...]) -> tuple[Scored, ...]:
        outputs, _ = apply(graph, weights, inputs, precision=recipe.precision, logits=True, scan=loops.chosen())
        scored: tuple[Scored, ...] = devices.constrain(
            graph,
            tuple(
                _score(graph, name, aim, outputs[label], target)
                for (label, name), aim, target in zip(graph.outputs, aims, targets, strict=True)
            ),
        )
        return scored

    compiled: Evaluate = jit(evaluate)
    return compiled


def _updated(
    state: State, graph: Graph, recipe: Recipe, groups: Sequence[Group], gradients: Arrays, rate: Array
) -> State:
    """The state after an update by the mean of the gradients that wait and of these."""
    if recipe.accumulate > 1:
        count = (state.waiting + 1).astype(jnp.float32)
        gradients = jax.tree.map(lambda gathered, own: (gathered + own) / count, state.gathered, gradients)
        state = state._replace(gathered=jax.tree.map(jnp.zeros_like, gradients), waiting=jnp.zeros_like(state.waiting))
    if recipe.clip is not None:
        gradients, _ = optax.clip_by_global_norm(recipe.clip).update(gradients, optax.EmptyState())
    trainable, remembered = dict(state.trainable), []
    for group, known in zip(groups, state.optimizer, strict=True):
        mask = decay_mask(graph, group)
        own = {node: state.trainable[node] for node in mask}
        slopes = {node: gradients[node] for node in mask}
        steps, optimizer = transformation(recipe.optimizer, rate, mask).update(slopes, known, own)
        trainable.update(optax.apply_updates(own, scaled(steps, group)))
        remembered.append(optimizer)
    state = state._replace(trainable=trainable, optimizer=tuple(remembered), updates=state.updates + 1)
    return state if recipe.ema is None else state._replace(average=_averaged(state, recipe.ema))


def _averaged(state: State, decay: float) -> Arrays:
    """The moving average after an update; it follows fast at first, as TensorFlow's does with `num_updates`."""
    updates = state.updates.astype(jnp.float32)
    share = 1 - jnp.minimum(decay, (1 + updates) / (10 + updates))
    # In this form what never changes stays as it is, bit for bit.
    weights = merged(state.trainable, state.statistics)
    averaged: Arrays = jax.tree.map(lambda average, new: average - share * (average - new), state.average, weights)
    return averaged


def _chosen(condition: Array, first: Tree, second: Tree) -> Tree:
    """One of two trees, leaf by leaf."""
    chosen: Tree = jax.tree.map(lambda one, other: jnp.where(condition, one, other), first, second)
    return chosen


def _measure(
    graph: Graph, aims: tuple[Aim, ...], outputs: Mapping[str, Array], targets: Targets
) -> tuple[Array, Array, Array]:
    """The outputs' mean losses, their fractions of right answers, and the sum of the losses by their weights."""
    means, hits, total = [], [], jnp.zeros(())
    for (label, name), (loss, classified), target in zip(graph.outputs, aims, targets, strict=True):
        logits = outputs[label]
        mean = losses(loss, logits, target, graph[name].op).mean()
        total += loss.weight * mean
        means.append(mean)
        hits.append((ranks(loss, logits, target) == 0).mean() if classified else jnp.zeros(()))
    return jnp.stack(means), jnp.stack(hits), total


def _score(graph: Graph, name: str, aim: Aim, logits: Array, target: Array) -> Scored:
    each = losses(aim.loss, logits, target, graph[name].op)
    if not aim.classified:
        return Scored(each, None, None, None)
    return Scored(each, ranks(aim.loss, logits, target), classes(target, logits), predictions(aim.loss, logits))
