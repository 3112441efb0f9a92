"""The optimizers of a recipe as optax transformations.

Built anew at every (traced) step around that step's learning rate, which the host computes: their states do not depend
on it, so nothing but the rate itself changes.
"""

from __future__ import annotations

import jax
import optax

from cnnc.ir import Graph
from cnnc.recipe import Adam, AdamW, Optimizer, RmsProp, Sgd

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
    raise AssertionError(optimizer)


def decay_mask(graph: Graph) -> Mask:
    """For every trainable weight whether weight decay shrinks it: kernels, not norms and biases."""
    return {
        node.name: {short: weight.decay for short, weight in weights.items() if weight.trainable}
        for node in graph
        if (weights := graph.weights(node))
    }


def _decay(rate: float, decayed: Mask) -> optax.GradientTransformation:
    return optax.add_decayed_weights(rate, decayed) if rate else optax.identity()
