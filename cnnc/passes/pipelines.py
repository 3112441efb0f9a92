"""Runs passes until none changes anything, each held to `verify_model`; and the pipelines, which are plain lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from cnnc.ir import Node
from cnnc.ir.model import Model, Pass
from cnnc.passes.drop_dead import drop_dead
from cnnc.passes.drop_identities import drop_identities
from cnnc.passes.fold_batch_norm import fold_batch_norm, fold_batch_norm_forward
from cnnc.passes.fold_bgr import fold_bgr
from cnnc.passes.fold_normalize import (
    fold_channel_normalize_mean,
    fold_channel_normalize_scale,
    fold_normalize_mean,
    fold_normalize_scale,
)
from cnnc.passes.merge_branches import merge_branches
from cnnc.passes.merge_convolutions import merge_convolutions
from cnnc.passes.merge_pad import merge_pad
from cnnc.passes.prefer_same import prefer_same
from cnnc.passes.unshare import unshare
from cnnc.passes.verify import verify_model

_LINEAR: Final[tuple[Pass, ...]] = (
    drop_dead,
    drop_identities,
    fold_batch_norm,
    merge_pad,
    fold_batch_norm_forward,
    merge_convolutions,
    merge_branches,
    fold_bgr,
)

INFERENCE: Final[tuple[Pass, ...]] = (*_LINEAR, fold_normalize_scale, fold_normalize_mean, prefer_same)
"""All that a network for floating point does without."""

INFERENCE_INT8: Final[tuple[Pass, ...]] = (
    *_LINEAR,
    fold_channel_normalize_scale,
    fold_channel_normalize_mean,
    prefer_same,
)
"""The same, but for the normalisations that the quantisation of an input absorbs."""

Trace = Callable[[str, Model, Model], None]
"""Told of every pass that changed something: its name, and the model before and after."""


@dataclass(frozen=True)
class Change:
    """The effect of a pass: the nodes that it removed, and those that it gave another operator, input or weight."""

    name: str
    removed: tuple[Node, ...]
    changed: tuple[Node, ...]

    def __str__(self) -> str:
        parts = (("removed", self.removed), ("changed", self.changed))
        done = [f"{verb} {_counted(nodes)}" for verb, nodes in parts if nodes]
        return f"{self.name}: {'; '.join(done) or 'nothing'}"


def run(model: Model, passes: Iterable[Pass], *, trace: Trace | None = None) -> Model:
    """The model after all passes, in order, and again until none changes it: one makes room for another.

    What each gives must hold: `verify_model` asserts it. Passes see no shared weights: every node gets its own before
    the first.
    """
    verify_model(model)
    model, passes, before = unshare(model), tuple(passes), None
    while model is not before:
        before = model
        for each in passes:
            after = each(model)
            if after is not model:
                verify_model(after)
                if trace is not None:
                    trace(each.__name__, model, after)
            model = after
    return model


def describe(name: str, before: Model, after: Model) -> Change:
    """The effect of the pass `name` between two models."""
    kept = after.graph.by_name
    removed = tuple(node for node in before.graph if node.name not in kept)
    changed = tuple(
        node
        for node in after.graph
        if node != before.graph.by_name.get(node.name)
        or before.weights.get(node.name) is not after.weights.get(node.name)
    )
    return Change(name, removed, changed)


def _counted(nodes: Iterable[Node]) -> str:
    """`53 bn, 2 dropout`."""
    counts = Counter(node.op.name for node in nodes)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
