"""A network and a data set made ready to train on each other: what fits, what is left out, what the first weights are."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cnnc import backends
from cnnc.data.feed import Feed, prepare
from cnnc.data.sources import DataSet
from cnnc.net import Net
from cnnc.recipe import Loss, Recipe
from cnnc.training.evaluation import Weights
from cnnc.training.first import first_weights
from cnnc.training.learning import Group, in_words, learning_groups
from cnnc.training.objective import classified, output_losses, require_classes, require_targets


@dataclass(frozen=True, eq=False)
class Ready:
    """All that a step wants. `notes` is what the user should know of it."""

    losses: tuple[Loss, ...]
    classified: tuple[bool, ...]
    train: Feed
    first: Weights
    groups: tuple[Group, ...]
    batch: int
    notes: tuple[str, ...]


def ready(
    net: Net,
    recipe: Recipe,
    data_set: DataSet,
    *,
    weights: str | os.PathLike[str] | Weights | None = None,
    skip_corrupt: bool = False,
    workers: int | None = None,
) -> Ready:
    """The data set's training part and the network's first weights, which are `weights` or the recipe's where they fit.

    Raises:
        CnnError: the data does not fit the network, or the weights do not.
    """
    groups = learning_groups(net.graph, recipe)
    first: Weights = backends.load("jax", "init").initialize(net.graph, recipe.seed)
    notes = in_words(net.graph, groups)
    given = recipe.weights if weights is None else weights
    if given is not None:
        first, told = first_weights(net.graph, os.fspath(given) if isinstance(given, os.PathLike) else given, first)
        notes = [*told, *notes]
    losses = output_losses(net, recipe)
    require_classes(net, losses, data_set.classes)
    feed = prepare(
        data_set.train,
        [node.shape for node in net.graph.inputs],
        augment=recipe.augment,
        seed=recipe.seed,
        skip_corrupt=skip_corrupt,
        widths=[net.graph[node].shape[-1] for _, node in net.graph.outputs],
        workers=workers,
    )
    require_targets(net, losses, feed)
    return Ready(
        losses,
        classified(net, losses, feed),
        feed,
        first,
        groups,
        min(recipe.batch, len(feed)),
        (*data_set.notes, *notes),
    )
