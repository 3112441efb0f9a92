"""Which layers of a network learn, from which epoch on, and how fast: patterns name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from typing import Final

from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.ir import Graph, scopes_of
from cnnc.net import Net
from cnnc.recipe import Recipe
from cnnc.wording import quoted

_LISTED: Final = 12


@dataclass(frozen=True)
class LayerGroup:
    """Layers that learn from `epoch` on, each with what the schedule's rate is multiplied by for it."""

    epoch: int
    factors: Mapping[str, float]


def group_layers(net: Net) -> tuple[LayerGroup, ...]:
    """The layers that learn, in the order in which they start; those in no group are frozen to the end.

    Raises:
        CnnError: a pattern matches no layer with weights, or what it asks for changes nothing, or nothing would learn.
    """
    graph, recipe = net.graph, net.recipe
    begins = dict.fromkeys(_with_weights(graph), 1)
    for pattern in recipe.freeze:
        for name in matching(graph, pattern, "freeze"):
            begins.pop(name, None)
    if not any(weight.trainable for name in begins for weight in graph.weights(graph[name]).values()):
        raise CnnError.of(
            "argument",
            f"all of `{graph.name}` is frozen, and nothing is left to train",
            help=f"leave its last layer out of `freeze`: {_with_weights(graph)[-1]}" if len(graph.nodes) > 1 else None,
        )
    for epoch, pattern in sorted(recipe.unfreeze, key=lambda entry: entry[0]):
        _require_epoch(epoch, pattern, recipe.epochs)
        fresh = [name for name in matching(graph, pattern, "unfreeze") if name not in begins]
        if not fresh:
            raise CnnError.of(
                "argument",
                f"`unfreeze {epoch}:{pattern}` finds nothing frozen in epoch {epoch}",
                help="what it names must be frozen first, with `freeze`",
            )
        begins.update(dict.fromkeys(fresh, epoch))
    factors = _factors(graph, recipe, begins)
    return tuple(
        LayerGroup(epoch, {name: factors.get(name, 1.0) for name, first in begins.items() if first == epoch})
        for epoch in sorted(set(begins.values()))
    )


def matching(graph: Graph, pattern: str, setting: str) -> list[str]:
    """The layers whose weights a pattern means: a name, a label or block that layers lie in, or a glob of either.

    A layer that uses another's weights stands for that other.

    Raises:
        CnnError: it matches no layer with weights.
    """
    users = [node for node in graph if node.owner in set(_with_weights(graph))]
    owners = {
        node.owner: None
        for node in users
        if any(fnmatchcase(name, pattern) for name in (node.name, *scopes_of(node.name)))
    }
    if not owners:
        names = [node.name for node in users]
        labels = list(dict.fromkeys((*scopes_of(name), name)[0] for name in names))
        listed = quoted(labels, _LISTED)
        raise CnnError.of(
            "argument",
            f"`{setting}`: `{pattern}` matches no layer with weights of `{graph.name}`",
            help=did_you_mean(pattern, [*labels, *(scope for name in names for scope in scopes_of(name)), *names])
            or f"its labels are {listed}",
        )
    return list(owners)


def describe_frozen(graph: Graph, groups: Sequence[LayerGroup]) -> list[str]:
    """The line that says how much is frozen; none where nothing is."""
    first = {name for group in groups if group.epoch == 1 for name in group.factors}
    frozen = [name for name in _with_weights(graph) if name not in first]
    if not frozen:
        return []
    return [
        f"frozen: {len(frozen)} of {len(_with_weights(graph))} layers with weights; "
        f"{_count(graph, first):,} of {graph.trainable_count:,} parameters learn"
    ]


def describe_unfreezing(graph: Graph, group: LayerGroup) -> str:
    """The line that says that a group joins."""
    layers = "1 layer more learns" if len(group.factors) == 1 else f"{len(group.factors)} layers more learn"
    return f"epoch {group.epoch}: {layers}, {_count(graph, group.factors):,} parameters"


def _factors(graph: Graph, recipe: Recipe, begins: Mapping[str, int]) -> dict[str, float]:
    """Rates over the schedule's peak. Of several patterns that name a layer the last counts."""
    factors: dict[str, float] = {}
    for pattern, rate in recipe.rates:
        if not 0 < rate < float("inf"):
            raise CnnError.of("value", f"the learning rate of `{pattern}` must be above 0, found {rate}")
        names = [name for name in matching(graph, pattern, "lr") if name in begins]
        if not names:
            raise CnnError.of(
                "argument",
                f"`lr {pattern}={rate:g}` is for what is frozen to the end",
                help="leave it out, or let the layers learn from an epoch on, with `unfreeze`",
            )
        factors.update(dict.fromkeys(names, rate / recipe.schedule.peak))
    return factors


def _require_epoch(epoch: int, pattern: str, epochs: int) -> None:
    if epoch < 2:
        raise CnnError.of(
            "value",
            f"`unfreeze {epoch}:{pattern}`: the epoch must be at least 2",
            help="what is to learn from the first epoch on is not frozen",
        )
    if epoch > epochs:
        raise CnnError.of("value", f"`unfreeze {epoch}:{pattern}`: the training ends after epoch {epochs}")


def _with_weights(graph: Graph) -> list[str]:
    return [node.name for node in graph if graph.weights(node)]


def _count(graph: Graph, names: Iterable[str]) -> int:
    return sum(prod(w.shape) for name in names for w in graph.weights(graph[name]).values() if w.trainable)
