"""Why a training step was no good: where the first value that is no finite number comes from.

For after the fact. The step is computed once more, with every value kept and every layer in its plain form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnc.backends.jax.apply import apply
from cnnc.backends.jax.forms.choice import PLAIN
from cnnc.backends.jax.training.optimizer import Group, whole
from cnnc.backends.jax.training.state import State, weights_of
from cnnc.backends.jax.training.step import Aim, differentiated, frozen_nodes, step_key
from cnnc.backends.jax.xla.compile import jit
from cnnc.ir import Graph
from cnnc.ops import Input
from cnnc.recipe import Recipe


@dataclass(frozen=True)
class Nonfinite:
    """The node that something not finite comes from.

    `input`: the batch holds it. `target`: what the output `node` is held to does. `value`: the node's result, or batch
    norm's new statistics. `loss`: the loss of the output `node`. `gradient`: the gradient of the node's weights.
    """

    node: str
    what: Literal["input", "target", "value", "loss", "gradient"]


def first_nonfinite(
    graph: Graph,
    recipe: Recipe,
    aims: tuple[Aim, ...],
    groups: Sequence[Group] | None,
    state: State,
    inputs: Mapping[str, Any],
    targets: tuple[Any, ...],
) -> Nonfinite | None:
    """What first goes wrong in a step from a state, or None where nothing does.

    Args:
        graph: the network.
        recipe: as the step's.
        aims: as the step's.
        groups: as the step's.
        state: what the step began with. One that the step halted is that too, as nothing else has changed in it.
        inputs: the batch, as the step took it.
        targets: likewise.
    """
    learning = whole(graph) if groups is None else tuple(groups)
    frozen = frozen_nodes(graph, learning)
    every = replace(graph, outputs=tuple((node.name, node.name) for node in graph))

    def check(state: State, inputs: Mapping[str, Array], targets: tuple[Array, ...]) -> Any:
        key = step_key(recipe, state.step - state.halted)
        values, statistics = apply(
            every, weights_of(state), inputs, train=True, key=key, precision=recipe.precision, frozen=frozen
        )
        fine = {node.name: _is_finite((values[node.name], statistics.get(node.owner, {}))) for node in graph}
        gradients, _, measured = differentiated(graph, recipe, aims, learning, PLAIN, state, inputs, targets, key)
        norms = {node: jnp.sqrt(sum(jnp.sum(g * g) for g in own.values())) for node, own in gradients.items() if own}
        return fine, [_is_finite(target) for target in targets], measured, norms

    fine, sound, measured, norms = jax.device_get(jit(check)(state, dict(inputs), targets))
    outputs = [name for _, name in graph.outputs]
    if bad := next((node for node in graph if not fine[node.name] and isinstance(node.op, Input)), None):
        return Nonfinite(bad.name, "input")
    if (place := next((i for i, is_sound in enumerate(sound) if not is_sound), None)) is not None:
        return Nonfinite(outputs[place], "target")
    if bad := next((node for node in graph if not fine[node.name]), None):
        return Nonfinite(bad.name, "value")
    if (place := next((i for i, loss in enumerate(measured.loss) if not np.isfinite(loss)), None)) is not None:
        return Nonfinite(outputs[place], "loss")
    if not np.isfinite(measured.total):
        return Nonfinite(outputs[-1], "loss")
    backwards = [node.name for node in reversed(graph.nodes) if node.name in norms]
    if name := next((name for name in backwards if not np.isfinite(norms[name])), None):
        return Nonfinite(name, "gradient")
    if not np.isfinite(measured.norm):
        # Each is finite by itself, and only the sum of their squares is not.
        return Nonfinite(max(backwards, key=lambda name: float(norms[name])), "gradient")
    return None


def _is_finite(tree: Any) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
