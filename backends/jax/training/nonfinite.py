"""Why a training step was no good: where the first value that is no finite number comes from.

For after the fact. The step is computed once more, with every value kept and every layer in its plain form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from cnnc.backends import protocols
from cnnc.backends.jax.apply import apply
from cnnc.backends.jax.training.gradients import Inputs, Objective, Targets, differentiate, step_key
from cnnc.backends.jax.training.optimizer import single_group
from cnnc.backends.jax.training.state import State
from cnnc.backends.jax.xla.compile import jit
from cnnc.backends.protocols import Criteria, Groups, Measurement, Nonfinite
from cnnc.ir import Graph
from cnnc.ops import Input
from cnnc.recipe import Recipe


def first_nonfinite(
    graph: Graph,
    recipe: Recipe,
    criteria: Criteria,
    groups: Groups,
    state: State,
    inputs: protocols.Inputs,
    targets: protocols.Targets,
) -> Nonfinite | None:
    """The first value that is not finite in a step from a state, or None where all are.

    The arguments are the step's. A state that the step halted will do, as nothing else has changed in it.
    """
    objective = Objective(graph, recipe, criteria, single_group(graph) if groups is None else tuple(groups))
    every = replace(graph, outputs=tuple((node.name, node.name) for node in graph))

    def check(state: State, inputs: Inputs, targets: Targets) -> tuple[Any, ...]:
        key = step_key(recipe, state.step - state.halted)
        values, statistics = apply(
            every, state.weights, inputs, train=True, key=key, precision=recipe.precision, frozen=objective.frozen
        )
        fine = {node.name: _is_finite((values[node.name], statistics.get(node.owner, {}))) for node in graph}
        gradients, _, measurement = differentiate(objective, state, inputs, targets, key)
        norms = {node: jnp.sqrt(sum(jnp.sum(g * g) for g in own.values())) for node, own in gradients.items() if own}
        return fine, [_is_finite(target) for target in targets], measurement, norms

    fine, sound, measurement, norms = jax.device_get(jit(check)(state, dict(inputs), targets))
    outputs = [name for _, name in graph.outputs]
    if bad := next((node for node in graph if not fine[node.name] and isinstance(node.op, Input)), None):
        return Nonfinite(bad.name, "input")
    if output := next((name for name, is_sound in zip(outputs, sound, strict=True) if not is_sound), None):
        return Nonfinite(output, "target")
    if bad := next((node for node in graph if not fine[node.name]), None):
        return Nonfinite(bad.name, "value")
    return _nonfinite_loss(measurement, outputs) or _nonfinite_gradient(graph, measurement, norms)


def _nonfinite_loss(measurement: Measurement[Any], outputs: Sequence[str]) -> Nonfinite | None:
    """The output whose loss is not finite; where each is and only their sum is not, the last."""
    losses: NDArray[np.float32] = measurement.loss
    bad = next((name for name, loss in zip(outputs, losses, strict=True) if not np.isfinite(loss)), None)
    if bad is None and not np.isfinite(measurement.total):
        bad = outputs[-1]
    return None if bad is None else Nonfinite(bad, "loss")


def _nonfinite_gradient(graph: Graph, measurement: Measurement[Any], norms: Mapping[str, float]) -> Nonfinite | None:
    """The node nearest to the output whose weights' gradient is not finite."""
    backwards = [node.name for node in reversed(graph.nodes) if node.name in norms]
    bad = next((name for name in backwards if not np.isfinite(norms[name])), None)
    if bad is None and not np.isfinite(measurement.norm):
        # Each is finite by itself, and only the sum of their squares is not.
        bad = max(backwards, key=lambda name: float(norms[name]))
    return None if bad is None else Nonfinite(bad, "gradient")


def _is_finite(tree: Any) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
