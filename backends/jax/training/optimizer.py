"""The optimizers of a recipe as optax transformations.

Built anew at every (traced) step around that step's learning rate, which the host computes: their states do not depend
on it, so nothing but the rate itself changes.
"""

from __future__ import annotations

from typing import Any

import jax
import optax

from cnnc.backends.protocols import ParameterGroup
from cnnc.ir import Graph
from cnnc.recipe import Adam, AdamW, Lars, Lion, Optimizer, RmsProp, Sgd

Mask = dict[str, dict[str, bool]]
Rate = jax.Array | float


def transformation(optimizer: Optimizer, rate: Rate, decayed: Mask) -> optax.GradientTransformation:
    """Gradients to steps at a learning rate; weight decay takes only what `decayed` marks.

    Args:
        optimizer: as the train section states it.
        rate: the learning rate of this step.
        decayed: for every trainable weight whether decay shrinks it (`decay_mask`).
    """
    descend = optax.scale_by_learning_rate(rate)
    match optimizer:
        case Sgd():
            trace = optax.trace(optimizer.momentum, optimizer.nesterov) if optimizer.momentum else optax.identity()
            return optax.chain(_decay(optimizer.weight_decay, decayed), trace, descend)
        case Adam():
            moments = optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.epsilon)
            return optax.chain(_decay(optimizer.weight_decay, decayed), moments, descend)
        case AdamW():
            moments = optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.epsilon)
            return optax.chain(moments, _decay(optimizer.weight_decay, decayed), descend)
        case RmsProp():
            # TensorFlow's order, which the papers trained with: the momentum gathers steps, not gradients.
            scaled = optax.scale_by_rms(optimizer.decay, optimizer.epsilon)
            trace = optax.trace(optimizer.momentum) if optimizer.momentum else optax.identity()
            return optax.chain(_decay(optimizer.weight_decay, decayed), scaled, descend, trace)
        case Lars():
            # The paper's order: the momentum gathers steps, not gradients, and each step has its own rate in it.
            trust = optax.masked(optax.scale_by_trust_ratio(trust_coefficient=optimizer.trust), decayed)
            trace = optax.trace(optimizer.momentum, optimizer.nesterov) if optimizer.momentum else optax.identity()
            return optax.chain(_decay(optimizer.weight_decay, decayed), trust, descend, trace)
        case Lion():
            sign = optax.scale_by_lion(optimizer.b1, optimizer.b2)
            return optax.chain(sign, _decay(optimizer.weight_decay, decayed), descend)
    raise AssertionError(optimizer)


def decay_mask(graph: Graph, group: ParameterGroup) -> Mask:
    """For every trainable weight of a group whether weight decay shrinks it: kernels, not norms and biases."""
    return {
        name: {short: weight.decay for short, weight in graph.weights(graph[name]).items() if weight.trainable}
        for name in group
    }


def single_group(graph: Graph) -> tuple[ParameterGroup, ...]:
    """All that has weights as one group that learns at the schedule's rate."""
    return ({node.name: 1.0 for node in graph if graph.weights(node)},)


def scale(updates: dict[str, Any], group: ParameterGroup) -> dict[str, Any]:
    """A group's steps, each node's at its own rate: every optimizer's step is proportional to the rate."""
    return {
        node: arrays if group[node] == 1.0 else {short: array * group[node] for short, array in arrays.items()}
        for node, arrays in updates.items()
    }


def _decay(rate: float, decayed: Mask) -> optax.GradientTransformation:
    return optax.add_decayed_weights(rate, decayed) if rate else optax.identity()
