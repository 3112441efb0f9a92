"""Random weights under which a network behaves like a trained one: no layer dies out or blows up.

First weights have batch norms of mean 0 and variance 1, which says nothing of the values that reach them: in a deep
network these grow or vanish by a factor a layer. Here every batch norm gets the mean and variance of one random sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from zlib import crc32

import numpy as np

from cnnc import ops
from cnnc.backends.tflite.litert.execute import execute
from cnnc.backends.tflite.lowering.graph import lower
from cnnc.ir import Graph
from cnnc.ir.initializers import draw
from cnnc.ir.model import Model
from cnnc.ir.pixels import takes_pixels
from cnnc.passes.drop_identities import drop_identities
from cnnc.passes.unshare import unshare
from cnnc.tflite_file.program import Array

_LEAST_VARIANCE: Final = 1e-3
_LEAST_SHARE: Final = 0.05
"""Of the squared mean, that a variance has at least: a channel of one value, as after a global pool, has none."""


def random_weights(graph: Graph, seed: int, sample: Mapping[str, Array] | None = None) -> dict[str, dict[str, Array]]:
    """Float32 arrays for every node that owns weights: no gamma near zero, statistics near the values' own.

    `sample` is what these values are made of, an array `(1, ...)` for every input; a random one, if it is not given.
    """
    weights = {
        node.name: {short: _draw(short, weight, seed, f"{node.name}.{short}") for short, weight in own.items()}
        for node in graph
        if (own := graph.weights(node))
    }
    norms = [node.name for node in graph if isinstance(node.op, ops.BatchNorm) and not node.weights_of]
    if norms:
        drawn = random_sample(graph, seed) if sample is None else sample
        for name, statistics in _statistics(graph, weights, norms, drawn).items():
            weights[name].update(statistics)
    return weights


def random_sample(graph: Graph, seed: int) -> dict[str, Array]:
    """An array `(1, ...)` for every input: bytes for pictures and films, indices for embeddings, else normal values.

    Their mean and deviation are those of the normalisation that reads them, or else 0 and 1.
    """
    rng = np.random.default_rng([seed, 7])
    found: dict[str, Array] = {}
    for node in graph.inputs:
        shape = (1, *node.shape)
        if isinstance(node.op, ops.Input) and node.op.dtype == "int":
            limits = [r.op.vocabulary for r in graph.consumers[node.name] if isinstance(r.op, ops.Embedding)]
            found[node.name] = rng.integers(0, min(limits, default=2), shape).astype(np.int32)
        elif len(node.shape) in (3, 4) and takes_pixels(graph, node.name):
            # Patches of colour with noise: a picture's neighbours are alike, and its regions are not.
            rough = rng.integers(0, 256, (1, *(-(-size // 8) for size in node.shape[:-1]), node.shape[-1]))
            for axis, size in enumerate(node.shape[:-1], start=1):
                rough = rough.repeat(8, axis).take(range(size), axis)
            found[node.name] = np.clip(rough + rng.normal(0, 20, shape), 0, 255).astype(np.uint8)
        else:
            mean, std = _expected(graph, node.name)
            found[node.name] = (mean + std * rng.standard_normal(shape)).astype(np.float32)
    return found


def _expected(graph: Graph, name: str) -> tuple[Array, Array]:
    """The mean and deviation of the normalisation that reads an input, and 0 and 1 where there is none."""
    for reader in graph.consumers[name]:
        if isinstance(reader.op, ops.Normalize):
            return np.array(reader.op.mean), np.array(reader.op.std)
    return np.zeros(1), np.ones(1)


def _draw(short: str, weight: ops.Weight, seed: int, name: str) -> Array:
    rng = np.random.default_rng([seed, crc32(name.encode())])
    match short:
        case "gamma":
            return rng.uniform(0.5, 1.5, weight.shape).astype(np.float32)
        case "beta" | "bias":
            return rng.normal(0, 0.1, weight.shape).astype(np.float32)
    return draw(weight, seed, name)


def _statistics(
    graph: Graph, weights: Mapping[str, Mapping[str, Array]], norms: list[str], sample: Mapping[str, Array]
) -> dict[str, dict[str, Array]]:
    """Means and variances of what reaches each batch norm, those before it normalising by their own.

    A batch norm over one sample is a group norm of as many groups as channels.
    """
    nodes = tuple(replace(node, op=_own_norm(node.op, node.shape[-1])) for node in graph)
    model = drop_identities(unshare(Model(replace(graph, nodes=nodes), weights)))
    program = lower(model).program
    wanted = {f"{name}:standard:{part}": (name, part) for name in norms for part in ("mean", "variance")}
    outputs = tuple(wanted)
    found: dict[str, dict[str, Array]] = {}
    inputs = {name: array.astype(program[name].dtype) for name, array in sample.items()}
    with execute(replace(program, outputs=outputs, output_names=outputs)) as run:
        for tensor, values in run(inputs).items():
            name, part = wanted[tensor]
            found.setdefault(name, {})[part] = np.array(values, np.float32).reshape(-1)
    for statistics in found.values():
        least = _LEAST_VARIANCE + _LEAST_SHARE * statistics["mean"] ** 2
        statistics["variance"] = np.maximum(statistics["variance"], least)
    return found


def _own_norm(op: ops.Op, channels: int) -> ops.Op:
    if not isinstance(op, ops.BatchNorm):
        return op
    return ops.GroupNorm(groups=channels, epsilon=op.epsilon, scale=op.scale, center=op.center)
