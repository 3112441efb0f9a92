"""Merge what a sum adds up of one input, convolutions, batch norms and that input itself, into one convolution.

(K x + a) + (L x + b) + x = (K + L + 1) x + (a + b), as RepVGG does (Ding et al. 2021, section 3.3) and MobileOne, whose
branches are there to be trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from numpy.typing import DTypeLike

from cnnc import ops
from cnnc.ir import Node
from cnnc.ir.model import Model
from cnnc.passes.convolution import Convolution, convolution_of, identity, total, written_as
from cnnc.passes.edit import Draft


@dataclass(frozen=True, eq=False)
class _Terms:
    """Nodes that a sum reads, the one with most work first, as a single convolution of `source`."""

    nodes: tuple[Node, ...]
    source: Node
    convolution: Convolution


def merge_branches(model: Model) -> Model:
    """Merge the terms of every `add` that are convolutions of one input, where that is no more work.

    The one with most work keeps its name. A term that something else reads as well stays as it is.
    """
    draft = Draft(model)
    for node in model.graph:
        if isinstance(node.op, ops.Add) and 2 <= len(node.shape) <= 4:
            _merge(draft, draft.node(node.name))
    return draft.finish()


def _merge(draft: Draft, add: Node) -> None:
    nodes = (draft.node(name) for name in add.inputs)
    terms = [_term(draft, node) for node in nodes if node.shape == add.shape]
    kept = list(add.inputs)
    for merged in _together(sorted(terms, key=lambda term: -term.convolution.macs)):
        main, *others = merged.nodes
        if others:
            draft.put(*written_as(merged.convolution, main, merged.source.shape, _precision(draft, main)))
        for other in others:
            kept.remove(other.name)
            if other.name != merged.source.name:
                draft.drop(other)
    if len(kept) == 1:
        draft.bypass(add, draft.node(kept[0]))
    elif len(kept) < len(add.inputs):
        draft.put(replace(add, inputs=tuple(kept)))


def _term(draft: Draft, node: Node) -> _Terms:
    if len(node.inputs) == 1 and draft.has_one_reader(node):
        source = draft.node(node.inputs[0])
        convolution = convolution_of(node, source.shape, draft.weights(node))
        if convolution is not None:
            return _Terms((node,), source, convolution)
    return _Terms((node,), node, identity(node.shape))


def _together(terms: Sequence[_Terms]) -> list[_Terms]:
    """The terms, those of one source as one where their sum is no more work."""
    merged: list[_Terms] = []
    for term in terms:
        for i, other in enumerate(merged):
            both = total(other.convolution, term.convolution) if other.source.name == term.source.name else None
            if both is not None:
                merged[i] = _Terms((*other.nodes, *term.nodes), other.source, both)
                break
        else:
            merged.append(term)
    return merged


def _precision(draft: Draft, node: Node) -> DTypeLike:
    return next(iter(draft.weights(node).values())).dtype
