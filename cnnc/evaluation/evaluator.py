"""A network's scores over a whole feed: exact, with the last batch filled up and one compilation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.protocols import Array, Criterion, Devices, ExampleScores, load_training
from cnnc.data.feeding.batches import Batch, evaluation_batches, prefetch
from cnnc.data.feeding.feed import Feed
from cnnc.data.pictures.decode import undecodable
from cnnc.ir import Graph
from cnnc.net import Weights
from cnnc.recipe import Loss, Recipe
from cnnc.runs.interrupt import StopRequest
from cnnc.runs.metrics import Outcome, Scores, gather, score

Evaluate = Callable[[Weights, Feed], tuple[Scores, ...]]


def evaluator(
    graph: Graph,
    recipe: Recipe,
    losses: tuple[Loss, ...],
    classified: tuple[bool, ...],
    batch: int,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    devices: Devices | None = None,
) -> Evaluate:
    """A function from weights and a feed to the scores of every output; it may be called after every epoch.

    It raises StopRequest as soon as `should_stop` says so. On several `devices` (of the JAX backend) weights lie on
    them, and the feed has this process's shard; all processes come to the scores of all examples.
    """
    backend = load_training()
    mesh = devices or backend.ONE_DEVICE
    criteria = tuple(Criterion(*each) for each in zip(losses, classified, strict=True))
    step = backend.evaluation_step(graph, recipe, criteria, mesh)
    classes = [graph[node].shape[-1] if graph[node].shape[-1] > 1 else 2 for _, node in graph.outputs]

    def evaluate(weights: Weights, feed: Feed) -> tuple[Scores, ...]:
        parts: list[tuple[Outcome, ...]] = []
        for item in prefetch(evaluation_batches(feed, batch)):
            if should_stop():
                raise StopRequest
            inputs, targets, valid = mesh.place_batch((named_inputs(graph, item), item.targets, item.valid))
            scores, valid = step(weights, inputs, targets), np.asarray(mesh.whole(valid))
            parts.append(tuple(_outcome(output, valid) for output in scores))
        outcomes = [gather([part[i] for part in parts]) for i in range(len(losses))]
        if not len(outcomes[0].losses):
            raise undecodable(len(feed))
        return tuple(score(outcome, count) for outcome, count in zip(outcomes, classes, strict=True))

    return evaluate


def named_inputs(graph: Graph, batch: Batch) -> dict[str, Array]:
    """A batch's arrays by the names of the graph's inputs."""
    return {node.name: array for node, array in zip(graph.inputs, batch.inputs, strict=True)}


def _outcome(scores: ExampleScores, valid: NDArray[np.bool_]) -> Outcome:
    """The scores of the examples that count."""
    if scores.rank is None or scores.truth is None or scores.predicted is None:
        return Outcome(np.asarray(scores.loss)[valid], None, None, None)
    return Outcome(*(np.asarray(array)[valid] for array in (scores.loss, scores.rank, scores.truth, scores.predicted)))
