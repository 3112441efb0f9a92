"""A training step and an evaluation step, compiled once each.

The step owns its state: the old one is donated, so training holds one copy of the weights. Nothing in it waits for the
host; what it measures may be read whenever it is wanted. So the step itself must keep the state from a batch that makes
numbers overflow: it leaves everything as it was then, bit for bit.
"""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array

from cnnc.backends.jax import loops
from cnnc.backends.jax.apply import apply
from cnnc.backends.jax.distributed.devices import ONE_DEVICE, Devices
from cnnc.backends.jax.forms.choice import PLAIN, Table, chosen
from cnnc.backends.jax.layers import Weights
from cnnc.backends.jax.training.gradients import Inputs, Objective, Targets, differentiate, step_key
from cnnc.backends.jax.training.optimizer import decay_mask, scale, single_group, transformation
from cnnc.backends.jax.training.state import Arrays, State
from cnnc.backends.jax.xla.allocator import keep_freed_memory
from cnnc.backends.jax.xla.compile import jit
from cnnc.backends.protocols import Criteria, EvaluationStep, Groups, Measurement, TrainingStep
from cnnc.ir import Graph
from cnnc.recipe import Recipe

Tree = TypeVar("Tree")


def training_step(
    graph: Graph,
    recipe: Recipe,
    criteria: Criteria,
    groups: Groups = None,
    table: Table | None = None,
    devices: Devices = ONE_DEVICE,
) -> TrainingStep[State]:
    """A compiled step `(state, inputs, targets, rate, update=True) -> (state, measurement)`; the state is donated.

    `groups` are those of the state. What is in none of them is not differentiated and stays as it is. `table` says in
    which forms the layers are computed: this machine's, unless one is given. On several devices they are plain ones,
    as XLA cannot take the others apart; state and batches are placed by `devices` then.
    """
    keep_freed_memory()
    forms = PLAIN if devices.mesh else chosen() if table is None else table
    shards = devices.layout.data if recipe.batch_norm == "local" else 1
    learning = single_group(graph) if groups is None else tuple(groups)
    objective = Objective(graph, recipe, criteria, learning, forms, shards)

    def step(
        state: State, inputs: Inputs, targets: Targets, rate: Array, update: bool = True
    ) -> tuple[State, Measurement[Array]]:
        assert update or recipe.accumulate > 1, "every step makes an update"
        key = step_key(recipe, state.step)
        gradients, statistics, measurement = differentiate(objective, state, inputs, targets, key)
        changed = state._replace(statistics={**state.statistics, **statistics})
        changed = _update(changed, objective, gradients, rate) if update else _gather(changed, gradients)
        kept = _select(measurement.good & ~state.halted, changed, state)
        halted = state.halted | ~measurement.good if recipe.on_nan == "stop" else state.halted
        kept = kept._replace(step=state.step + ~state.halted, halted=halted)
        result: tuple[State, Measurement[Array]] = devices.constrain(graph, (kept, measurement))
        return result

    compiled: TrainingStep[State] = jit(step, static_argnames=("update",), donate_argnums=(0,))
    return compiled


def evaluation_step(graph: Graph, recipe: Recipe, devices: Devices = ONE_DEVICE) -> EvaluationStep:
    """A compiled `(weights, inputs) -> values` of every output in order, before a last softmax or sigmoid."""

    def evaluate(weights: Weights, inputs: Inputs) -> tuple[Array, ...]:
        outputs, _ = apply(graph, weights, inputs, precision=recipe.precision, logits=True, scan=loops.chosen())
        values: tuple[Array, ...] = devices.constrain(graph, tuple(outputs[label] for label, _ in graph.outputs))
        return values

    compiled: EvaluationStep = jit(evaluate)
    return compiled


def _gather(state: State, gradients: Arrays) -> State:
    """The state with gradients more that wait for an update."""
    gathered = jax.tree.map(jnp.add, state.gathered, gradients)
    return state._replace(gathered=gathered, waiting=state.waiting + 1)


def _update(state: State, objective: Objective, gradients: Arrays, rate: Array) -> State:
    """The state after an update by the mean of the gradients that wait and of these."""
    recipe = objective.recipe
    if recipe.accumulate > 1:
        count = (state.waiting + 1).astype(jnp.float32)
        gradients = jax.tree.map(lambda gathered, own: (gathered + own) / count, state.gathered, gradients)
        state = state._replace(gathered=jax.tree.map(jnp.zeros_like, gradients), waiting=jnp.zeros_like(state.waiting))
    if recipe.clip is not None:
        gradients, _ = optax.clip_by_global_norm(recipe.clip).update(gradients, optax.EmptyState())
    trainable, remembered = dict(state.trainable), []
    for group, known in zip(objective.groups, state.optimizer, strict=True):
        mask = decay_mask(objective.graph, group)
        own = {node: state.trainable[node] for node in mask}
        slopes = {node: gradients[node] for node in mask}
        steps, optimizer = transformation(recipe.optimizer, rate, mask).update(slopes, known, own)
        trainable.update(optax.apply_updates(own, scale(steps, group)))
        remembered.append(optimizer)
    state = state._replace(trainable=trainable, optimizer=tuple(remembered), updates=state.updates + 1)
    return state if recipe.ema is None else state._replace(average=_average(state, recipe.ema))


def _average(state: State, decay: float) -> Arrays:
    """The moving average after an update; it follows fast at first, as TensorFlow's does with `num_updates`."""
    updates = state.updates.astype(jnp.float32)
    share = 1 - jnp.minimum(decay, (1 + updates) / (10 + updates))
    # In this form what never changes stays as it is, bit for bit.
    averaged: Arrays = jax.tree.map(
        lambda average, new: average - share * (average - new), state.average, state.weights
    )
    return averaged


def _select(condition: Array, first: Tree, second: Tree) -> Tree:
    """One of two trees, leaf by leaf."""
    chosen: Tree = jax.tree.map(lambda one, other: jnp.where(condition, one, other), first, second)
    return chosen
